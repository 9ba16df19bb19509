"""Manifest: checksums of all files in the form of sha256sum, against damage that no decoder notices."""

import hashlib
import shutil
import subprocess

import numpy as np
import pytest

from common.errors import DataError
from datasets.check.__main__ import main
from datasets.manifest import read_manifest, write_manifest
from datasets.reading.image_list import ImageList
from tests.datasets.corpus import CORPUS
from tests.datasets.fake_images import encode_image, fake_image


def test_manifest(folder, tmp_path, check):
    manifest = tmp_path / "manifest.txt"
    assert check(folder, "--write_manifest", manifest)[0] == 0
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", manifest], cwd=folder, check=True)
    assert check(folder, "--manifest", manifest)[1]["findings"] == []
    changed, new = folder / "train/a/0.png", folder / "val/b/new.png"
    fake_image(48, 40, seed=77).save(changed)  # a good image, but another one
    fake_image(48, 40, seed=78).save(new)
    (folder / "train/a/1.png").unlink()
    code, report = check(folder, "--manifest", manifest)
    examples = [example for one in report["findings"] for example in one["examples"]]
    assert code == 3 and [one["kind"] for one in report["findings"]] == ["changed", "changed", "gone"]
    assert str(changed) in examples[0] and "the manifest has" in examples[0] and "not in the manifest" in examples[1]
    assert examples[2:] == ["train/a/1.png"] and report["findings"][2]["split"] == "train and val"
    manifest.write_text("abc\n")
    with pytest.raises(DataError, match=r"manifest\.txt:1: expected '<sha256>  <path>'"):
        main([str(folder / "not_opened"), "--manifest", str(manifest), "--num_workers=0"])


def test_manifest_leaves_out_what_cannot_be_read(folder, tmp_path, check):
    (folder / "train" / "a" / "gone.png").symlink_to("nowhere")
    (folder / "train" / "a" / "empty.png").touch()  # readable, so that it has a checksum
    manifest = tmp_path / "manifest.txt"
    check(folder, "--write_manifest", manifest)
    assert "gone.png" not in manifest.read_text() and len(read_manifest(manifest)) == 9
    examples = {one["kind"]: one["examples"] for one in check(folder, "--manifest", manifest)[1]["findings"]}
    assert (
        "gone.png" in examples["missing"][0] and "gone.png" in examples["changed"][0] and len(examples["changed"]) == 1
    )


@pytest.mark.parametrize("digits", [slice(0, 2), slice(8, 10), slice(62, 64), slice(60, 64)], ids=str)
def test_manifest_of_checksums_with_zeros(folder, tmp_path, digits, check):
    """One checksum of 256 ends with a zero byte, and numpy removes zero bytes at the end of a bytes field."""
    image = encode_image(fake_image(48, 40, 100), "PNG")
    contents = (image + b"%d" % number for number in range(10**6))
    content = next(one for one in contents if not int(hashlib.sha256(one).hexdigest()[digits], 16))
    (folder / "train" / "a" / "zeros.png").write_bytes(content)
    manifest = tmp_path / "manifest.txt"
    assert check(folder, "--write_manifest", manifest)[0] == 0
    files = [path for split in ("train", "val") for path in (folder / split).rglob("*.png")]
    expected = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert read_manifest(manifest) == expected
    code, report = check(folder, "--manifest", manifest)
    assert (code, report["findings"]) == (0, [])


def test_manifest_of_any_name(folder, tmp_path, check):
    """The manifest is that of sha256sum, also where a name has a line break."""
    names = [case.file for case in CORPUS.values() if case.number >= 60] + ["back\\slash.jpg", "back\\n\nboth.jpg"]
    for seed, name in enumerate(names):
        (folder / "train" / "a" / name).write_bytes(encode_image(fake_image(48, 40, 100 + seed), "JPEG"))
    manifest = tmp_path / "manifest.txt"
    check(folder, "--write_manifest", manifest)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", manifest], cwd=folder, check=True)
        files = [path for split in ("train", "val") for path in (folder / split).rglob("*.*")]
        command = ["sha256sum", *(path.relative_to(folder) for path in files)]
        by_sha256sum = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
        (tmp_path / "by_sha256sum.txt").write_bytes(by_sha256sum)
        assert read_manifest(tmp_path / "by_sha256sum.txt") == read_manifest(manifest)
    assert check(folder, "--manifest", manifest)[0] == 0
    for name in names:
        (folder / "train" / "a" / name).write_bytes(encode_image(fake_image(48, 40, 99), "JPEG"))
    changed = [one for one in check(folder, "--manifest", manifest)[1]["findings"] if one["kind"] == "changed"]
    assert [one["count"] for one in changed] == [len(names)]


@pytest.fixture
def manifest(tmp_path):
    names = [f"a/{number:03}.jpg" for number in range(30)]
    facts = np.zeros(30, [("sha256", "S32"), ("num_bytes", "<i8")])
    images = ImageList(tmp_path, [name.encode() for name in names], range(30))
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    facts["sha256"] = hashlib.sha256(b"").digest()
    write_manifest(tmp_path / "manifest.txt", tmp_path, [(images, facts)])
    return tmp_path / "manifest.txt"


def test_a_whole_manifest_is_read_and_sha256sum_takes_its_first_line_for_a_comment(manifest):
    assert len(read_manifest(manifest)) == 30
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "manifest.txt"], cwd=manifest.parent, capture_output=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("lost", [1, 5, 77, 78, 15 * 78, 30 * 76])
def test_a_manifest_that_was_cut_short_is_refused(manifest, lost):
    manifest.write_bytes(manifest.read_bytes()[:-lost])
    with pytest.raises(DataError, match=r"manifest.txt: does not have the lines .* first line"):
        read_manifest(manifest)


def test_an_empty_manifest_is_refused_and_one_without_its_first_line_is_read(manifest):
    lines = manifest.read_bytes().split(b"\n", 1)[1]
    manifest.write_bytes(lines)
    assert len(read_manifest(manifest)) == 30
    manifest.write_bytes(b"")
    with pytest.raises(DataError, match=r"manifest.txt: is empty"):
        read_manifest(manifest)
