"""Pickles of paddle.save give their arrays byte for byte; anything else in a pickle is refused before it can act."""

import argparse
import collections
import functools
import importlib
import io
import operator
import os
import pickle
import random
import shutil
import struct
import subprocess
import time

import numpy as np
import paddle
import pytest

from common.errors import CheckpointError
from configs.schema import OptimConfig
from engine.optim import create_optimizer
from engine.weights import load_weights
from tests.engine.tiny import arrays_of, same, tiny_net

PROTOCOLS = (2, 3, 4)
SCALAR = np.float64(0).__reduce__()[0]  # its module depends on the version of numpy


@pytest.fixture(scope="module")
def trained():
    """A network with something in its batch-norm statistics and its optimizer."""
    model = tiny_net()
    optimizer = create_optimizer(model, OptimConfig(opt="adamw"), lr=0.1)
    model(paddle.randn([4, 3, 8, 8])).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_bare_state_dict(trained, tmp_path, protocol):
    path = tmp_path / "w.pdparams"
    paddle.save(trained[0].state_dict(), str(path), protocol=protocol)
    assert same(load_weights(path).arrays, arrays_of(trained[0]))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_checkpoint_of_the_predecessor(trained, tmp_path, protocol):
    model, optimizer = trained
    average = {name: tensor * 0.5 for name, tensor in model.state_dict().items()}
    flags = argparse.Namespace(lr=0.18, model="peleenet", opt_betas=None, cutmix_minmax=[0.2, 0.8], eval=False)
    content = {
        "model": model.state_dict(),
        "model_ema": average,
        "optimizer": optimizer.state_dict(),
        "epoch": 119,
        "args": flags,
        "scaler": {"scale": np.array([65536.0], np.float32), "incr_count": 3},
    }
    path = tmp_path / "checkpoint-latest.pd"
    paddle.save(content, str(path), protocol=protocol)
    weights = load_weights(path)
    assert same(weights.arrays, arrays_of(model))
    assert same(load_weights(path, ema=True).arrays, {name: tensor.numpy() for name, tensor in average.items()})
    assert weights.meta == {"epoch": 119, "args": vars(flags)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_every_kind(tmp_path, protocol):
    content = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 4), np.float32),
        "half": np.array([1, -2], np.float16),
        "flag": np.array([True]),
    }
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(collections.OrderedDict(content), protocol=protocol))
    read = load_weights(path).arrays
    assert same(read, content)
    assert [array.shape for array in read.values()] == [array.shape for array in content.values()]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("code", ["f2", "f4", "f8", "i2", "i4", "i8"])
def test_the_order_of_bytes_is_heeded(tmp_path, code, protocol):
    path = tmp_path / "w.pdparams"
    for order in "<=":
        path.write_bytes(pickle.dumps({"w": np.array([1, 2, 515], order + code)}, protocol=protocol))
        assert load_weights(path).arrays["w"].tolist() == [1, 2, 515]
    big = np.array([1, 2, 515], ">" + code)
    scalar = Calls(SCALAR, big.dtype, big[:1].tobytes())
    for content in ({"w": big}, {"model": {"w": np.ones(3, "f4")}, "epoch": scalar}):
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        with pytest.raises(CheckpointError, match=r"w\.pdparams: refused: an array that is not little-endian"):
            load_weights(path)


def test_a_tensor_of_a_static_program(tmp_path):
    class StaticTensor:
        def __reduce__(self):
            return eval, ("data", {"data": np.ones(3, np.float32)})

    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"w": StaticTensor()}, protocol=2))
    assert load_weights(path).arrays["w"].tolist() == [1, 1, 1]


# --- Crafted files --------------------------------------------------------------------------------------------------


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def attacks(marker: str) -> dict:
    command = f"touch {marker}"
    return {
        "os.system": Calls(os.system, command),
        "os.popen": Calls(os.popen, command),
        "Popen": Calls(subprocess.Popen, ["touch", marker]),
        "check_output": Calls(subprocess.check_output, ["touch", marker]),
        "eval": Calls(eval, f"__import__('os').system('{command}')"),
        "eval with names": Calls(eval, "data", {"data": 1, "__builtins__": {}}),
        "exec": Calls(exec, f"import os; os.system('{command}')"),
        "open": Calls(open, marker, "w"),
        "io.FileIO": Calls(io.FileIO, marker, "w"),
        "getattr": Calls(getattr, 1, "real"),
        "import_module": Calls(importlib.import_module, "antigravity"),
        "attrgetter": Calls(operator.attrgetter, "system"),
        "methodcaller": Calls(operator.methodcaller, "system", command),
        "partial": Calls(functools.partial, print),
        "map": Calls(map, print, [1]),
        "rmtree": Calls(shutil.rmtree, marker),
        "np.fromfile": Calls(np.fromfile, "/etc/passwd", "u1"),
        "np.memmap": Calls(np.memmap, marker, "u1", "w+", 0, (4,)),
        "np.save": Calls(np.save, marker, 1),
        "np.load": Calls(np.load, "/etc/passwd"),
        "bytearray": Calls(bytearray, 10**9),
        "Ellipsis type": Calls(type, "X", (), {}),
        "object": Calls(object),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"w": x}, lambda x: {"model": {"w": x}}, lambda x: [x, x]])
def test_no_code_runs(tmp_path, protocol, wrap):
    marker = tmp_path / "marker"
    path = tmp_path / "w.pdparams"
    for name, attack in attacks(str(marker)).items():
        path.write_bytes(pickle.dumps(wrap(attack), protocol=protocol))
        with pytest.raises(CheckpointError) as caught:
            load_weights(path)
        assert str(path) in str(caught.value), name
        assert not marker.exists(), name


def test_the_refused_name_is_told(tmp_path):
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"w": Calls(os.system, "true")}, protocol=2))
    with pytest.raises(CheckpointError, match=r"w\.pdparams: refused: the pickle asks for posix\.system"):
        load_weights(path)


PROTO = b"\x80\x02"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R"  # an empty stand-in for an array
F4 = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R"


def array_state(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    """{"w": array} whose state is made of these pickled parts."""
    return b"}X\x01\x00\x00\x00w" + NDARRAY + b"(K\x01" + shape + dtype + b"\x89" + data + b"tbs."


RAW = {
    "build on a function": PROTO + RECONSTRUCT + b"}X\x0c\x00\x00\x00__defaults__K\x01sb.",
    "slot state on a function": PROTO + RECONSTRUCT + b"N}X\x05\x00\x00\x00_callK\x01s\x86b.",
    "build on the class": PROTO + b"cargparse\nNamespace\n}X\x01\x00\x00\x00aK\x01sb.",
    "namespace of numbers": PROTO + b"}X\x04\x00\x00\x00argscargparse\nNamespace\n)\x81K\x01bs.",
    "array longer than its bytes": PROTO + array_state(b"J\xff\xff\xff\x7f\x85", F4, b"C\x04\0\0\0\0"),
    "negative side": PROTO + array_state(b"J\xff\xff\xff\xff\x85", F4, b"C\x04\0\0\0\0"),
    "object dtype": PROTO + array_state(b"K\x01\x85", F4.replace(b"f4", b"O8"), b"C\x08\0\0\0\0\0\0\0\0"),
    "order of bytes in the dtype": PROTO
    + array_state(b"K\x01\x85", F4.replace(b"\x02\0\0\0f4", b"\x03\0\0\0>f4"), b"C\x04\0\0\0\0"),
    "dtype is a number": PROTO + array_state(b"K\x01\x85", b"K\x01", b"C\x04\0\0\0\0"),
    "bytes are a list": PROTO + array_state(b"K\x01\x85", F4, b"]"),
    "array without state": PROTO + b"}X\x01\x00\x00\x00w" + NDARRAY + b"s.",
    "huge memo index": PROTO + b"Nr\xff\xff\xff\x7f.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "persistent id": PROTO + b"K\x01Q.",
    "inst": PROTO + b"(ios\nsystem\n.",
    "obj": PROTO + b"(cos\nsystem\nX\x04\x00\x00\x00trueo.",
    "extension": PROTO + b"\x82\x01.",
    "name by stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "contains itself": PROTO + b"}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "encode to another codec": PROTO + b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    "no end": PROTO + b"}",
    "stack underflow": PROTO + b"R.",
    "key is a dict": PROTO + b"}}K\x01s.",
    "nested tuples as a key": PROTO + b"})" + b"2\x86" * 60 + b"K\x01s.",  # hashing takes 2**60 steps
    "nested tuples as a dtype": PROTO + b"cnumpy\ndtype\n)" + b"2\x86" * 60 + b"\x85R.",
    "shape of huge integers": PROTO
    + array_state(b"(" + (b"\x8a\x80" + b"\x7f" * 128) * 8 + b"t", F4, b"C\x04\0\0\0\0"),
    "operations without end": PROTO + b"}" * 1_000_000 + b".",
}


@pytest.mark.parametrize("name", RAW)
def test_crafted_operations_are_refused(tmp_path, name):
    path = tmp_path / "w.pdparams"
    path.write_bytes(RAW[name])
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"w\.pdparams"):
        load_weights(path)
    assert time.perf_counter() - started < 1


def test_a_small_file_cannot_grow_without_end(tmp_path):
    """One text of 1 MB, turned into bytes a hundred thousand times: 100 GB."""
    text = b"a" * 1_000_000
    once = b"c_codecs\nencode\nq\x01X" + struct.pack("<I", len(text)) + text + b"q\x02X\x06\x00\x00\x00latin1q\x030"
    path = tmp_path / "w.pdparams"
    path.write_bytes(PROTO + once + b"00" + b"]" + b"h\x01h\x02h\x03\x86Ra" * 100_000 + b".")
    with pytest.raises(CheckpointError, match="grows without end"):
        load_weights(path)


def test_mutants_of_genuine_files_do_no_harm(trained, tmp_path):
    path, rng, refused = tmp_path / "w.pdparams", random.Random(0), 0
    for protocol in PROTOCOLS:
        content = {"model": trained[0].state_dict(), "args": argparse.Namespace(a=1), "epoch": 3}
        paddle.save(content, str(path), protocol=protocol)
        good = path.read_bytes()
        for _ in range(700):
            bad = bytearray(good)
            for _ in range(rng.randint(1, 4)):
                place = rng.randrange(len(bad))
                if rng.random() < 0.5:
                    bad[place] = rng.randrange(256)
                elif rng.random() < 0.5:
                    del bad[place : place + rng.randint(1, 8)]
                else:
                    bad[place:place] = bad[rng.randrange(len(bad)) :][: rng.randint(1, 30)]
            path.write_bytes(bad)
            try:
                load_weights(path)
            except CheckpointError:
                refused += 1
    assert refused > 500
