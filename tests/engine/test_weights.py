"""Weights of every format are recognised by content, and fit a model exactly or are refused by name."""

import json
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
import safetensors.numpy
from paddle import nn

from common.errors import CheckpointError
from configs.schema import ResumeConfig
from engine.checkpoint import read_checkpoint, write_checkpoint
from engine.resume import resume_training, start_from
from engine.weights import Weights, drop_head, load_weights, set_weights
from tests.engine.test_checkpoint import META, TENSORS, write
from tests.engine.test_train import new_state
from tests.engine.tiny import arrays_of, same, tiny_net

# --- Formats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is no checkpoint at all", "not a file of weights"),
        (b"PK\x03\x04 and so on", "a zip archive that is cut off"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "the pickle is cut off"),
        (b"\x80\x04N.", "holds a NoneType"),
    ],
)
def test_foreign_files_are_refused_by_their_format(tmp_path, content, message):
    path = tmp_path / "weights.pd"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_weights(path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


@pytest.mark.parametrize("path", ["missing.pd", "."])
def test_a_path_that_cannot_be_read(tmp_path, path):
    with pytest.raises(CheckpointError, match="cannot read"):
        load_weights(tmp_path / path)


def test_plain_safetensors_by_content_not_by_name(tmp_path):
    path = tmp_path / "weights.pdparams"
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.zeros(0, np.float32), "c": np.array(3.0)}
    safetensors.numpy.save_file(arrays, path, metadata={"format": "pd"})
    assert same(load_weights(path).arrays, arrays)
    with pytest.raises(CheckpointError, match="no moving average"):
        load_weights(path, ema=True)
    with pytest.raises(CheckpointError, match="plain safetensors"):
        read_checkpoint(path)


def test_bfloat16_becomes_float32(tmp_path):
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x80\x3f\x20\xc0")
    assert load_weights(path).arrays["w"].tolist() == [1.0, -2.5]


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]},
        {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [10**12, 0], "data_offsets": [0, 8]},
        {"shape": [2]},
        [1, 2],
    ],
)
def test_inconsistent_safetensors_are_refused(tmp_path, entry):
    header = json.dumps({"w": entry}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="damaged safetensors"):
        load_weights(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"w": {"dtype": "F32", "shape": [10**4000] * 32, "data_offsets": [0, 8]}}, "needs a dtype, a shape"),
        ({"w": {"dtype": "F32", "shape": [1] * 40 + [2], "data_offsets": [0, 8]}}, "needs a dtype, a shape"),
        ({"__metadata__": {"format": ["pt"]}}, "its metadata is not a table of texts"),
        ({"__metadata__": 3}, "its metadata is not a table of texts"),
        ([[]] * 600_000, "items are too large"),
        (["x" * (17 << 20)], "items are too large"),
    ],
)
def test_headers_that_would_take_much_time_or_memory_are_refused(tmp_path, entries, message):
    header = json.dumps({"__metadata__": {}, "more": entries} if isinstance(entries, list) else entries).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match=rf"damaged safetensors.*{message}"):
        load_weights(path)


def test_what_could_not_be_read_again_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("common.json_text.MAX_BYTES", 1000)
    with pytest.raises(CheckpointError, match="items are too large"):
        write_checkpoint(tmp_path / "checkpoint-latest.pd", TENSORS, {"names": ["x" * 1000]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ({"info": 3}, "info is no table"),
        ({"info": {"args": []}}, "info.args is no table of plain values"),
        ({"info": {"args": {"model": {"a": 1}}}}, "info.args"),
        ({"info": {"preprocess": "x"}}, "info.preprocess"),
        ({"info": {"class_names": ["a", 1]}}, "info.class_names is no list of names"),
        ({"info": {"data": {"data_path": 3}}}, "info.data is no table of texts"),
        ({"info": {"class_folders": 3}}, "info.class_folders is no list of names"),
        ({"best_epoch": "4"}, "best_epoch is no whole number"),
        ({"info": {"effective_batch": "4"}}, "info.effective_batch is no count"),
        ({"next_epoch": -1}, "next_epoch is no count"),
        ({"next_step": 10**30}, "next_step"),
        ({"epoch": "3"}, "epoch is no whole number"),
        ({"best_top1_percent": None}, "best_top1_percent is no number"),
        ({"lr_meter": {"recent": [1], "total": 3}}, "lr_meter.count"),
        ({"loss_meter": []}, "loss_meter is no table"),
        ({"scaler": {"scale": "x"}}, "scaler is no table of numbers"),
        ({"environment": 3}, "environment"),
    ],
)
def test_settings_of_other_types_are_an_error_despite_a_true_checksum(tmp_path, change, entry):
    path = tmp_path / "checkpoint-latest.pd"
    write_checkpoint(path, TENSORS, META | change)
    for read in (read_checkpoint, load_weights):
        with pytest.raises(CheckpointError, match=rf"checkpoint-latest\.pd was not written by this project: .*{entry}"):
            read(path)


@pytest.mark.parametrize("meta", [3, [], "x", None])
def test_settings_that_are_no_table_are_an_error(tmp_path, meta):
    write_checkpoint(tmp_path / "checkpoint-latest.pd", TENSORS, meta)
    with pytest.raises(CheckpointError, match="its settings are not a table"):
        read_checkpoint(tmp_path / "checkpoint-latest.pd")


def test_model_and_average_of_a_checkpoint(tmp_path):
    path = write(tmp_path)
    assert set(load_weights(path).arrays) == {"a.weight", "transposed"}
    assert load_weights(path, ema=True).arrays["a.weight"][0, 0] == 0.5
    assert load_weights(path).meta["info"] == META["info"]


# --- Into a model ---------------------------------------------------------------------------------------------------


def test_weights_fit_exactly_or_not_at_all():
    model, other = tiny_net(0), tiny_net(1)
    arrays = arrays_of(other)
    set_weights(model, arrays, source="f")
    assert same(arrays_of(model), arrays)

    bad = {name: array for name, array in arrays.items() if name not in ("0.weight", "1._mean")}
    bad |= {"5.weight": arrays["5.weight"].T, "0.bias": np.zeros(4, int), "extra": np.zeros(1)}
    before = arrays_of(model)
    with pytest.raises(CheckpointError) as caught:
        set_weights(model, bad, source="f.pd")
    message = str(caught.value)
    for part in ("f.pd", "2 missing: 0.weight, 1._mean", "1 unexpected: extra", "2 of another shape or type"):
        assert part in message
    assert "5.weight [7, 36] float32 for [36, 7] float32" in message
    assert same(arrays_of(model), before)


@pytest.mark.parametrize("remove", [False, True])
def test_only_a_classifier_of_another_shape_is_replaced(remove):
    model = tiny_net(0)
    fresh = arrays_of(model)
    arrays, dropped = drop_head(arrays_of(tiny_net(1)), model, remove=remove)
    assert dropped == (["5.weight", "5.bias"] if remove else [])
    wide = tiny_net(2)
    wide[5] = nn.Linear(36, 9)
    arrays, dropped = drop_head(arrays_of(wide), model, remove=remove)
    assert dropped == ["5.weight", "5.bias"]
    set_weights(model, arrays, source="f")
    assert np.array_equal(model[5].weight.numpy(), fresh["5.weight"])
    assert np.array_equal(model[0].weight.numpy(), wide[0].weight.numpy())
    with pytest.raises(CheckpointError, match=r"missing: 0\.weight"):
        set_weights(model, {name: a for name, a in arrays.items() if name != "0.weight"}, source="f")


def test_float16_weights_are_widened():
    model = nn.Linear(2, 2)
    set_weights(model, {"weight": np.ones((2, 2), np.float16), "bias": np.zeros(2, np.float16)}, source="f")
    assert model.weight.dtype == paddle.float32 and model.weight.numpy().sum() == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_and_nothing_is_loaded(value):
    net, arrays = tiny_net(0), arrays_of(tiny_net(1))
    name, before = list(arrays)[-1], arrays_of(net)
    arrays[name] = arrays[name].copy()
    arrays[name].flat[0] = value
    with pytest.raises(CheckpointError, match=rf"a\.pd: {name} holds 1 of \d+ values that are not finite"):
        set_weights(net, arrays, source="a.pd")
    assert same(arrays_of(net), before)


def test_a_run_that_goes_on_in_another_folder_writes_its_own_best_weights(tmp_path):
    """The best weights so far lie in the folder of the earlier run."""
    state = new_state()
    state.best_top1_percent, state.has_best = 91.0, True
    tensors, meta = state.snapshot()
    for folder in ("first", "other"):
        (tmp_path / folder).mkdir()
    write_checkpoint(tmp_path / "first" / "checkpoint-latest.pd", tensors, meta)
    for folder, has_best in (("first", True), ("other", False)):
        continued, flags = new_state(), ResumeConfig(resume=str(tmp_path / "first" / "checkpoint-latest.pd"))
        assert start_from(continued, flags, tmp_path / folder, rules={})
        assert continued.has_best is has_best and continued.best_top1_percent == 91.0


def test_a_damaged_average_is_told_apart_from_none(tmp_path, monkeypatch, caplog):
    state, weights = new_state(), tiny_net(1)
    state.ema = SimpleNamespace(load=None, restart=lambda: None)

    def load(path, ema=False):
        if ema:
            raise CheckpointError("a.pd: model_ema holds NaN")
        return Weights(tmp_path / "a.pd", arrays_of(weights), {})

    (tmp_path / "a.pd").write_bytes(b"not a checkpoint of this project")
    monkeypatch.setattr("engine.resume.load_weights", load)
    resume_training(state, tmp_path / "a.pd", rules={})
    assert "a.pd: model_ema holds NaN; the moving average starts from the weights of the model" in caplog.text


def test_a_run_that_a_foreign_file_tells_of_goes_on_with_the_next_epoch(tmp_path, monkeypatch):
    state = new_state()
    (tmp_path / "a.pd").write_bytes(b"not a checkpoint of this project")
    for told, expected in ((4, 5), (None, 0)):
        state.begin_epoch(0)
        weights = Weights(tmp_path / "a.pd", arrays_of(state.model), {"epoch": told})
        monkeypatch.setattr("engine.resume.load_weights", lambda path, ema=False, weights=weights: weights)
        assert resume_training(state, tmp_path / "a.pd", rules={}) is False
        assert (state.next_epoch, state.next_step) == (expected, 0)
