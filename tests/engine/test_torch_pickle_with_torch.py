"""What torch.save writes, our reader gives as torch.load does: every element type, view and form."""

import importlib
import importlib.util
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.torch_weights import read_torch_sections

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:.*quantize"),
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch (make align)"),
]
DTYPES = (
    "float64 float32 float16 bfloat16 complex64 complex128 bool int64 int32 int16 int8 uint8 uint16 uint32 uint64"
).split()


class Torch:
    """PyTorch from the first use on: every process of the tests reads this file, and one of them runs it."""

    def __getattr__(self, name: str):
        if name.startswith("_") or "pytest" in name:  # pytest looks for fixtures
            raise AttributeError(name)
        return getattr(importlib.import_module("torch"), name)


torch = Torch()


@st.composite
def tensors(draw) -> "torch.Tensor":
    """A storage of random bytes, seen as a whole, in part, with other strides, expanded, or as a parameter."""
    dtype = getattr(torch, draw(st.sampled_from(DTYPES)))
    count = draw(st.integers(0, 30))
    if dtype == torch.bool:
        base = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=dtype)
    else:
        raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
        base = torch.frombuffer(bytearray(raw), dtype=dtype) if count else torch.zeros(0, dtype=dtype)
    kind = draw(
        st.sampled_from(["whole", "part", "strided", "expanded", "parameter", "empty", "conjugate", "attribute"])
    )
    if kind == "part" and count:
        return base[draw(st.integers(0, count - 1)) :]
    if kind == "strided" and count >= 6:
        return base.as_strided((2, 3), draw(st.sampled_from([(3, 1), (1, 2), (0, 1), (1, 1), (2, 0)])), 0)
    if kind == "expanded" and count:
        return base[:1].expand(draw(st.integers(1, 50)), -1)
    if kind == "parameter" and dtype.is_floating_point:
        return torch.nn.Parameter(base)
    if kind == "empty":
        return base[:0].reshape(0, 3)
    if kind == "conjugate" and dtype.is_complex:
        return base.conj()
    if kind == "attribute":
        base.note = "kept by _rebuild_from_type_v2"
    return base


@st.composite
def contents(draw) -> dict:
    """A table of tensors, some of them tied or views of each other, perhaps inside a checkpoint."""
    table = draw(st.dictionaries(st.text("abc.é", min_size=1, max_size=6), tensors(), min_size=1, max_size=5))
    first = next(iter(table.values()))
    table |= {"tied": first, "flat view": first.detach()[:2], "number": torch.tensor(3.5)}
    place = draw(st.sampled_from(["", "state_dict", "model", "params", "net.module"]))
    for key in reversed(place.split(".") if place else []):
        table = {"epoch": 3, key: table, "lr": [0.1, None, ("a", torch.Size([1, 2]))], "rng": torch.get_rng_state()}
    return table


def expected(table: dict) -> dict[str, np.ndarray]:
    for key in ("state_dict", "model", "params", "net", "module"):
        if isinstance(table.get(key), dict):
            return expected(table[key])
    table = {name: value.detach().resolve_conj().resolve_neg() for name, value in table.items()}
    return {name: (v.float() if v.dtype == torch.bfloat16 else v).numpy() for name, v in table.items()}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(content=contents(), is_zip=st.booleans(), protocol=st.sampled_from([2, 3, 4, 5]))
def test_the_reader_equals_torch(content, is_zip, protocol):
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
    found = read_torch_sections(file.getvalue(), "w.pth").arrays["model"]
    try:
        loaded = expected(torch.load(io.BytesIO(file.getvalue()), weights_only=False))
    except AttributeError:  # torch 2.13 cannot read its own wide unsigned numbers in the legacy form
        assert not is_zip
        return
    assert found.keys() == loaded.keys()
    for name, array in loaded.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_whole_training_and_a_pickled_model(is_zip):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(36, 7)
    )
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    training = {
        "model": torch.nn.DataParallel(net).state_dict(),
        "optimizer": optimizer.state_dict(),
        "accuracy": np.float64(3.0),
        "history": np.ones(3),
        "sparse": torch.eye(3).to_sparse(),
        "quantized": torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8),
        "meta": torch.empty(3, device="meta"),
        "device": torch.device("cpu"),
    }
    for content, prefix in ((training, "module."), (net, ""), ({"ema": net}, "")):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=is_zip)
        found = read_torch_sections(file.getvalue(), "w.pth").arrays["model"]
        assert {name.removeprefix(prefix): array.tolist() for name, array in found.items()} == {
            name: value.tolist() for name, value in net.state_dict().items()
        }


def test_a_file_without_checksums():
    from torch.utils.serialization import config

    file = io.BytesIO()
    with config.patch({"save.compute_crc32": False}):
        torch.save({"w": torch.arange(3)}, file)
    assert read_torch_sections(file.getvalue(), "w.pth").arrays["model"]["w"].tolist() == [0, 1, 2]
