"""LayerCAM: which places of an image raised the score of a class, by activations and gradients of one layer.

Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, IEEE TIP 2021, equations 5 and 6:
the map is relu(sum over channels of relu(gradient) * activation). Unlike Grad-CAM it weighs every place by its own
gradient, so it may be taken at a layer before the last one, where places are finer.
"""

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from paddle import nn

LEAST_PLACES = 7  # along each side of the map, as in the last layer of the networks of `models` at 224 pixels


class LayerCam:
    """Computes maps for a model, at its last layer whose output has at least 7 x 7 places."""

    def __init__(self, model: "nn.Layer", input_size: int):
        """Find the layer by the shapes of all outputs for one blank image of `input_size` pixels a side.

        Where no layer has 7 x 7 places, as with very small images, it is the last one of those with the most places.
        """
        import paddle

        model.eval()
        self._model = model
        shapes: list[tuple] = []
        hooks = [
            layer.register_forward_post_hook(
                lambda layer, _, output: shapes.append((layer, output.shape[2:])) if _is_map(output) else None
            )
            for layer in model.sublayers()
        ]
        try:
            with paddle.no_grad():
                model(paddle.zeros([1, 3, input_size, input_size]))
        finally:
            for hook in hooks:
                hook.remove()
        sides = [min(shape) for _, shape in shapes]
        needed = min(LEAST_PLACES, max(sides))
        self.layer = next(layer for (layer, _), side in zip(shapes[::-1], sides[::-1], strict=True) if side >= needed)
        self._seen = threading.local()  # another thread may run the same model meanwhile
        self.layer.register_forward_post_hook(self._keep)

    def _keep(self, layer, _, output) -> None:
        if getattr(self._seen, "is_asked", False):
            self._seen.output = output

    def maps(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Compute a map for each of `images` [B, 3, S, S] float32 and its class in `labels` [B].

        Returns:
            [B, h, w] float32; the largest number of a map is 1, or 0 where nothing raised the score of the class.
        """
        import paddle

        self._seen.is_asked = True
        logits, self._seen.is_asked = self._model(paddle.to_tensor(images)), False
        activation = self._seen.output
        score = paddle.take_along_axis(logits, paddle.to_tensor(labels.reshape(-1, 1)), axis=1).sum()
        [gradient] = paddle.grad([score], [activation])
        maps = (gradient.clip(min=0) * activation).sum(axis=1).clip(min=0).astype("float32").numpy()
        largest = maps.max(axis=(1, 2), keepdims=True)
        return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


def _is_map(output) -> bool:
    return hasattr(output, "shape") and len(output.shape) == 4
