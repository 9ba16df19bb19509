"""Image files to indexed tar shards, as they are, re-encoded smaller, or as raw pixels.

python -m datasets.pack --data_path ILSVRC2012 --split train --list ILSVRC2012/train_list.txt --output_dir shards
"""

import argparse
import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.cli import run
from common.cpus import usable_cpus
from common.errors import BadImage, DataError
from common.files import sha256_of_file

from .parallel import parallel_map
from .reading.dataset import open_dataset
from .reading.decode import MAX_BYTES, decode, read_bytes
from .reading.image_list import ImageList
from .reading.jpeg_tiles import encode_tiled
from .reading.shards import ENTRY, INDEX_FILE, LIST_FILE, SHARDS_FILE, ShardedImages

MAX_SIDE = 65_500  # of libjpeg
SETTINGS_FILE = "settings.json"  # written first: a second run goes on only with the same


@dataclass(frozen=True)
class Encoding:
    """How an image is stored: "as_is" copies the file; "jpeg" and "raw" (PPM) first shrink it to a short side."""

    store: str = "as_is"
    short_side: int | None = None
    quality: int = 90
    exif_orientation: str = "ignore"

    def encode(self, path: str) -> tuple[str, bytes]:
        """(extension, content) of the image at `path`. Raises BadImage, and DataError where it cannot be stored so."""
        data = read_bytes(path)
        if self.store == "as_is":
            return os.path.splitext(path)[1].lower() or ".jpg", bytes(data)
        image = self._shrunk(decode(data, path, self.exif_orientation))
        if max(image.size) > MAX_SIDE or (self.store == "raw" and 3 * image.width * image.height > MAX_BYTES - 20):
            raise DataError(f"{path}: {image.width} x {image.height} pixels are too many for --store {self.store}")
        if self.store == "raw":
            return ".ppm", b"P6\n%d %d\n255\n" % image.size + image.tobytes()
        return ".jpg", encode_tiled(image, self.quality)

    def _shrunk(self, image: Image.Image) -> Image.Image:
        short = min(image.size)
        if self.short_side is None or short <= self.short_side:
            return image
        size = tuple(round(length * self.short_side / short) for length in image.size)
        return image.resize(size, Image.Resampling.BICUBIC)


class Shard(NamedTuple):
    """A shard to write: where, which images from which number on, and how."""

    path: str
    first: int
    paths: Sequence[str]
    labels: Sequence[int]
    encoding: Encoding


def write_shard(shard: Shard) -> dict:
    """Write `shard` unless it is there; returns its facts. A killed writer leaves no file of the final name."""
    if not os.path.exists(shard.path):
        unfinished = f"{shard.path}.part"
        with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, (path, label) in enumerate(zip(shard.paths, shard.labels, strict=True), start=shard.first):
                extension, content = shard.encoding.encode(path)
                _add(tar, f"{number:09d}{extension}", content)
                _add(tar, f"{number:09d}.cls", str(label).encode())
        os.replace(unfinished, shard.path)
    entries = list(_entries(shard.path))
    if [label for _, _, label in entries] != list(shard.labels):
        raise DataError(f"{shard.path}: is of other images; remove it, or choose another --output_dir")
    return _facts(shard.path) | {"entries": entries}


def _facts(path: str | os.PathLike) -> dict:
    return {"name": os.path.basename(path), "bytes": os.path.getsize(path), "sha256": sha256_of_file(path)}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of nobody, in 1970: the same images give the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _entries(path: str) -> Iterator[tuple[int, int, int]]:
    """(offset, size, label) of the images in a shard, by its headers."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = tar.getmembers()
            for image, label in zip(members[::2], members[1::2], strict=True):
                yield image.offset_data, image.size, int(tar.extractfile(label).read())
    except (tarfile.TarError, ValueError) as error:
        raise DataError(f"{path}: is not a whole shard ({error}); remove it and pack again") from None


def pack(images: ImageList, folder: Path, *, prefix: str, encoding: Encoding, per_shard: int, num_workers: int) -> dict:
    """Write `images` to shards in `folder`, in their order; goes on where an earlier run was stopped.

    Raises:
        BadImage: an image that cannot be read.
        DataError: `folder` holds shards of other images or settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, {"images": images.fingerprint(), "per_shard": per_shard, **asdict(encoding)})
    jobs = [
        Shard(
            str(folder / f"{prefix}-{number:05d}.tar"),
            first,
            [images.path(i) for i in range(first, min(first + per_shard, len(images)))],
            images.labels[first : first + per_shard].tolist(),
            encoding,
        )
        for number, first in enumerate(range(0, len(images), per_shard))
    ]
    shards = list(parallel_map(write_shard, jobs, num_workers=num_workers, title="shards"))
    index = [(number, *entry) for number, shard in enumerate(shards) for entry in shard.pop("entries")]
    np.save(folder / INDEX_FILE, np.array(index, ENTRY))
    with (folder / LIST_FILE).open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for i in range(len(images)):
            name = os.path.relpath(images.path(i), images.root).replace("\n", "\\n")  # line i + 1 is of image i
            file.write(f"{name} {images.label(i)}\n")
    about = {"num_images": len(images), "class_names": images.class_names, "index": [_facts(folder / INDEX_FILE)]}
    about["shards"] = shards
    (folder / SHARDS_FILE).write_text(json.dumps(about, indent=1), encoding="utf-8")
    return about


def _claim(folder: Path, settings: dict) -> None:
    path, text = folder / SETTINGS_FILE, json.dumps(settings, indent=1)
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise DataError(f"{path}: the folder is of other images or settings; choose another --output_dir")


def check_shards(folder: Path, num_workers: int) -> None:
    """Compare every checksum of shards and index in `folder` with that of the packing. Raises DataError for others."""
    files = ShardedImages(folder).files()
    found = parallel_map(_checksum_or_error, list(files), num_workers=num_workers, title="checksums")
    bad = [path for path, sha256 in zip(files, found, strict=True) if sha256 != files[path]["sha256"]]
    if bad:
        raise DataError(f"{len(bad)} files are damaged, the first {bad[0]}; remove them and pack again")


def _checksum_or_error(path: str) -> str:
    try:
        return sha256_of_file(path)
    except OSError as error:
        return str(error)


def _from_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m datasets.pack", description=__doc__.splitlines()[0])
    parser.add_argument("--data_path", default="", help="root of the images")
    parser.add_argument("--split", default="train", help="name of the split: a folder of OUTPUT_DIR, as of --data_path")
    parser.add_argument("--list", help="list file of the split; default: the class folders of DATA_PATH/SPLIT")
    parser.add_argument("--output_dir", type=Path, required=True, help="root of the shards: a later --data_path")
    parser.add_argument("--nb_classes", type=int, default=2**31, help="refuse labels from this number on")
    parser.add_argument("--store", choices=("as_is", "jpeg", "raw"), default="as_is", help="%(default)s copies files")
    parser.add_argument("--short_side", type=_from_one, help="shrink to this short side (with --store jpeg or raw)")
    parser.add_argument("--quality", type=_from_one, default=90, help="of --store jpeg (%(default)s)")
    parser.add_argument("--exif_orientation", choices=("ignore", "apply"), default="ignore", help="for jpeg and raw")
    parser.add_argument("--per_shard", type=_from_one, default=2000, help="images in a shard (%(default)s)")
    parser.add_argument("--num_workers", type=int, default=usable_cpus())
    parser.add_argument("--check", action="store_true", help="only compare OUTPUT_DIR/SPLIT with its checksums")
    flags = parser.parse_args(arguments)
    folder = flags.output_dir / flags.split
    try:
        if flags.check:
            check_shards(folder, flags.num_workers)
            print(f"{folder}: all is as it was packed")
            return 0
        if flags.store == "as_is" and (flags.short_side or flags.exif_orientation == "apply"):
            parser.error("--short_side and --exif_orientation apply need --store jpeg or raw")
        images = open_dataset(flags.data_path, flags.split, flags.list, flags.nb_classes)
        if isinstance(images, ShardedImages):
            raise DataError(f"{images.root}: holds shards already; pack the original files")
        kept = len(list(folder.glob("*.tar")))
        encoding = Encoding(flags.store, flags.short_side, flags.quality, flags.exif_orientation)
        about = pack(
            images,
            folder,
            prefix=folder.name,
            encoding=encoding,
            per_shard=flags.per_shard,
            num_workers=flags.num_workers,
        )
    except BadImage as error:
        print(f"error: {error}; python -m datasets.check writes lists without such images", file=sys.stderr)
        return error.exit_code
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 74)
    size = sum(shard["bytes"] for shard in about["shards"])
    earlier = f" ({kept} of an earlier run)" if kept else ""
    print(f"{folder}: {about['num_images']} images in {len(about['shards'])} shards{earlier}, {size / 2**20:.0f} MB")
    return 0


if __name__ == "__main__":
    run(main)
