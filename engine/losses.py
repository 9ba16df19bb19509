"""Cross entropy with integer or soft labels, computed in float32, or in float64 where the logits are float64."""

from collections.abc import Callable

import paddle
import paddle.nn.functional as F

Loss = Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor]


def cross_entropy(smoothing: float = 0.0) -> Loss:
    """Create the loss function (logits [B, C], labels) -> mean over the batch, a scalar.

    Integer labels [B] are smoothed here: (1 - s) * nll + s * mean(-log p). Soft labels [B, C] float32 (mixup, cutmix)
    are used as they are: mixup has smoothed them. Labels must lie in [0, C). Paddle ignores the label -100 without an
    error, so the labels are checked where the lists of images are read.
    """

    def loss(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        logits = logits if logits.dtype == paddle.float64 else logits.astype("float32")  # alignment runs in float64
        if labels.ndim == 2:
            return F.cross_entropy(logits, labels, soft_label=True)
        nll = F.cross_entropy(logits, labels)
        return nll if smoothing == 0 else (1 - smoothing) * nll - smoothing * F.log_softmax(logits).mean()

    return loss


def losses_by_sample(logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
    """Compute the cross entropy of every sample: logits [B, C], labels int64 [B] -> float32 [B]."""
    return F.cross_entropy(logits.astype("float32"), labels, reduction="none").reshape([-1])
