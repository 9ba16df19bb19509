"""The code situations of PaDiff's guide, on a ViT backbone with a deconvolution head that gives heat maps."""

from pathlib import Path

import numpy as np
import paddle
import pytest

from alignment.compat.padiff import assign_weight, auto_diff
from alignment.reference import Reference
from tests.alignment import heatmap_nets as nets

TORCH = Path(__file__).parent / "torch_nets" / "heatmap_torch_nets.py"
POSE = f"{TORCH}:Pose"
LAYER_MAP = {"keypoint_head": "head"}
LOSSES = (nets.joints_loss, f"{TORCH}:joints_loss")
OPTIMIZERS = (nets.adamw, f"{TORCH}:adamw")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:When training, we now always track")]


class Samples(paddle.io.Dataset):
    """Pictures [3, 32, 24] and heat maps [5, 8, 6]."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        return rng.normal(size=(3, 32, 24)).astype("float32"), rng.uniform(size=(5, 8, 6)).astype("float32")


def batches():
    """Pairs of tables from two data loaders, each with the names of its own project."""
    port = paddle.io.DataLoader(Samples(), batch_size=2)
    reference = [[Samples()[index + k] for k in range(2)] for index in range(0, 6, 2)]
    for (image, heatmap), items in zip(port, reference, strict=True):
        img, target = (np.stack(column) for column in zip(*items, strict=True))
        yield {"x": image, "target": heatmap}, {"img": img, "target": target}


def assigned(model: paddle.nn.Layer, process: Reference) -> paddle.nn.Layer:
    assert assign_weight(model, POSE, layer_map=LAYER_MAP, process=process)
    return model


def compare(model, process: Reference, inputs=None, **options) -> bool:
    given = {"auto_init": False, "rtol": 1e-5, "layer_map": LAYER_MAP, "labels": "target", "process": process}
    return auto_diff(model, POSE, batches() if inputs is None else inputs, **(given | options))


SITUATIONS = {
    "single step over a pair of data loaders": {"diff_phase": "forward"},
    "with a pair of loss functions": {"diff_phase": "forward", "loss_fn": LOSSES},
    "with a pair of optimizers and a new batch for each step": {"loss_fn": LOSSES, "optimizer": OPTIMIZERS},
    "steps on one input": {"loss_fn": LOSSES, "optimizer": OPTIMIZERS, "steps": 4, "inputs": "first"},
    "single step forward": {"single_step": True, "diff_phase": "forward", "loss_fn": LOSSES, "inputs": "first"},
    "single step backward": {"single_step": True, "diff_phase": "backward", "loss_fn": LOSSES, "inputs": "first"},
    "single step in both": {"single_step": True, "diff_phase": "both", "loss_fn": LOSSES, "inputs": "first"},
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_right_port_agrees(name, reference):
    options = dict(SITUATIONS[name])
    inputs = next(batches()) if options.pop("inputs", None) else None
    assert compare(assigned(nets.Pose(), reference), reference, inputs, **options)


@pytest.mark.parametrize(
    ("port", "options", "words"),
    [
        (nets.WrongHead, {"diff_phase": "forward"}, ["head.norm", "epsilon"]),
        (nets.WrongHead, {"diff_phase": "both", "single_step": True}, ["head.norm alone"]),
        (nets.WrongCode, {"diff_phase": "forward", "single_step": True}, ["code before head.deconv"]),
        (nets.Pose, {"loss_fn": (nets.sum_loss, LOSSES[1]), "diff_phase": "forward"},
         ["loss", "times the reference's"]),
        (nets.Pose, {"loss_fn": LOSSES, "optimizer": (nets.adamw_without_decay, OPTIMIZERS[1])},
         ["weights and statistics", "after step 0"]),
    ],
)  # fmt: skip
def test_the_first_difference_is_placed(port, options, words, reference, capsys):
    assert not compare(assigned(port(), reference), reference, **options)
    output = capsys.readouterr().out
    assert all(word in output for word in words), output


def test_weights_are_assigned_with_buffers(reference):
    model = assigned(nets.Pose(), reference)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(model.backbone.position.numpy(), nets.Pose().backbone.position.numpy())
    assert not assign_weight(nets.Head(), POSE, process=reference)
