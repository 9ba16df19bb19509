"""Weights of other publishers get the names and layouts of our models: by the kinds of layers, or not at all."""

import numpy as np
import paddle
import pytest

from common.errors import CheckpointError
from engine.safetensors_io import encode
from engine.weight_names import to_paddle_names
from engine.weights import load_weights
from models import create_model
from tests.engine.tiny import arrays_of, same, tiny_net
from tests.engine.torch_writer import FORMS, tensor

WIDTHS = ("x0_35", "x1_0", "x1_25")
WITH_BATCH_NORM = ["peleenet", *(f"mobilenet_v3_{size}_{width}" for size in ("small", "large") for width in WIDTHS)]


def torch_layout(model: paddle.nn.Layer) -> dict[str, np.ndarray]:
    """What PyTorch's model of the same network would save: other names in batch norms, counters, [out, in] matrices."""
    arrays = {}
    for name, array in arrays_of(model).items():
        owner = name.rpartition(".")[0]
        is_linear = isinstance(dict(model.named_sublayers())[owner], paddle.nn.Linear)
        renamed = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        arrays[renamed] = np.ascontiguousarray(array.T) if is_linear and array.ndim == 2 else array
        if renamed.endswith(".running_var"):
            arrays[f"{owner}.num_batches_tracked"] = np.array(7)
    return arrays


def small_alexnet(num_classes: int = 3) -> paddle.nn.Layer:
    """Two linear layers without a batch norm, as AlexNet; the first is not square, the second is."""
    paddle.seed(1)
    return paddle.nn.Sequential(
        paddle.nn.Conv2D(3, 4, 3), paddle.nn.Linear(6, 4), paddle.nn.Linear(4, 4), paddle.nn.Linear(4, num_classes)
    )


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_every_model_takes_what_pytorch_would_save(name):
    model = create_model(name, num_classes=5)
    translated = to_paddle_names(torch_layout(model), model, source="w.pth")
    assert same(translated.arrays, arrays_of(model))
    assert "linear layers transposed" in translated.remarks[-1]


def test_square_matrices_are_transposed_because_their_layers_are_linear():
    model = small_alexnet()
    theirs = torch_layout(model)
    assert same(to_paddle_names(theirs, model, layout="torch", source="").arrays, arrays_of(model))
    assert same(to_paddle_names(theirs, model, source="").arrays, arrays_of(model))
    assert same(to_paddle_names(arrays_of(model), model, source="").arrays, arrays_of(model))
    assert (theirs["2.weight"] != arrays_of(model)["2.weight"]).any()


def test_the_input_side_tells_the_layout_when_the_head_has_other_classes():
    theirs = torch_layout(small_alexnet(num_classes=9))
    found = to_paddle_names(theirs, small_alexnet(num_classes=3), source="").arrays
    assert found["3.weight"].shape == (4, 9)


@pytest.mark.parametrize("sides", [[(4, 4)], [(4, 6), (4, 6)]])
def test_a_doubt_about_the_layout_is_an_error(sides):
    paddle.seed(0)
    model = paddle.nn.Sequential(*(paddle.nn.Linear(*s) for s in sides))
    arrays = arrays_of(model)
    if len(sides) == 2:
        arrays["0.weight"] = arrays["0.weight"].T
    with pytest.raises(CheckpointError, match="does not say whether its linear layers"):
        to_paddle_names(arrays, model, source="w.safetensors")


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "backbone.", "_layers.", "module._orig_mod.", "model.backbone."]
)
def test_prefixes_of_wrappers_are_taken_off_and_said(prefix):
    model = tiny_net()
    theirs = {prefix + name: array for name, array in torch_layout(model).items()}
    translated = to_paddle_names(theirs, model, source="")
    assert same(translated.arrays, arrays_of(model))
    assert translated.remarks[0] == f"the prefix {prefix!r} was taken off all names"


def test_a_prefix_that_one_name_lacks_stays():
    model = tiny_net()
    theirs = {f"module.{name}": array for name, array in torch_layout(model).items()} | {"loss.weight": np.ones(3)}
    with pytest.raises(CheckpointError) as caught:
        to_paddle_names(theirs, model, source="w.pth")
    assert str(caught.value) == (
        "w.pth does not fit the model: no name is the same\n"
        "the file has  module.0.weight, module.0.bias, module.1.weight, module.1.bias, module.1.running_mean, ...\n"
        "the model has 0.weight, 0.bias, 1.weight, 1.bias, 1._mean, ..."
    )


def test_prefixes_that_belong_to_the_model_stay():
    model = paddle.nn.Sequential(("model", tiny_net()))
    assert same(to_paddle_names(torch_layout(model), model, source="").arrays, arrays_of(model))


def test_two_entries_for_one_parameter_are_an_error():
    model = tiny_net()
    theirs = torch_layout(model) | {"1._mean": np.zeros(4, np.float32)}
    with pytest.raises(CheckpointError, match=r"two entries that would both be '1\._mean'"):
        to_paddle_names(theirs, model, layout="torch", source="w.pth")


def test_paddleclas_alexnet_is_renamed_and_halved_behind_its_dropouts(monkeypatch):
    class SmallLinear(paddle.nn.Linear):
        def __init__(self, in_features, out_features):
            super().__init__(2, 2)

    monkeypatch.setattr("paddle.nn.Linear", SmallLinear)  # 60 million weights would say no more
    model = create_model("alexnet", num_classes=3)
    renamed = {"features.0": "_conv1._conv", "features.3": "_conv2._conv", "features.6": "_conv3",
               "features.8": "_conv4", "features.10": "_conv5._conv", "classifier.1": "_fc6", "classifier.4": "_fc7",
               "classifier.6": "_fc8"}  # fmt: skip
    theirs = {}
    for name, array in arrays_of(model).items():
        owner, _, leaf = name.rpartition(".")
        theirs[f"{renamed[owner]}.{leaf}"] = (
            array * 2 if name in ("classifier.1.weight", "classifier.4.weight") else array
        )
    translated = to_paddle_names(theirs, model, layout="paddle", source="")
    assert same(translated.arrays, arrays_of(model))
    assert translated.remarks[0] == "names of PaddleClas and paddle.vision"


def test_paddleclas_mobilenet_is_another_network_and_the_message_names_it():
    theirs = arrays_of(create_model("mobilenet_v3_small_x0_35_paddleclas", num_classes=3))
    with pytest.raises(CheckpointError, match="--model mobilenet_v3_small_x1_0_paddleclas"):
        to_paddle_names(theirs, create_model("mobilenet_v3_small_x0_35"), layout="paddle", source="w.pdparams")


# --- From files -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=FORMS)
def pth(request, tmp_path):
    """A function that writes a table of arrays as torch.save would."""

    def write(arrays: dict, wrap=lambda table: table):
        path = tmp_path / "w.pth"
        tensors = {name: tensor(array, str(number)) for number, (name, array) in enumerate(arrays.items())}
        path.write_bytes(FORMS[request.param](wrap(tensors)))
        return path

    return write


def test_a_file_of_torch_fills_a_model(pth, caplog):
    model, other = tiny_net(0), tiny_net(1)
    path = pth({f"module.{name}": array for name, array in torch_layout(other).items()}, lambda table: {"net": table})
    load_weights(path).load_into(model)
    assert same(arrays_of(model), arrays_of(other))
    assert [line.removeprefix(f"{path}: ") for line in caplog.messages] == [
        "the weights are the entry 'net' of the file",
        "the prefix 'module.' was taken off all names",
        "names and layouts of PyTorch: 1 matrices of linear layers transposed, 1 counters of batch norms left out",
    ]


def test_the_average_of_a_file_of_torch(pth):
    path = pth(torch_layout(tiny_net(1)), lambda table: {"model_ema": {"module": table}, "epoch": 3})
    average = load_weights(path, ema=True).for_model(tiny_net(0))
    assert same(average.arrays, arrays_of(tiny_net(1)))
    with pytest.raises(CheckpointError, match="no moving average"):
        load_weights(pth(torch_layout(tiny_net(1))), ema=True)


@pytest.mark.parametrize("texts", [{}, {"format": "pt"}, {"format": "odd"}])
def test_safetensors_of_pytorch_layout(tmp_path, texts):
    model, path = small_alexnet(), tmp_path / "w.safetensors"
    path.write_bytes(b"".join(encode(torch_layout(model), texts)))
    assert same(load_weights(path).for_model(model).arrays, arrays_of(model))


def test_the_format_of_safetensors_decides_where_all_matrices_are_square(tmp_path):
    model, path = paddle.nn.Sequential(paddle.nn.Linear(4, 4)), tmp_path / "w.safetensors"
    path.write_bytes(b"".join(encode(torch_layout(model), {"format": "pt"})))
    assert same(load_weights(path).for_model(model).arrays, arrays_of(model))


def test_names_of_another_network_are_shown_beside_those_of_the_model(pth):
    path = pth({name.replace("5.", "head."): array for name, array in torch_layout(tiny_net()).items()})
    with pytest.raises(CheckpointError) as caught:
        load_weights(path).load_into(tiny_net())
    assert "2 missing: 5.weight, 5.bias; 2 unexpected: head.weight, head.bias" in str(caught.value)
    assert "\nthe model has 0.weight, 0.bias" in str(caught.value)
