"""Files of torch.save give their tensors bit for bit without PyTorch; nothing in a file runs, and all is bounded."""

import argparse
import io
import random
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from common.errors import CheckpointError
from engine.restricted_pickle import PickleMachine
from engine.torch_pickle import read_torch_file
from engine.torch_weights import read_torch_sections
from tests.engine.torch_writer import (
    FORMS,
    Call,
    Name,
    Storage,
    bystanders,
    genuine,
    legacy_form,
    module,
    mutant,
    parameter,
    pickled,
    tensor,
    tensor_of,
    zip_form,
)

ONES = np.ones((2, 3), np.float32)
ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def read(data: bytes) -> dict[str, np.ndarray]:
    return read_torch_sections(data, "w.pth").arrays["model"]


def remarks_of(data: bytes) -> list[str]:
    return read_torch_sections(data, "w.pth").remarks


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


# --- Tensors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["f8", "f4", "f2", "c8", "i8", "i4", "i2", "i1", "u1"])
def test_numbers_of_every_type(form, code):
    array = np.array([[0, 1, 2], [100, 5, 7]]).astype(code)
    found = read(form({"w": tensor(array)}))["w"]
    assert found.dtype == array.dtype and found.tobytes() == array.tobytes() and found.shape == (2, 3)


def test_bfloat16_becomes_float32_and_bytes_become_bool(form):
    half = np.array([0x3F80, 0xC020], np.uint16)
    flags = np.array([0, 1, 7], np.uint8)
    found = read(form({"h": tensor(half, "0", code="bf16"), "b": tensor(flags, "1", code="b1")}))
    assert found["h"].dtype == np.float32 and found["h"].tolist() == [1.0, -2.5]
    assert found["b"].dtype == bool and found["b"].tolist() == [False, True, True]


def test_types_without_a_class_of_storage(form):
    raw = np.array([1, 65535], np.uint16).tobytes()
    storage = Storage("0", raw, "UntypedStorage", len(raw))
    call = Call(
        Name("torch._utils", "_rebuild_tensor_v3"),
        storage,
        0,
        (2,),
        (1,),
        False,
        OrderedDict(),
        Name("torch", "uint16"),
    )
    assert read(form({"w": call}))["w"].tolist() == [1, 65535]


def test_views_tied_and_transposed_tensors_share_a_storage(form):
    content = {
        "all": tensor(ROWS),
        "tied": tensor(ROWS),
        "transposed": tensor(ROWS, view=(0, (4, 3), (1, 4))),
        "part": tensor(ROWS, view=(5, (2, 2), (4, 1))),
        "every other": tensor(ROWS, view=(0, (6,), (2,))),
        "expanded": tensor(ROWS, view=(2, (5, 2), (0, 1))),
        "number": tensor(ROWS, view=(7, (), ())),
    }
    found = read(form(content))
    assert found["all"].tolist() == found["tied"].tolist() == ROWS.tolist()
    assert found["transposed"].tolist() == ROWS.T.tolist() and found["transposed"].flags.c_contiguous
    assert found["part"].tolist() == [[5, 6], [9, 10]]
    assert found["every other"].tolist() == [0, 2, 4, 6, 8, 10]
    assert found["expanded"].tolist() == [[2, 3]] * 5
    assert found["number"].shape == () and found["number"] == 7


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2), ()])
def test_tensors_without_elements_and_without_dimensions(form, shape):
    assert read(form({"w": tensor(np.zeros(shape, np.float32))}))["w"].shape == shape


def test_big_endian_files_and_tensors_on_cuda():
    swapped = tensor(ROWS, location="cuda:3", order=">")
    for data in (zip_form({"w": swapped}, order="big"), legacy_form({"w": swapped}, little_endian=False)):
        found = read(data)["w"]
        assert found.tolist() == ROWS.tolist() and found.dtype.isnative
    assert read(zip_form({"w": tensor(ROWS)}, order=None))["w"].tolist() == ROWS.tolist()
    with pytest.raises(CheckpointError, match="neither little nor big"):
        read(zip_form({"w": swapped}, order="middle"))


def test_parameters_subclasses_and_delayed_operations(form):
    first = Call(
        Name("torch._utils", "_rebuild_tensor"), Storage("0", ONES.tobytes(), "FloatStorage", 6), 0, (6,), (1,)
    )
    with_attributes = Call(
        Name("torch._tensor", "_rebuild_from_type_v2"), Name("torch._utils", "_rebuild_tensor_v2"),
        Name("torch", "Tensor"), (storage(), 0, (2,), (1,), False, OrderedDict()), {"note": 1},
    )  # fmt: skip
    number = Storage("1", np.array([1 + 2j], np.complex64).tobytes(), "ComplexFloatStorage", 1)
    turned = tensor_of(number, 0, (1,), (1,), {"conj": True, "neg": True})
    state = Call(Name("torch._utils", "_rebuild_parameter_with_state"), tensor(ONES), True, OrderedDict(), {"a": 1})
    content = {"a": parameter(tensor(ONES)), "b": first, "c": with_attributes, "d": turned, "e": state}
    found = read(form(content))
    assert [found[name].tolist() for name in "abce"] == [ONES.tolist(), [1] * 6, [1, 1], ONES.tolist()]
    assert found["d"].tolist() == [-1 + 2j]


def test_a_part_of_a_storage_as_old_files_have_it():
    storage = Storage("0", ROWS.tobytes(), "FloatStorage", 12, more=(("view", 4, 4),))
    assert read(legacy_form({"w": tensor_of(storage, 1, (3,), (1,))}))["w"].tolist() == [5, 6, 7]


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])  # in protocol 0 persistent ids cannot be tuples
def test_pickles_of_every_protocol(protocol):
    others = [1, -3, 2**31, 2**70, 1.5, b"x", "é", None, True, {3}, frozenset({4}), bytearray(b"y"), (1, 2, 3, 4)]
    content = OrderedDict({"net": OrderedDict({"w": tensor(ROWS), "é": tensor(ONES, "1")}), "others": others})
    assert read(zip_form(content, protocol=protocol))["é"].tolist() == ONES.tolist()


@pytest.mark.parametrize(
    ("line", "value"),
    [(b"I12\n", 12), (b"I01\n", True), (b"L-5L\n", -5), (b"F1.5\n", 1.5), (b"S'a\\n'\n", "a\n"), (b"V\\u00e9\n", "é")],
)
def test_lines_of_protocol_0(line, value):
    (found,) = read_torch_file(zip_form(b"(lp0\n" + line + b"a."), "w.pth").content
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("_rebuild_sparse_tensor", "a sparse tensor"),
        ("_rebuild_qtensor", "a quantized tensor"),
        ("_rebuild_meta_tensor_no_storage", "on the meta device"),
    ],
)
def test_special_tensors_are_an_error_only_among_the_weights(form, function, message):
    special = Call(Name("torch._utils", function), 1, 2, 3)
    with pytest.raises(CheckpointError, match=rf"w\.pth: the tensor 'conv\.weight': .*{message}"):
        read(form({"conv.weight": special}))
    assert list(read(form({"state_dict": {"w": tensor(ONES)}, "optimizer": special}))) == ["w"]


# --- Where the weights are ------------------------------------------------------------------------------------------

WEIGHTS = {"w": tensor(ONES)}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (WEIGHTS, ""),
        (OrderedDict(WEIGHTS), ""),
        *(
            ({name: WEIGHTS, "epoch": 3}, name)
            for name in (
                "state_dict",
                "model",
                "model_state_dict",
                "net",
                "weights",
                "model_ema",
                "ema",
                "params",
                "module",
            )
        ),
        ({"model": {"state_dict": WEIGHTS}}, "model.state_dict"),
        ({"ema": {"module": {"state_dict": WEIGHTS}}}, "ema.module.state_dict"),
        ({"model": WEIGHTS, "loss": tensor(ONES, "9")}, "model"),
        (Call(Name("collections", "defaultdict"), Name("builtins", "list"), pairs={"net": WEIGHTS}), "net"),
    ],
)
def test_the_weights_are_found(form, content, place):
    data = form(content)
    assert {name: array.tolist() for name, array in read(data).items()} == {"w": ONES.tolist()}
    assert any(f"'{place}'" in remark for remark in remarks_of(data)) or not place


def test_model_and_average_are_told_apart(form):
    content = {"model_ema": {"module": {"w": tensor(2 * ONES, "1")}}, "model": {"w": tensor(ONES)}}
    sections = read_torch_sections(form(content), "w.pth")
    assert sections.arrays["model"]["w"][0, 0] == 1 and sections.arrays["model_ema"]["w"][0, 0] == 2
    only = read_torch_sections(form({"ema": {"w": tensor(ONES)}}), "w.pth")
    assert only.arrays["model"]["w"][0, 0] == 1
    assert "the file has no weights beside the moving average under 'ema'" in only.remarks[0]


def test_a_pickled_model_gives_the_tensors_of_its_layers(form):
    inner = module(parameters={"weight": parameter(tensor(ONES)), "bias": None}, modules={})
    data = form({"model": module(parameters={"scale": tensor(ONES, "1")}, modules={"0": inner, "1": None})})
    assert list(read(data)) == ["scale", "0.weight"]


def test_what_is_no_tensor_is_left_out_and_said(form):
    data = form({"w": tensor(ONES), "_extra_state": None, 7: 8, "config": {"a": 1}})
    assert list(read(data)) == ["w"]
    assert remarks_of(data) == ["3 entries of the file are no tensors: _extra_state, 7, config"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 1, "generator": {"w": tensor(ONES)}}, "its entries are epoch, generator"),
        ([tensor(ONES)], "holds a list"),
        ({}, "its entries are none"),
        (3, "holds a int"),
    ],
)
def test_a_file_without_weights_says_what_it_has(form, content, message):
    with pytest.raises(CheckpointError, match=message):
        read(form(content))


# --- Objects of other packages --------------------------------------------------------------------------------------


def test_objects_of_other_packages_are_not_refused_and_not_built(form):
    data = form({**bystanders(), "state_dict": {"w": tensor(ONES, "1")}})
    assert read(data)["w"].tolist() == ONES.tolist()
    content = read_torch_file(data, "w.pth").content
    assert {type(content[name]).__name__ for name in ("args", "enum", "partial", "attack", "eval", "device")} == {
        "Placeholder"
    }
    assert content["args"].state == {"lr": 0.1} and not isinstance(content["args"], argparse.Namespace)
    assert content["size"] == (1, 2)


def test_weights_that_are_no_tensors_of_torch_are_named(form):
    array = Call(Name("numpy.core.multiarray", "_reconstruct"), Name("numpy", "ndarray"), (0,), b"b")
    with pytest.raises(CheckpointError, match=r"no table of tensors .* its entries are conv\.weight"):
        read(form({"conv.weight": array}))


# --- Crafted and damaged files --------------------------------------------------------------------------------------

PROTO, REBUILD = b"\x80\x02", b"ctorch._utils\n_rebuild_tensor_v2\n"
NESTED = b")" + b"2\x86" * 60  # a tuple of two tuples of two tuples ..., whose hash takes 2**60 steps
PICKLES = {
    "nested tuples as a key": PROTO + b"}" + NESTED + b"Ns.",
    "nested tuples as a key of a set": b"\x80\x04\x8f(" + NESTED + b"\x90.",
    "nested tuples as a name": b"\x80\x04" + NESTED + b"2\x93.",
    "nested tuples as a storage": PROTO + NESTED + b"Q.",
    "nested tuples as a dtype": PROTO + b"ctorch._utils\n_rebuild_tensor_v3\n(NK\x00))\x89N" + NESTED + b"tR.",
    "no end": PROTO + b"}",
    "empty": b"",
    "stack underflow": PROTO + b"R.",
    "mark underflow": PROTO + b"u.",
    "mark above the stack": PROTO + b"N(00t.",
    "unknown protocol": b"\x80\x09N.",
    "unknown operation": PROTO + b"\xffN.",
    "extension": PROTO + b"\x82\x01.",
    "out of band buffer": b"\x80\x05\x97.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "huge text": PROTO + b"X\xff\xff\xff\x7fx.",
    "negative length": PROTO + b"T\xff\xff\xff\xffx.",
    "negative integer length": PROTO + b"\x8b\xff\xff\xff\xff.",
    "long decimal": b"I" + b"9" * 4000 + b"\n.",
    "long memo index": b"Np" + b"9" * 200 + b"\n.",
    "unknown memo": PROTO + b"h\x07.",
    "huge memo index": b"Np99999999999999\n.",
    "line without end": b"I1234",
    "text without quotes": b"Sabc\n.",
    "not UTF-8": PROTO + b"X\x01\x00\x00\x00\xff.",
    "item of a number": PROTO + b"K\x01K\x02K\x03s.",
    "append to a number": PROTO + b"K\x01K\x02a.",
    "state of a number": PROTO + b"K\x01K\x02b.",
    "state of a function": PROTO + REBUILD + b"}b.",
    "call of a number": PROTO + b"K\x01)R.",
    "arguments are a list": PROTO + REBUILD + b"]R.",
    "too few arguments": PROTO + REBUILD + b")R.",
    "key without value": PROTO + b"}(K\x01u.",
    "contains itself": PROTO + b"}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "list that contains itself": PROTO + b"]q\x00h\x00a.",
    "deep": PROTO + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep dicts": PROTO + b"}" + b"X\x05\x00\x00\x00model}" * 50_000 + b"s" * 50_000 + b".",
    "operations without end": PROTO + b"N0" * 1_000_000 + b".",
    "dicts without end": PROTO + b"}" * 2_000_000 + b".",
    "sets without end": b"\x80\x04" + b"\x8f" * 2_000_000 + b".",
    "memo without end": b"\x80\x04N" + b"\x94" * 2_000_000 + b".",
    "calls that copy a long list": PROTO + b"ccollections\nOrderedDict\nq\x010(" + b"N" * 100_000 + b"l\x85q\x020"
    + b"h\x01h\x02R0" * 50_000 + b".",
    "huge storage": PROTO + b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    + b"\x8a\x10" + b"\xff" * 15 + b"\x7ftQ.",
}  # fmt: skip


def storage(raw: bytes = ONES.tobytes(), kind: str = "FloatStorage", count: int = 6) -> Storage:
    return Storage("0", raw, kind, count)


def crafted_tensors() -> dict:
    huge = (1 << 900,) * 30
    inner = module(parameters={"w": tensor(ONES)}, modules={})
    for _ in range(40):
        inner = module(parameters={}, modules={"a": inner, "b": inner})
    return {
        "one number as 32768 x 32768": tensor_of(storage(), 0, (32768, 32768), (0, 0)),
        "one number in many dimensions": tensor_of(storage(), 0, (16,) * 30, (0,) * 30),
        "too many dimensions": tensor_of(storage(), 0, (1,) * 64, (0,) * 64),
        "huge integers as a shape": tensor_of(storage(), 0, huge, (0,) * 30),
        "huge offset": tensor_of(storage(), 1 << 60, (1,), (1,)),
        "beyond the end": tensor_of(storage(), 1, (6,), (1,)),
        "stride beyond the end": tensor_of(storage(), 0, (2,), (6,)),
        "negative stride": tensor_of(storage(), 5, (6,), (-1,)),
        "negative side": tensor_of(storage(), 0, (-1,), (1,)),
        "negative offset": tensor_of(storage(), -1, (1,), (1,)),
        "float as a side": tensor_of(storage(), 0, (1.0,), (1,)),
        "bool as a side": tensor_of(storage(), 0, (True,), (1,)),
        "text as a side": tensor_of(storage(), 0, "12", (1, 1)),
        "other number of strides": tensor_of(storage(), 0, (6,), ()),
        "storage is a number": tensor_of(3, 0, (6,), (1,)),
        "storage of an unknown class": tensor_of(storage(kind="StringStorage"), 0, (6,), (1,)),
        "shorter than it says": tensor_of(storage(count=7), 0, (6,), (1,)),
        "longer than it says": tensor_of(storage(count=5), 0, (5,), (1,)),
        "negative count": tensor_of(storage(count=-1), 0, (5,), (1,)),
        "layers that contain each other": inner,
        "many views": {f"w{i}": tensor_of(storage(), 0, (256, 256), (0, 0)) for i in range(3000)},
    }


@pytest.mark.parametrize("name", PICKLES)
def test_crafted_pickles_are_refused(form, name):
    with pytest.raises(CheckpointError, match=r"^w\.pth"):
        read(form(PICKLES[name]))


@pytest.mark.parametrize("name", crafted_tensors())
def test_crafted_tensors_are_refused(form, name):
    crafted = crafted_tensors()[name]
    with pytest.raises(CheckpointError, match=r"^(w\.pth|refused)"):
        read(form(crafted if isinstance(crafted, dict) else {"model": crafted, "w": crafted}))


def repacked(change) -> bytes:
    """A sound archive whose entries [(name, bytes)] were changed."""
    with zipfile.ZipFile(io.BytesIO(zip_form({"w": tensor(ROWS)}))) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, raw in change(entries):
            archive.writestr(name, raw)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entries: [*entries, entries[0]], "two entries 'archive/data.pkl'"),
        (lambda entries: entries[1:], "not of torch.save"),
        (lambda entries: [*entries, ("other/data.pkl", b"")], "not of torch.save"),
        (lambda entries: [*entries, ("archive/code/net.py", b"")], "a TorchScript archive"),
        (lambda entries: [*entries, ("archive/constants.pkl", b"")], "a TorchScript archive"),
        (lambda entries: [e for e in entries if e[0] != "archive/data/0"], "no entry 'archive/data/0'"),
        (lambda entries: [*entries, *((f"e{i}", b"") for i in range(100))], "104 entries; at most 100 are read"),
    ],
)
def test_archives_of_other_programs_are_refused(change, message, monkeypatch):
    monkeypatch.setattr("engine.stored_zip.MAX_ENTRIES", 100)
    with pytest.raises(CheckpointError, match=message):
        read(repacked(change))


def test_compressed_entries_are_read_where_they_are_small():
    assert read(zip_form({"w": tensor(ROWS)}, method=zipfile.ZIP_DEFLATED))["w"].tolist() == ROWS.tolist()
    bomb = tensor(np.zeros(1 << 24, np.float32))
    with pytest.raises(CheckpointError, match="is compressed, which"):
        read(zip_form({"w": bomb}, method=zipfile.ZIP_DEFLATED))
    with pytest.raises(CheckpointError, match="by method 14"):
        read(zip_form({"w": tensor(ROWS)}, method=zipfile.ZIP_LZMA))


def test_entries_that_share_bytes_are_refused():
    data = bytearray(zip_form({"w": tensor(ROWS), "v": tensor(ROWS + 1, "1")}))
    rows = [at for at in range(len(data)) if data[at : at + 4] == b"PK\x01\x02"]
    places = {bytes(data[at + 46 :][: struct.unpack_from("<H", data, at + 28)[0]]): at for at in rows}
    first, second = places[b"archive/data/0"], places[b"archive/data/1"]
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    with pytest.raises(CheckpointError, match="is not where the directory says"):
        read(bytes(data))


def test_an_integer_of_many_digits_is_refused():
    def load(data: bytes):
        return PickleMachine(data, lambda module, name: None).load()[0]

    assert load(b"I" + b"9" * 256 + b"\n.") == 10**256 - 1
    with pytest.raises(CheckpointError, match="an integer of 257 digits"):
        load(b"I" + b"9" * 257 + b"\n.")


def test_entries_that_reach_into_others_are_refused():
    data = bytearray(zip_form({"w": tensor(ROWS), "v": tensor(ROWS + 1, "1")}))
    [at] = [
        at
        for at in range(len(data))
        if data[at : at + 4] == b"PK\x01\x02" and data[at + 46 :][:14] == b"archive/data/0"
    ]
    for place in (at + 20, at + 24):  # both sizes
        struct.pack_into("<I", data, place, ROWS.nbytes + 100)
    with pytest.raises(CheckpointError, match="overlap"):
        read(bytes(data))


def test_archives_without_checksums_are_read_and_wrong_ones_are_damage():
    """torch can be told to write no checksums; each is then 0."""
    data = bytearray(zip_form({"w": tensor(ROWS)}))
    place = data.index(ROWS.tobytes())
    data[place] ^= 1
    with pytest.raises(CheckpointError, match="checksum"):
        read(bytes(data))
    for at in range(len(data)):
        if data[at : at + 4] == b"PK\x01\x02":
            data[at + 16 : at + 20] = bytes(4)
    assert read(bytes(data))["w"].shape == (3, 4)


def test_every_truncation_is_found():
    for form in FORMS.values():
        good = form({"w": tensor(ROWS), "v": tensor(ONES, "1")})
        for length in range(4, len(good)):
            with pytest.raises(CheckpointError):
                read(good[:length])


def test_mutants_of_genuine_files_do_no_harm():
    """Those of the zip form are nearly all found by checksums, so pickles are changed before they are packed, too."""
    rng, refused = random.Random(0), 0
    files = genuine()
    pickle_bytes, storages = pickled({"state_dict": {"w": tensor(ROWS)}, **bystanders()})
    raw = {f"data/{key}": storage.raw for key, storage in storages.items()}
    for number in range(2000):
        data = zip_form(mutant(pickle_bytes, rng), more=raw) if number % 3 == 0 else mutant(rng.choice(files), rng)
        try:
            read(data)
        except CheckpointError:
            refused += 1
    assert refused > 1000
