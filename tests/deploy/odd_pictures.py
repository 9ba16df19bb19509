"""Pictures of every form that a decoder treats in its own way: EXIF, 16 bits, CMYK, palettes, grey, tiny, tall."""

from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def write_odd_pictures(folder: Path) -> list[Path]:
    """Write the pictures as JPEG and PNG, which the C++ program reads too; return their paths, sorted."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((80, 60), Image.Resampling.BICUBIC)
    folder.mkdir(parents=True, exist_ok=True)
    for orientation in range(1, 9):
        tags = Image.Exif()
        tags[ORIENTATION] = orientation
        image.save(folder / f"exif {orientation}.jpg", exif=tags, quality=95)
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("L").save(folder / "grey.jpg")
    image.save(folder / "progressive.jpg", progressive=True)
    image.resize((1, 1)).save(folder / "tiny.png")
    image.resize((7, 300)).save(folder / "tall.png")
    image.resize((300, 7)).save(folder / "wide.png")
    image.convert("L").save(folder / "grey.png")
    image.convert("LA").save(folder / "grey with alpha.png")
    image.convert("1").save(folder / "black and white.png")
    Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257).save(folder / "16 bit.png")
    transparent = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    transparent.save(folder / "palette.png", transparency=3)
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.fromarray(rng.integers(0, 256, (60, 80), dtype=np.uint8)))
    alpha.save(folder / "alpha.png")
    return sorted(folder.iterdir())
