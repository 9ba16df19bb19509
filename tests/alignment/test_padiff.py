"""`auto_diff` in the situations of PaddlePaddle/PaDiff's own tests: one for each of its test files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

import alignment.auto_diff
from alignment.compat.padiff import assign_weight, auto_diff, check_dataloader
from alignment.reference import Reference
from common.errors import CaseError
from tests.alignment import padiff_nets as nets

TORCH = Path(__file__).parent / "torch_nets" / "padiff_torch_nets.py"
pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track")


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-2, 2, shape).astype("float32")


X = drawn(8, 12)
TABLE = {"x": X}
MSE = nn.MSELoss()


class Situations:
    """Each method is a situation: it returns what `auto_diff` says, and what is right."""

    def __init__(self, process: Reference):
        self.diff = partial(self._diff, process=process)
        self.assign = partial(assign_weight, process=process)

    @staticmethod
    def _diff(port, reference, inputs, **options) -> bool:
        reference = f"{TORCH}:{reference}" if isinstance(reference, str) else reference
        return auto_diff(port, reference, inputs, print_report=False, **options)

    def accmulation_grad(self):
        options = {"optimizer": (nets.adam, f"{TORCH}:adam"), "steps": 4}
        right = self.diff(nets.Residual, "Residual", X, step=(nets.accumulating, f"{TORCH}:accumulating"), **options)
        wrong = self.diff(
            nets.Residual, "Residual", X, step=(nets.accumulating_wrongly, f"{TORCH}:accumulating"), **options
        )
        return (right, wrong), (True, False)

    def auto_layer_map(self):
        tokens = np.random.default_rng(0).integers(0, 9, (5, 3))
        return self.diff(nets.Recurrent, "Recurrent", {"x": tokens}, rtol=1e-6), True

    def basic_dump_compare(self):
        """Three batches with the same weights, and with weights of their own."""
        batches = [{"x": drawn(8, 12, seed=seed)} for seed in range(3)]
        right = self.diff(nets.Residual, "Residual", batches)
        return (right, self.diff(nets.Residual, "Residual", batches, auto_init=False)), (True, False)

    def check_dataloader(self):
        batches = [{"image": drawn(4, 3, seed=seed), "label": np.arange(4)} for seed in range(3)]
        others = [(paddle.to_tensor(batch["image"]), batch["label"]) for batch in batches]
        right = check_dataloader(batches, others)
        others[2] = (others[2][0] + 1, others[2][1])
        return (right, check_dataloader(batches, others), check_dataloader(batches, others[:2])), (True, False, False)

    def check_weight_grad(self):
        """A weight of the port is twice that of the reference."""
        model = nets.Residual()
        self.assign(model, f"{TORCH}:Residual")
        right = self.diff(model, "Residual", X, auto_init=False)
        model.second.weight.set_value(2 * model.second.weight)
        return (right, self.diff(model, "Residual", X, auto_init=False)), (True, False)

    def compare_paddle_models(self):
        model, other = nets.Parallel(), nets.ExtraReLU()
        right = self.diff(model, nets.Parallel(), X, single_step=True)
        return (right, self.diff(other, model, X, single_step=True)), (True, False)

    def compare_with_dataloader(self):
        loader = paddle.io.DataLoader(paddle.io.TensorDataset([paddle.to_tensor(drawn(6, 12))]), batch_size=2)
        pairs = (({"x": batch[0]}, {"x": batch[0].numpy()}) for batch in loader)
        model = nets.Residual()
        right = self.assign(model, f"{TORCH}:Residual") and self.diff(model, "Residual", pairs, auto_init=False)
        shifted = (({"x": batch[0]}, {"x": batch[0].numpy() + 0.1}) for batch in loader)
        return (right, self.diff(model, "Residual", shifted, auto_init=False)), (True, False)

    def diff_phase(self):
        wrong_gradient = self.diff(nets.ScaledGradient, "Parallel", X, diff_phase="forward")
        return (wrong_gradient, self.diff(nets.ScaledGradient, "Parallel", X, diff_phase="backward")), (True, False)

    def inplace(self):
        return self.diff(nets.Residual, "Residual", TABLE, single_step=True), True

    def layer_map(self):
        attention = self.diff(nets.Attention, "Attention", {key: drawn(2, 4, 16) for key in "qkv"})
        norm = self.diff(nets.Convolutional, "Convolutional", drawn(2, 3, 8, 8), layer_map={"norm": "norm"})
        return (attention, norm, self.diff(nets.Wrapped, "Residual", X)), (True, True, True)

    def loss_fn(self):
        """A loss of two arguments with labels, and one that has its labels bound."""
        labels = drawn(8, 5, seed=1)
        right = self.diff(nets.Residual, "Residual", X, loss_fn=(MSE, f"{TORCH}:squared"), labels=labels)
        alone = self.diff(nets.Residual, "Residual", X, loss_fn=(lambda output: output.mean(), f"{TORCH}:mean"))
        wrong = self.diff(
            nets.Residual, "Residual", X, loss_fn=(MSE, f"{TORCH}:halved"), labels=labels, diff_phase="forward"
        )
        return (right, alone, wrong), (True, True, False)

    def multi_input(self):
        inputs = {"x": X, "y": drawn(8, 12, seed=1)}
        other_names = ({"y": X, "x": inputs["y"]}, {"y": X, "x": inputs["y"]})
        return (self.diff(nets.Nested, "Nested", inputs), self.diff(nets.Nested, "Nested", other_names)), (True, True)

    def offline_compare(self):
        model = nets.Residual()
        self.assign(model, f"{TORCH}:Residual")
        right = self.diff(model, "Residual", (TABLE, TABLE), auto_init=False)
        return (right, self.diff(model, "Residual", (TABLE, {"x": drawn(8, 12, seed=1)}), auto_init=False)), (
            True,
            False,
        )

    def optimizers(self):
        right = self.diff(nets.Residual, "Residual", X, optimizer=(nets.adam, f"{TORCH}:adam"), steps=3)
        wrong = self.diff(nets.Residual, "Residual", X, optimizer=(nets.adam, f"{TORCH}:slow_adam"), steps=3)
        return (right, wrong), (True, False)

    def resnet18(self):
        """A feature map as output, forward and backward; test_padiff_vision.py has the ResNet-18 itself."""
        return self.diff(nets.Convolutional, "Convolutional", drawn(2, 3, 8, 8)), True

    def simplenet1(self):
        own = self.diff(nets.Residual, "Residual", TABLE, auto_init=False)
        return (self.diff(nets.Residual, "Residual", TABLE), own), (True, False)

    def simplenet2(self):
        return self.diff(nets.Parallel, "Parallel", X), True

    def simplenet3(self):
        return self.diff(nets.Parallel, "Parallel", X, single_step=True), True

    def simplenet4(self):
        return self.diff(nets.ScaledGradient, "Parallel", X), False

    def simplenet5(self):
        return self.diff(nets.Nested, "Nested", {"x": X, "y": X}), True

    def single_step(self):
        right = self.diff(nets.Chain, "Chain", X, single_step=True)
        return (right, self.diff(nets.ScaledGradient, "Parallel", X, single_step=True)), (True, False)

    def tables(self):
        """Nested outputs in a table, which PaDiff's report supports too."""
        port = partial(nets.Nested, in_table=True)
        return self.diff(port, "Nested", {"x": X, "y": X}, reference_arguments={"in_table": True}), True

    def white_black_list(self):
        wrong = nets.Residual()
        wrong.act = nn.ReLU6()
        port = self.diff(wrong, "Residual", 9 * X)
        left_out = self.diff(nets.Residual, "Residual", X, white_list=["first", nn.Linear], black_list=["first"])
        return (port, left_out), (False, True)


OFFERED = [name for name in vars(Situations) if not name.startswith("_")]
# Test files of PaDiff whose calls are not offered; docs/alignment.md says what to use in place of them.
NOT_OFFERED = ("api_to_Layer", "compare_with_amp", "many_usages")


def test_at_least_22_of_26_situations_are_offered():
    assert (len(OFFERED), len(OFFERED) + len(NOT_OFFERED)) == (23, 26)


@pytest.mark.torch
@pytest.mark.parametrize("name", OFFERED)
def test_a_situation_of_padiff(name, reference):
    found, right = getattr(Situations(reference), name)()
    assert found == right


@pytest.mark.torch
@pytest.mark.parametrize(
    ("port", "options", "lines"),
    [
        (nets.ScaledGradient, {"single_step": True}, ["code after second, backward", "2"]),
        (nets.ExtraReLU, {"single_step": True, "diff_phase": "forward"}, ["code after the last layer"]),
        (nets.ScaledGradient, {}, ["code after second, backward"]),
        (nets.Residual, {"inputs": ({"x": X}, {"x": X + 1})}, ["first difference", "in the code that calls first"]),
    ],
)
def test_the_first_difference_is_printed(port, options, lines, reference, capsys):
    given = dict(options)
    inputs = given.pop("inputs", X)
    name = "Residual" if port is nets.Residual else "Parallel"
    assert not auto_diff(port, f"{TORCH}:{name}", inputs, process=reference, **given)
    output = capsys.readouterr().out
    assert all(line in output for line in lines) and output.splitlines()[-1].startswith("auto_diff: FAILED"), output


def test_what_cannot_be_given_is_refused_with_the_next_step():
    calls: list[tuple[Callable, str]] = [
        (lambda: auto_diff(nets.Residual, "", X, diff_phase="front"), "forward, backward, both, got 'front'"),
        (lambda: auto_diff(nets.Residual, lambda: None, X), "cannot be given to the process of torch"),
        (lambda: auto_diff(nets.Residual, object(), X), "an object of object cannot be given"),
        (lambda: auto_diff(nets.Residual, "", []), "hold no batch"),
        (lambda: auto_diff(nets.Residual, "", {"x": "text"}), "'x' holds no numbers"),
        (lambda: auto_diff(nets.Residual, "", ({"x": X}, {"x": X[:4]})), "of the reference"),
        (lambda: auto_diff(nets.Residual, "", X, labels="y"), "no entry 'y'"),
        (lambda: auto_diff(nets.Residual, "", X, loss_fn=MSE), "loss_fn: give both sides"),
        (lambda: assign_weight(object(), "", X), "give the port first"),
    ]
    for call, message in calls:
        with pytest.raises(CaseError, match=message):
            call()


def test_two_models_that_are_one_layer_agree():
    model, other = nn.Linear(12, 3), nn.Linear(12, 3, weight_attr=nn.initializer.Constant(0.5))
    for first, second in ((model, model), (model, other)):
        assert auto_diff(first, second, X)
        assert auto_diff(first, second, X, single_step=True)


def test_a_wrong_gradient_of_a_layer_with_an_unused_output_is_found(capsys):
    assert auto_diff(nets.OneOfTwo, nets.OneOfTwo, X, single_step=True)
    assert not auto_diff(partial(nets.OneOfTwo, factor=2), nets.OneOfTwo, X, single_step=True, diff_phase="backward")
    assert "inner alone" in capsys.readouterr().out


@pytest.mark.torch
def test_weights_that_do_not_fit_are_said(reference, capsys):
    assert not assign_weight(nets.Chain(), f"{TORCH}:Residual", X, process=reference)
    assert "assign_weight: failed" in capsys.readouterr().out


def test_the_former_import_path_is_kept():
    assert alignment.auto_diff.auto_diff is auto_diff
