"""Crafted files of weights whose depth, width or number of digits grows from 1 to millions, for S2."""

import json
import random
import struct
from collections.abc import Callable

from tests.engine.torch_writer import FORMS, Name, Storage, tensor_of, zip_form

PROTO, TEXT = b"\x80\x04", b"X\x01\x00\x00\x00w"
LARGEST, RARELY_LARGEST = 5.0, 7.0  # powers of ten of the number of repetitions; the larger one in 1 of 250 files
HUGE = b"\x8a\x0a" + b"\xff" * 9 + b"\x7f"  # an integer of 10 bytes
ONE_NUMBER = struct.pack("<f", 1.0)

Maker = Callable[[random.Random], bytes]

# (before, what is repeated, between, what is repeated as often, behind)
PICKLES = [
    (b"", b"]", b"", b"a", b""),
    (b"", b"}" + TEXT, b"N", b"s", b""),
    (b"", b"(", b"", b"t", b""),
    (b"}", b")2\x86", b"", b"", b"Ns"),
    (b"})", b"2\x86", b"", b"", b"Ns"),
    (b"\x8f()", b"2\x86", b"", b"", b"\x90"),
    (b"", b"N0", b"", b"", b"N"),
    (b"", b"\x8f", b"", b"", b""),
    (b"N", b"\x94", b"", b"", b""),
    (b"N", b"\x85", b"", b"", b""),
    (b"]\x94", b"h\x00", b"", b"a", b""),
    (b"ccollections\nOrderedDict\n\x94](", b"N", b"e\x85\x94", b"h\x00h\x01R0", b"N"),
    (b"c_codecs\nencode\n\x94(V", b"a", b"\nV latin1\nt\x94", b"h\x00h\x01R0", b"N"),
    (b"V", b"\\u0041", b"", b"", b"\n"),
    (b"S'", b"\\x41", b"", b"", b"'\n"),
    (b"I", b"9", b"", b"", b"\n"),
    (b"F0.", b"9", b"", b"", b"\n"),
    (b"Np", b"9", b"", b"", b"\n"),
    (b"c", b"a", b"\n", b"b", b"\n"),
    (b"", b"cnumpy\ndtype\n(", b"V f4\n", b"tR", b""),
    (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00(", HUGE, b"t(", b"K\x01", b"ttR"),
    (b"cnumpy.core.multiarray\n_reconstruct\n(NK\x00tR(K\x01(", HUGE, b"t", b"", b"Nttb"),
    (b"cmy.net\nNet\n)R", b"}b", b"", b"", b""),
    (b"(", TEXT + b"N", b"d", b"", b""),
    (b"ctorch.storage\nUntypedStorage\n", b"Q", b"", b"", b""),
]  # fmt: skip
# The same for the header of a safetensors file and for the settings of a checkpoint.
JSONS = [
    ("", "[", "", "]", ""),
    ("", '{"a":', "1", "}", ""),
    ("[", "[],", "", "", "1]"),
    ("[", '{"a":1},', "", "", "1]"),
    ("[", "1.5e3,", "", "", "1]"),
    ("", "9", "", "", ""),
    ("0.", "9", "", "", ""),
    ("1e", "9", "", "", ""),
    ('"', "\\u0041", "", "", '"'),
    ('"', "a", "", "", '"'),
    ('{"dtype":"F32","shape":[1', ",281474976710655", "", "", '],"data_offsets":[0,4]}'),
    ('{"dtype":"F32","shape":[', "[", "", "]", '],"data_offsets":[0,4]}'),
    ('{"dtype":"F32","shape":[1],"data_offsets":[0,', "9", "", "", "]}"),
]
PLACES = ("next_epoch", "best_top1_percent", "info", "lr_meter", "scaler", "environment", "class_names", "args")


def growing_makers(sealed_settings: Callable[[bytes], bytes]) -> list[Maker]:
    """Functions that make a file each; `sealed_settings` makes a checkpoint with a true checksum of the settings."""
    return [
        *(lambda rng, parts=parts: PROTO + repeated(parts, rng) + b"." for parts in PICKLES),
        *(lambda rng, parts=parts, form=form: form(PROTO + repeated(parts, rng) + b".")
          for parts in PICKLES for form in FORMS.values()),
        *(lambda rng, parts=parts: safetensors_file(repeated(parts, rng)) for parts in JSONS),
        *(lambda rng, parts=parts: sealed_settings(settings(repeated(parts, rng), rng)) for parts in JSONS),
        *(lambda rng, form=form: form({"w": view(rng)}) for form in FORMS.values()),
        *(lambda rng, form=form: form({f"w{i}": view(rng) for i in range(min(times(rng), 300))})
          for form in FORMS.values()),
        lambda rng: zip_form(b"N.", more={f"data/{i}": b"" for i in range(min(times(rng), 3000))}),
        lambda rng: b"\x80\x02" + bytes(times(rng)),
    ]  # fmt: skip


def times(rng: random.Random) -> int:
    """How often something is repeated: most often a few times, at most ten million times."""
    return int(10 ** rng.uniform(0, RARELY_LARGEST if rng.randrange(250) == 0 else LARGEST))


def repeated(parts: tuple, rng: random.Random) -> bytes | str:
    """A text that grows in one place, or in two places by the same number."""
    before, first, between, second, behind = parts
    count = min(times(rng), 30_000_000 // (len(first) + len(second)))
    return before + first * count + between + second * count + behind


def view(rng: random.Random) -> object:
    """A tensor of one number that is seen as one of any shape."""
    size = tuple(int(10 ** rng.uniform(0, 5)) for _ in range(rng.randint(0, 40)))
    stride = tuple(rng.choice((0, 0, 1, -1, 1 << 40)) for _ in size)
    kind = rng.choice(("FloatStorage", "ByteStorage", "BFloat16Storage"))
    storage = Storage("0", ONE_NUMBER, kind, rng.choice((1, 4))) if rng.randrange(9) else Name("os", "system")
    return tensor_of(storage, rng.choice((0, 0, 1, -1, 1 << 60)), size, stride)


def safetensors_file(entry: str) -> bytes:
    """A file of one tensor with this entry in its header."""
    header = b'{"w":' + entry.encode() + b"}"
    return len(header).to_bytes(8, "little") + header + ONE_NUMBER


def settings(value: str, rng: random.Random) -> bytes:
    """The settings of a checkpoint with this value in one place."""
    place = rng.choice(PLACES)
    inner = f'"info":{{"{place}":{value}}}' if place in ("class_names", "args") else f'"{place}":{value}'
    return json.dumps('{"next_step":0,' + inner + "}").encode()
