"""Inputs of the situations: tiny folders, lists, pictures and files of weights, made once."""

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

SIDE = 40
COLOURS = {"cat": (200, 40, 40), "dog": (40, 200, 40), "fox": (40, 40, 200), "bear": (200, 200, 40)}


def picture(colour=(90, 90, 90), seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A noisy picture of one colour."""
    noise = np.random.default_rng(seed).integers(-30, 30, (size[1], size[0], 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))


def write_classes(root: Path, names, *, splits=("train", "val"), count: int = 4) -> Path:
    """Class folders with `count` pictures each, half as many in val."""
    for split in splits:
        for position, name in enumerate(names):
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count if split == "train" else count // 2):
                colour = COLOURS.get(name, (60 * position % 255, 90, 120))
                picture(colour, seed=100 * position + number + 50 * (split == "val")).save(
                    folder / f"{name}_{number}.png"
                )
    return root


def write_list(path: Path, root: Path, split: str, names, *, ending: str = "\n", flat: bool = False) -> Path:
    """A list file of the pictures of a split; `flat` copies them into one folder first."""
    lines = []
    for label, name in enumerate(names):
        for file in sorted((root / split / name).iterdir()):
            place = file.relative_to(root).as_posix()
            if flat:
                (root / "flat").mkdir(exist_ok=True)
                shutil.copy(file, root / "flat" / f"{split}-{file.name}")
                place = f"flat/{split}-{file.name}"
            lines.append(f"{place} {label}")
    path.write_bytes((ending.join(lines) + ending).encode())
    return path


def write_texts(root: Path, texts: dict[str, bytes]) -> None:
    for name, content in texts.items():
        (root / name).write_bytes(content)


def make(root: Path) -> Path:
    """All inputs below `root`."""
    names = ("cat", "dog", "fox")
    cls3 = write_classes(root / "cls3", names)
    write_classes(root / "cls3b", ("bear", "cat", "dog"))
    write_classes(root / "renamed", ("cat", "dog", "wolf"))
    write_classes(root / "sub", ("dog", "fox"))
    write_classes(root / "more", ("bear", "cat", "dog", "fox"))
    write_classes(root / "num", [str(number) for number in range(12)], count=2)
    write_classes(root / "odd_names", ("a b", "ünï", "猫"), count=2)
    write_classes(root / "synsets", ("n01440764", "n01443537", "n01484850"), count=2)
    for name, val in (("val_less", names[:2]), ("val_other", ("cat", "dog", "wolf"))):
        write_classes(root / name, names, splits=("train",))
        write_classes(root / name, val, splits=("val",))
    write_classes(root / "nfc", ("caf\u00e9", "tea"), splits=("train",))
    write_classes(root / "nfc", ("cafe\u0301", "tea"), splits=("val",))
    for name in (
        "hidden",
        "macos",
        "foreign",
        "foreign_val",
        "jfif",
        "bad_train",
        "bad_val",
        "empty_class",
        "text_class",
        "rgba",
    ):
        write_classes(root / name, names)
    for split in ("train", "val"):
        write_classes(root / "hidden", (".ipynb_checkpoints",), splits=(split,))
        write_classes(root / "macos", ("__MACOSX",), splits=(split,))
    for folder in (root / "macos" / "train" / "cat", root / "macos" / "val" / "dog"):
        (folder / "._cat_0.png").write_bytes(b"\0\5\26\7 resource fork")
        (folder / "Thumbs.db").write_bytes(b"thumbs")
    for number in range(3):
        (root / "foreign" / "train" / "cat" / f"{number}.heic").write_bytes(b"heic")
        (root / "foreign_val" / "val" / "cat" / f"{number}.heic").write_bytes(b"heic")
    for file in (root / "jfif").rglob("*_1.png"):
        Image.open(file).save(file.with_suffix(".jfif"), format="JPEG")
        file.unlink()
    for split in ("train", "val"):
        data = (root / f"bad_{split}" / split / "dog" / "dog_0.png").read_bytes()
        (root / f"bad_{split}" / split / "dog" / "dog_0.png").write_bytes(data[: len(data) // 2])
    (root / "empty_class" / "train" / "gnu").mkdir()
    (root / "text_class" / "train" / "gnu").mkdir()
    (root / "text_class" / "train" / "gnu" / "notes.txt").write_text("no picture")
    picture().convert("RGBA").save(root / "rgba" / "val" / "cat" / "alpha.png")
    (root / "flat_only").mkdir()
    picture().save(root / "flat_only" / "1.png")
    (root / "no pictures").mkdir()
    (root / "no pictures" / "a.txt").write_text("text")

    # Lists.
    for split in ("train", "val"):
        write_list(root / f"{split}.txt", cls3, split, names)
        write_list(root / f"{split}_crlf.txt", cls3, split, names, ending="\r\n")
        write_list(root / f"{split}_cr.txt", cls3, split, names, ending="\r")
        write_list(root / f"{split}_flat.txt", cls3, split, names, flat=True)
        write_list(root / f"{split}_crossed.txt", cls3, split, ("dog", "cat", "fox"))
    two = write_list(root / "train_two.txt", cls3, "train", ("cat", "dog")).read_bytes()
    train = (root / "train.txt").read_bytes()
    shutil.copy(cls3 / "train" / "cat" / "cat_0.png", cls3 / "#1 cat.png")
    write_texts(root, {
        "bom.txt": b"\xef\xbb\xbf" + train,
        "tabs.txt": train.replace(b" ", b"\t"),
        "hash.txt": b"# a comment\n#1 cat.png 0\n" + train,
        "swapped.txt": b"0 train/cat/cat_0.png\n",
        "header.txt": b"path label\n" + train,
        "from1.txt": train.replace(b" 2\n", b" 3\n").replace(b" 1\n", b" 2\n").replace(b" 0\n", b" 1\n"),
        "float.txt": b"train/cat/cat_0.png 0.0\n",
        "negative.txt": b"train/cat/cat_0.png -1\n",
        "comma.txt": b"train/cat/cat_0.png,0\n",
        "quoted.txt": b'"train/cat/cat_0.png" 0\n',
        "windows.txt": b"train\\cat\\cat_0.png 0\n",
        "utf16.txt": train.decode().encode("utf-16"),
        "gbk.txt": "train/狗/a.png 0\n".encode("gbk"),
        "missing.txt": b"train/cat/none.png 0\n",
        "digits.txt": b"train/cat/cat_0.png " + b"1" * 5000 + b"\n",
        "empty.txt": b"",
        "two_flat.txt": two,
        "labels.txt": b"0 cat\n1 dog\n2 fox\n",
        "labels_tab.txt": b"0\tcat\n1\tdog\n2\tfox\n",
        "labels_names.txt": b"cat\ndog\nfox\n",
        "labels_other_order.txt": b"0 fox\n1 cat\n2 dog\n",
        "labels_other.txt": b"0 cat\n1 dog\n2 wolf\n",
        "labels_few.txt": b"0 cat\n1 dog\n",
        "labels_twice.txt": b"0 cat\n0 dog\n",
        "labels_gap.txt": b"0 cat\n2 dog\n",
        "labels_gbk.txt": "0 狗\n".encode("gbk"),
        "recipe_alias.yaml": b"a: &a [1, 2]\nb: *a\n",
        "recipe_typo.yaml": b"epoch: 3\n",
        "recipe_twice.yaml": b"epochs: 3\nepochs: 4\n",
        "recipe_list.yaml": b"- epochs\n",
        "recipe_digits.yaml": b"epochs: " + b"9" * 5000 + b"\n",
        "not_weights.pd": b"hello",
        "empty.pd": b"",
        "html.pth": b"<!DOCTYPE html><html>not found</html>",
        "lfs.pdparams": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    })  # fmt: skip

    # Pictures.
    pictures = root / "pictures"
    pictures.mkdir()
    picture(COLOURS["cat"]).save(pictures / "cat.png")
    picture(COLOURS["dog"]).convert("L").save(pictures / "grey.png")
    picture(COLOURS["dog"]).convert("P").save(pictures / "palette.png")
    picture(COLOURS["dog"]).convert("CMYK").save(pictures / "cmyk.jpg")
    picture(COLOURS["dog"], size=(1, 1)).save(pictures / "one.png")
    picture(COLOURS["dog"], size=(400, 3)).save(pictures / "ribbon.png")
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000)
    picture(COLOURS["dog"]).save(pictures / "text_3mb.png", pnginfo=text)
    bad = root / "bad pictures"
    bad.mkdir()
    picture().save(bad / "good.png")
    (bad / "empty.jpg").write_bytes(b"")
    (bad / "page.jpg").write_bytes(b"<html>")
    (bad / "cut.png").write_bytes((pictures / "cat.png").read_bytes()[:200])
    (root / "foreign only").mkdir()
    (root / "foreign only" / "a.avif").write_bytes(b"avif")
    os.mkfifo(root / "pipe.png")
    write_text(root)
    write_links_and_odd_names(root)
    return root


def write_text(root: Path) -> None:
    """More lists: what people write by hand or with other tools."""
    cls3 = root / "cls3"
    for name in ('it\'s "good".png', "猫 1.png", "v1.2.png"):
        shutil.copy(cls3 / "val" / "cat" / "cat_0.png", cls3 / name)
    for number in (1, 2, 3):
        picture(seed=number).save(root / "sub" / f"{number}.png")
    write_texts(root, {
        "odd_paths.txt": "it's \"good\".png 0\n猫 1.png 0\nv1.2.png 0\n./val//dog/dog_0.png 1\n".encode(),
        "no_label.txt": b"train/cat/cat_0.png\n",
        "huge_label.txt": b"val/cat/cat_0.png 1262\n",
        "folder_in_list.txt": b"val/cat 0\n",
        "fifo_in_list.txt": os.fsencode(root / "pipe.png") + b" 0\n",
        "absolute.txt": os.fsencode(cls3 / "val" / "dog" / "dog_1.png") + b" 1\n",
        "one_hot.txt": b"val/cat/cat_0.png 1,0,0\n",
        "synsets.txt": b"train/n01440764/n01440764_0.png 0\ntrain/n01443537/n01443537_0.png 1\n" * 2,
        "val_flat_three.txt": (root / "val_flat.txt").read_bytes(),
        "sub_flat.txt": b"1.png 0\n2.png 1\n3.png 2\n",
        "labels_html.txt": b"<html><body>404</body></html>\n",
        "recipe_html.yaml": b"<!DOCTYPE html><html><body>404: not found</body></html>",
        "recipe_gbk.yaml": "data_path: 狗\n".encode("gbk"),
    })  # fmt: skip


def write_links_and_odd_names(root: Path) -> None:
    """Extensions in capitals, links, one photograph that EXIF turns, names that are not UTF-8."""
    capitals = write_classes(root / "capitals", ("cat", "dog", "fox"))
    for number, file in enumerate(sorted(capitals.rglob("*.png"))):
        extension, kind = ((".JPG", "JPEG"), (".Jpeg", "JPEG"), (".webp", "WEBP"), (".TIFF", "TIFF"))[number % 4]
        Image.open(file).save(file.with_suffix(extension), format=kind)
        file.unlink()
    links = root / "links"
    links.mkdir()
    (links / "train").symlink_to(root / "cls3" / "train", target_is_directory=True)
    shutil.copytree(root / "cls3" / "val", links / "val")
    (links / "val" / "cat" / "loop").symlink_to(links / "val", target_is_directory=True)
    broken = write_classes(root / "broken_link", ("cat", "dog", "fox"))
    (broken / "val" / "cat" / "gone.png").symlink_to(root / "none.png")
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    turned = write_classes(root / "turned", ("cat", "dog", "fox"))
    half = picture(COLOURS["dog"], size=(60, 40))
    half.paste(COLOURS["fox"], (0, 0, 30, 40))
    half.save(turned / "val" / "dog" / "turned.jpg", exif=exif, quality=95)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = os.fsencode(root / "gbk" / split) + b"/" + "狗".encode("gbk") + name.encode()
            os.makedirs(folder)
            for number in range(4):
                picture(COLOURS[name], seed=number + 7 * (split == "val")).save(folder + b"/%d.png" % number)
    os.mkdir(os.fsencode(root / "gbk pictures"))
    shutil.copy(root / "pictures" / "cat.png", os.fsencode(root / "gbk pictures") + "/狗.png".encode("gbk"))
    deep = write_classes(root / "nested", ("cat", "dog", "fox"))
    for split in ("train", "val"):
        (deep / split / "cat" / ".ipynb_checkpoints").mkdir()
        shutil.copy(deep / split / "dog" / "dog_0.png", deep / split / "cat" / ".ipynb_checkpoints" / "dog.png")
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(root / "pictures" / "grey16.png")
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(root / "pictures" / "grey16.tif")
    for split in ("train", "val"):  # the same names in every class
        for name in ("cat", "dog", "fox"):
            (root / "same_names" / split / name).mkdir(parents=True)
            picture(COLOURS[name]).save(root / "same_names" / split / name / "v1.0.final.png")
