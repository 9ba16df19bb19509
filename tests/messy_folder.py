"""A folder of pictures as people have it: odd names, turned photographs, copies, damaged and foreign files.

python -m tests.messy_folder FOLDER
"""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from common.cli import home_path, run
from demo.textures import draw_texture

# Class name -> surface and number of pictures: five classes in three scripts, not balanced.
CLASSES = {
    "Brick walls (old & new)": ("brick", 110),
    "трава": ("grass", 80),
    "石头": ("stone", 60),
    "water, still": ("water", 40),
    "wood": ("wood", 20),
}
ORIENTATION_TAG = 0x0112
HEIC_HEAD = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"
# Written below the class folders; none of these is a picture that can be trained on.
NOT_READABLE = ("трава/cut.jpg", "石头/empty.png", "wood/IMG_0001.HEIC")


def write_messy_folder(folder: Path, seed: int = 0, share: float = 1.0) -> Path:
    """Write about 325 pictures of five classes to `folder`, or a share of them, with the faults that such folders have.

    What is in it beside plain JPEGs: PNG with transparency, grey and CMYK pictures, GIF, WebP, upper-case extensions,
    pictures that are stored turned with an EXIF orientation, a picture of 5,000 pixels, names with spaces, quotes,
    line breaks, signs that a spreadsheet runs and three scripts, a folder inside a class, hidden folders, copies
    within a class and in two classes, a cut JPEG, an empty file, a HEIC file, text files, an empty folder.
    """
    for name, (surface, count) in CLASSES.items():
        for i in range(max(10, round(count * share))):
            path = folder / name / f"{surface} {i:03d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(draw_texture(surface, [seed, i]), path, i)
    _copies(folder)
    _strange_names(folder, seed)
    _not_pictures(folder)
    return folder


def _save(image: Image.Image, path: Path, i: int) -> None:
    """Most pictures are JPEGs; every tenth has another form."""
    if i % 10 == 1:  # as a telephone held upright stores it: turned to the left, with a note to turn it back
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(path, quality=90, exif=exif)
    elif i % 10 == 3:
        alpha = Image.fromarray(np.full((image.height, image.width), 255, np.uint8))
        image.putalpha(alpha)
        image.save(path.with_suffix(".PNG"))
    elif i % 10 == 5:
        image.convert("CMYK").save(path.with_suffix(".JPEG"), quality=90)
    elif i % 10 == 7:
        image.save(path.with_suffix((".webp", ".gif", ".bmp")[i // 10 % 3]))
    elif i == 9:
        image.resize((5000, 5000 * image.height // image.width)).convert("L").save(path, quality=80)
    else:
        image.save(path, quality=90)


def _copies(folder: Path) -> None:
    bricks, grass, water = (folder / name for name in ("Brick walls (old & new)", "трава", "water, still"))
    for i in (0, 2, 4):
        shutil.copy(bricks / f"brick {i:03d}.jpg", bricks / f"brick {i:03d} (copy).jpg")
    with Image.open(bricks / "brick 006.jpg") as image:  # the same picture, smaller and compressed again
        image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(bricks / "brick 006 small.jpg", quality=60)
    shutil.copy(grass / "grass 000.jpg", water / "DSC_0001.jpg")  # one picture in two classes


def _strange_names(folder: Path, seed: int) -> None:
    stones = folder / "石头"
    names = (
        "=1+1.jpg",
        'it\'s "new".jpg',
        "line\nbreak.jpg",
        "  spaces  .jpg",
        "été à la mer.jpg",
        "رمل.jpg",
        "🪨.jpg",
    )
    for i, name in enumerate(names):
        draw_texture("stone", [seed, 1000 + i]).save(stones / name, quality=90)
    inner = folder / "wood" / "from the garage" / "2019"
    inner.mkdir(parents=True)
    for i in range(4):
        draw_texture("wood", [seed, 1000 + i]).save(inner / f"{i}.jpg", quality=90)


def _not_pictures(folder: Path) -> None:
    cut, empty, heic = (folder / name for name in NOT_READABLE)
    cut.write_bytes((folder / "трава" / "grass 002.jpg").read_bytes()[:1500])
    empty.write_bytes(b"")
    heic.write_bytes(HEIC_HEAD + bytes(2000))
    (folder / "wood" / "notes.txt").write_text("taken in March\n", encoding="utf-8")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(60))
    for hidden in (".git", ".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        (folder / hidden).mkdir()
        draw_texture("wood", [99]).save(folder / hidden / "wood 000.jpg")
    (folder / "new folder").mkdir()


def main(argv: list[str]) -> int:
    print(f"wrote {write_messy_folder(home_path(argv[0]))}")
    return 0


if __name__ == "__main__":
    run(main)
