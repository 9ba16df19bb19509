"""Pack image files into indexed tar shards: as they are, re-encoded smaller, or as raw pixels.

python -m datasets.pack --data_path ILSVRC2012 --split train --list ILSVRC2012/train_list.txt --output_dir shards
"""

if __name__ == "__main__":  # before the imports: what is not installed is named without a traceback
    from common.cli import require_packages

    require_packages("numpy", "PIL", "rich")

import argparse
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.cli import home_path, non_negative_int, positive_int, run
from common.cpus import usable_cpus
from common.errors import BadImage, DataError
from common.files import (
    CHECKSUM_SUFFIX,
    atomic_write,
    checksum_beside,
    disk_errors,
    remove_abandoned_in,
    set_aside,
    sha256_of_file,
    write_atomically,
    write_checksum_beside,
)
from common.printable import print_safely
from common.regular_files import read_regular

from .parallel import parallel_map
from .reading.dataset import open_dataset
from .reading.decode import decode, read_bytes
from .reading.image_list import ImageList
from .reading.jpeg import encode_tiled
from .reading.limits import MAX_BYTES
from .reading.shards import (
    ENTRY,
    INDEX_FILE,
    LIST_FILE,
    MAX_SETTINGS_BYTES,
    SETTINGS_FILE,
    SHARDS_FILE,
    ShardedImages,
)

MAX_SIDE = 65_500  # of libjpeg


@dataclass(frozen=True)
class Encoding:
    """How an image is stored: "as_is" copies the file; "jpeg" and "raw" (PPM) first shrink it to a short side.

    Args:
        store: "as_is", "jpeg" or "raw".
        short_side: short side of larger images in pixels; None keeps the size.
        quality: quality of "jpeg", 1 to 100.
        exif_orientation: "ignore", or "apply" to rotate photographs as EXIF says.
    """

    store: str = "as_is"
    short_side: int | None = None
    quality: int = 90
    exif_orientation: str = "ignore"

    def encode(self, path: str) -> tuple[str, bytes]:
        """Encode the image at `path`.

        Returns:
            Extension and content of the file in the shard.

        Raises:
            BadImage: the image cannot be decoded.
            DataError: the image is too large for this encoding.
        """
        data = read_bytes(path)
        if self.store == "as_is":
            return os.path.splitext(path)[1].lower() or ".jpg", bytes(data)
        image = self._shrunk(decode(data, path, self.exif_orientation, may_shrink=self.short_side is not None))
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
    """One shard to write."""

    path: str
    first: int  # number of its first image in the data set
    paths: Sequence[str]
    labels: Sequence[int]
    encoding: Encoding


def write_shard(shard: Shard) -> dict:
    """Write a shard, or keep the file of its name if it is undamaged, and return the facts of the shard.

    A killed writer leaves no file of that name. Its checksum is written beside it, and is compared when an earlier
    shard is kept: a bit that flipped since then must not become the truth. A file without a checksum is written again,
    and so is one whose images had other sizes when they were packed.

    Raises:
        BadImage: an image cannot be decoded.
        DataError: what exists is no regular file, or holds other images.
        DiskError: the shard cannot be written.
    """
    if os.path.lexists(shard.path) and not os.path.isfile(shard.path):
        raise DataError(f"{shard.path}: is no regular file; remove it and pack again")
    path, is_there = Path(shard.path), os.path.exists(shard.path)
    sha256 = _verified_checksum(path) if is_there else None
    is_kept = sha256 is not None and _is_of_these_files(shard)
    if not is_kept:
        with disk_errors(path):
            (path.parent / SHARDS_FILE).unlink(missing_ok=True)  # it says that the folder is complete
            path.with_name(path.name + CHECKSUM_SUFFIX).unlink(missing_ok=True)
            with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for number, (image, label) in enumerate(zip(shard.paths, shard.labels, strict=True), start=shard.first):
                    extension, content = shard.encoding.encode(image)
                    _add(tar, f"{number:09d}{extension}", content)
                    _add(tar, f"{number:09d}.cls", str(label).encode())
            write_checksum_beside(path, sha256 := sha256_of_file(path), _sizes_of(shard))
    entries = list(_entries(shard.path))
    if [label for _, _, label in entries] != list(shard.labels):
        raise DataError(f"{shard.path}: holds other images; remove the file, or choose another --output_dir")
    facts = {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256}
    return facts | {"entries": entries, "is_rewritten": is_there and not is_kept}


def _verified_checksum(path: Path) -> str | None:
    """The checksum of a shard; None if it is not the one beside it, or if there is none."""
    try:
        expected = checksum_beside(path)
    except (OSError, ValueError):
        return None
    return expected if expected and expected == sha256_of_file(path) else None


def _is_of_these_files(shard: Shard) -> bool:
    """Whether the files of an existing shard had the sizes when it was packed that they have now."""
    try:
        beside = Path(f"{shard.path}{CHECKSUM_SUFFIX}").read_text(encoding="ascii", errors="replace")
        return _sizes_of(shard) in beside
    except OSError:
        return False


def _sizes_of(shard: Shard) -> str:
    """The sizes of the files that a shard is made of, for the comment beside its checksum."""
    sizes = " ".join(str(os.path.getsize(path)) for path in shard.paths)
    return f"sizes of the files: {hashlib.sha256(sizes.encode()).hexdigest()}"


def _facts(path: str | os.PathLike) -> dict:
    return {"name": os.path.basename(path), "bytes": os.path.getsize(path), "sha256": sha256_of_file(path)}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # without owner and time: the same images give the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _entries(path: str) -> Iterator[tuple[int, int, int]]:
    """(offset, size, label) of the images in a shard, read from its headers."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = tar.getmembers()
            for image, label in zip(members[::2], members[1::2], strict=True):
                yield image.offset_data, image.size, int(tar.extractfile(label).read())
    except (tarfile.TarError, ValueError) as error:
        raise DataError(f"{path}: is not a whole shard ({error}); remove the file and pack again") from None


def pack(images: ImageList, folder: Path, *, encoding: Encoding, per_shard: int, num_workers: int) -> dict:
    """Write images to shards in their order, and continue where an earlier run was stopped.

    Args:
        images: the data set.
        folder: folder of the shards, whose names begin with that of the folder.
        encoding: how an image is stored.
        per_shard: images in a shard.
        num_workers: number of processes.

    Returns:
        What shards.json says (number of images, class names, the facts of the files), and "num_rewritten": how many
        existing shards were written again.

    Raises:
        BadImage: an image cannot be decoded.
        DataError: `folder` holds shards of other images or settings.
        DiskError: a file cannot be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned_in(folder)
    _claim(folder, {"images": images.fingerprint(), "per_shard": per_shard, **asdict(encoding)})
    jobs = [
        Shard(
            str(folder / f"{folder.name}-{number:05d}.tar"),
            first,
            [images.path(i) for i in range(first, min(first + per_shard, len(images)))],
            images.labels[first : first + per_shard].tolist(),
            encoding,
        )
        for number, first in enumerate(range(0, len(images), per_shard))
    ]
    shards = list(parallel_map(write_shard, jobs, num_workers=num_workers, title="shards"))
    rewritten = [shard["name"] for shard in shards if shard.pop("is_rewritten")]
    if rewritten:
        names = ", ".join(rewritten)
        print_safely(
            f"note: {folder}: written again, because they were damaged, had no checksum, or their images changed: "
            f"{names}"
        )
    index = [(number, *entry) for number, shard in enumerate(shards) for entry in shard.pop("entries")]
    with disk_errors(folder):
        with atomic_write(folder / INDEX_FILE) as file:
            np.save(file, np.array(index, ENTRY))
        with atomic_write(folder / LIST_FILE, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            for i in range(len(images)):
                name = os.path.relpath(images.path(i), images.root).replace("\n", "\\n")  # line i + 1 names image i
                file.write(f"{name} {images.label(i)}\n")
        about = {"num_images": len(images), "class_names": images.class_names, "index": [_facts(folder / INDEX_FILE)]}
        about |= {"list": [_facts(folder / LIST_FILE)], "shards": shards}
        write_atomically(folder / SHARDS_FILE, json.dumps(about, indent=1))
    return about | {"num_rewritten": len(rewritten)}


def _claim(folder: Path, settings: dict) -> None:
    """Write the settings of the folder, or compare them with those of an earlier run; damaged ones are set aside."""
    path, text = folder / SETTINGS_FILE, json.dumps(settings, indent=1)
    with disk_errors(path):
        earlier = _read_settings(path)
        if earlier is None:
            write_atomically(path, text)
    if earlier not in (None, settings):
        raise DataError(f"{path}: the folder holds other images or settings; choose another --output_dir")


def _read_settings(path: Path) -> dict | None:
    """The settings of an earlier run; None without a file, or for a damaged one, after which no shard is kept."""
    try:
        settings = json.loads(read_regular(path, MAX_SETTINGS_BYTES))
        if isinstance(settings, dict) and settings.keys() >= {"images", "per_shard", "store"}:
            return settings
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        pass
    aside = set_aside(path)
    for checksum in path.parent.glob(f"*.tar{CHECKSUM_SUFFIX}"):  # of shards whose settings nobody knows
        checksum.unlink()
    print_safely(f"note: {path} is damaged: it is now {aside}, and all shards are packed anew")
    return None


def check_shards(folder: Path, num_workers: int) -> None:
    """Compare the checksum of every shard, and of the index, with the checksum when it was packed.

    Raises:
        DataError: the index of the folder cannot be read, or a file has another checksum.
    """
    files = ShardedImages(folder).files()
    checksums = parallel_map(_checksum_or_error, list(files), num_workers=num_workers, title="checksums")
    bad = [path for path, checksum in zip(files, checksums, strict=True) if checksum != files[path]["sha256"]]
    if bad:
        which = f"{len(bad)} files are damaged, the first {bad[0]}" if len(bad) > 1 else f"{bad[0]} is damaged"
        raise DataError(f"{which}; remove {'them' if len(bad) > 1 else 'it'} and pack again")


def _checksum_or_error(path: str) -> str:
    if not os.path.isfile(path):  # reading a FIFO would wait for ever
        return "no regular file"
    try:
        return sha256_of_file(path)
    except OSError as error:
        return str(error)


def create_parser() -> argparse.ArgumentParser:
    """The flags of the program."""
    parser = argparse.ArgumentParser(prog="python -m datasets.pack", description=__doc__.splitlines()[0])
    parser.add_argument("--data_path", type=os.path.expanduser, default="", help="root of the images")
    parser.add_argument(
        "--split", default="train", help="name of the split: a folder of OUTPUT_DIR, and of --data_path without --list"
    )
    parser.add_argument(
        "--list", type=os.path.expanduser, help="list file of the split; default: the class folders of DATA_PATH/SPLIT"
    )
    parser.add_argument("--output_dir", type=home_path, required=True, help="root of the shards: the later --data_path")
    parser.add_argument("--nb_classes", type=positive_int, default=2**31, help="refuse labels from this number on")
    parser.add_argument(
        "--store", choices=("as_is", "jpeg", "raw"), default="as_is", help="how images are stored; %(default)s copies"
    )
    parser.add_argument(
        "--short_side", type=positive_int, help="shrink larger images to this short side (with --store jpeg or raw)"
    )
    parser.add_argument(
        "--quality",
        type=positive_int,
        choices=range(1, 101),
        metavar="1-100",
        default=90,
        help="quality of --store jpeg (%(default)s)",
    )
    parser.add_argument(
        "--exif_orientation",
        choices=("ignore", "apply"),
        default="ignore",
        help="apply rotates photographs as EXIF says (with --store jpeg or raw)",
    )
    parser.add_argument("--per_shard", type=positive_int, default=2000, help="images per shard (%(default)s)")
    parser.add_argument("--num_workers", type=non_negative_int, default=usable_cpus(), help="processes (%(default)s)")
    parser.add_argument("--check", action="store_true", help="only compare OUTPUT_DIR/SPLIT with its checksums")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = create_parser()
    flags = parser.parse_args(argv)
    folder = flags.output_dir / flags.split
    if flags.check:
        check_shards(folder, flags.num_workers)
        print_safely(f"{folder}: all files have the checksums of the packing")
        return 0
    if flags.store == "as_is" and (flags.short_side or flags.exif_orientation == "apply"):
        parser.error("--short_side and --exif_orientation apply need --store jpeg or raw")
    images = open_dataset(flags.data_path, flags.split, flags.list, flags.nb_classes)
    if isinstance(images, ShardedImages):
        raise DataError(f"{images.root}: holds shards already; pack the original files")
    num_kept = len(list(folder.glob("*.tar")))
    encoding = Encoding(flags.store, flags.short_side, flags.quality, flags.exif_orientation)
    try:
        about = pack(images, folder, encoding=encoding, per_shard=flags.per_shard, num_workers=flags.num_workers)
    except BadImage as error:
        next_step = "python -m datasets.check writes lists without such images"
        raise BadImage(error.path, f"{error.reason}; {next_step}") from None
    for remark in images.remarks:
        print_safely(f"note: {remark}")
    num_kept -= about["num_rewritten"]
    num_bytes = sum(shard["bytes"] for shard in about["shards"])
    earlier = f" ({num_kept} of an earlier run)" if num_kept else ""
    num_shards = len(about["shards"])
    shards = "1 shard" if num_shards == 1 else f"{num_shards} shards"
    print_safely(f"{folder}: {about['num_images']} images in {shards}{earlier}, {num_bytes / 2**20:.0f} MB")
    return 0


if __name__ == "__main__":
    run(main)
