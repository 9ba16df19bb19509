"""Cross entropy with integer or soft labels, computed in float32, or in float64 where the logits are float64.

With weights of classes, and as focal loss, it is always computed in float32.
"""

from collections.abc import Callable

import numpy as np
import paddle
import paddle.nn.functional as F

Loss = Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor]

MIN_FOCAL = 1e-6  # about the resolution of 1 - p in float32


def cross_entropy(smoothing: float = 0.0, *, class_weights: np.ndarray | None = None, focal_gamma: float = 0.0) -> Loss:
    """Create the loss function (logits [B, C], labels) -> mean over the batch, a scalar.

    Integer labels [B] are smoothed here: (1 - s) * nll + s * mean(-log p). Soft labels [B, C] float32 (mixup, cutmix)
    are used as they are: mixup has smoothed them. Labels must lie in [0, C). Paddle ignores the label -100 without an
    error, so the labels are checked where the lists of images are read.

    With weights, the loss of an image is multiplied by the weight of its class; of a mixed image, by the mean of the
    weights that its label has before smoothing. The mean is over the images of the batch, not over their weights:
    otherwise the gradient would depend on how a step is divided into micro-batches and ranks.

    Args:
        smoothing: label smoothing s, also of the soft labels.
        class_weights: weight of each class, [C] float32; None weighs all images equally.
        focal_gamma: each term -t log p of the cross entropy is multiplied by (1 - p)**gamma (Lin et al., Focal Loss for
            Dense Object Detection, 2017, equation 4; here for smoothed and mixed labels t too); 0 is cross entropy.
    """
    if class_weights is not None or focal_gamma:
        return _weighted_focal_loss(smoothing, class_weights, focal_gamma)

    def loss(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        logits = logits if logits.dtype == paddle.float64 else logits.astype("float32")  # alignment runs in float64
        if labels.ndim == 2:
            return F.cross_entropy(logits, labels, soft_label=True)
        nll = F.cross_entropy(logits, labels)
        return nll if smoothing == 0 else (1 - smoothing) * nll - smoothing * F.log_softmax(logits).mean()

    return loss


def _weighted_focal_loss(smoothing: float, class_weights: np.ndarray | None, gamma: float) -> Loss:
    def loss(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        log_p = F.log_softmax(logits.astype("float32"))
        num_classes = log_p.shape[1]
        if labels.ndim == 1:
            own = F.one_hot(labels, num_classes)
            soft = own * (1 - smoothing) + smoothing / num_classes
        else:
            own = labels if smoothing == 1 else (labels - smoothing / num_classes) / (1 - smoothing)
            soft = labels
        # At p = 1 the derivative of (1 - p)**gamma is infinite for a gamma below 1.
        focus = paddle.clip(1 - log_p.exp(), min=MIN_FOCAL) ** gamma if gamma else 1.0
        losses = -(soft * focus * log_p).sum(axis=1)  # [B]
        if class_weights is not None:
            losses *= own @ paddle.to_tensor(class_weights, dtype="float32")
        return losses.mean()

    return loss


def losses_by_sample(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Compute the cross entropy of every sample: logits [B, C], labels int64 [B] -> float32 [B]."""
    return F.cross_entropy(logits.astype("float32"), labels, reduction="none").reshape([-1])
