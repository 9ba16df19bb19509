"""Every error of folder, flags and images gives its exit code and a message that names the place."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from datasets.preprocess import LATER_FIELDS, Preprocess
from deploy.card import add_checksum_line, file_record
from tests.datasets import hostile
from tests.datasets.reading.test_limits import REFUSED
from tests.deploy.cpp.inputs import chunk, edit, make_image, png_header, write_folder

pytestmark = pytest.mark.cpp


def refusal(run: subprocess.CompletedProcess, exit_code: int) -> str:
    assert (run.returncode, run.stdout) == (exit_code, ""), run.stderr
    assert run.stderr.count("error: ") == 1
    return run.stderr


FIELDS = ["format", "model", "architecture", "num_classes", "preprocess", "class_names", "programs", "files", "metrics",
          "versions", "created", "output",
          *(f"preprocess.{name}" for name in Preprocess().to_dict() if name not in LATER_FIELDS),
          "programs.onnx.files", "programs.onnx.input_name", "programs.onnx.output_name", "files.model.onnx.bytes",
          "files.model.onnx.sha256"]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(infer, folder, image_file, field):
    def remove(card):
        *place, name = field.replace("model.onnx", "model/onnx").split(".")
        for part in place:
            card = card[part.replace("/", ".")]
        del card[name]

    edit(folder, remove)
    assert f"card.yaml: field {field} is missing; export" in refusal(infer(folder, image_file), 4)


WRONG_VALUES = [
    (lambda card: card.update(num_classes="4"), 'field num_classes: expected a whole number, got "4"'),
    (lambda card: card.update(num_classes=0), "field num_classes: expected a whole number from 1 to 1048576, got 0"),
    (lambda card: card.update(model=3), "field model: expected text, got 3"),
    (lambda card: card.update(colour="blue"), "unknown field colour"),
    (lambda card: card.update(format=2), "field format: expected 1, got 2"),
    (lambda card: card.update(output="probabilities"), "field output: expected one of logits, got probabilities"),
    (lambda card: card.update(class_names=["one"]), "field class_names: expected 4 names, as num_classes says"),
    (lambda card: card.update(programs=[]), "field programs: expected `name: value` lines"),
    (lambda card: card.update(programs={}), "card.yaml lists no program; export"),
    (lambda card: card.update(files={}), "card.yaml has no checksum for it"),
    (lambda card: card["preprocess"].update(mean=[0.5, 0.5]), "field preprocess.mean: expected three numbers"),
    (lambda card: card["preprocess"].update(std=[0, 1, 1]), "field preprocess.std: expected three numbers above 0"),
    (
        lambda card: card["preprocess"].update(interpolation="cubic"),
        "interpolation: expected one of nearest",
    ),
    (
        lambda card: card["preprocess"].update(resize_size=31),
        "resize_size: expected a whole number from 32 to 1048576, got 31",
    ),
    (lambda card: card["preprocess"].update(image_backend="cv2"), "preprocess.image_backend: expected one of pil"),
    (lambda card: card["preprocess"].update(input_size=36, resize_size=41), "takes images [?,3,32,32], card.yaml says"),
    (lambda card: card.update(num_classes=5), "gives [1,4], card.yaml says 5 classes"),
    (lambda card: card["programs"]["onnx"].update(input_name="x"), "OpenVINO cannot run it"),
    (lambda card: card["preprocess"].update(input_size=5000), "input_size: expected a whole number from 1 to 4096"),
    (
        lambda card: card["preprocess"].update(fit="pad"),
        "preprocess.fit: expected one of crop squash letterbox, got pad",
    ),
    (
        lambda card: card["preprocess"].update(fit="squash"),
        "preprocess.resize_size: expected input_size, 32, with fit sq",
    ),
    (
        lambda card: card["preprocess"].update(fit="squash", resize_size=32),
        "field preprocess.crop_pct: expected input_size / resize_size, 32 / 32, got 0.875",
    ),
    (lambda card: card["preprocess"].update(crop_pct=0.9), "crop_pct: expected input_size / resize_size, 32 / 36, got"),
    (
        lambda card: card["preprocess"].update(crop_pct=0),
        "preprocess.crop_pct: expected a number above 0 and at most 1",
    ),
    (
        lambda card: card["preprocess"].update(crop_pct=1.5),
        "preprocess.crop_pct: expected a number above 0 and at most",
    ),
    (lambda card: card["preprocess"].update(crop_pct="1"), 'preprocess.crop_pct: expected a finite number, got "1"'),
    (lambda card: card.update(temperature=0), "field temperature: expected a finite number above 0, got 0"),
    (lambda card: card.update(temperature=-1.5), "field temperature: expected a finite number above 0, got -1.5"),
    (lambda card: card.update(temperature=float("inf")), "field temperature: expected a finite number, got .inf"),
    (lambda card: card.update(temperature="2"), 'field temperature: expected a finite number, got "2"'),
    (lambda card: card.update(temperature=None), "field temperature: expected a finite number, got"),
    (lambda card: card["files"].update({"../a": card["files"].pop("model.onnx")}), "files.../a: expected the name of"),
    (
        lambda card: card["programs"]["onnx"].update(files=["../exported/model.onnx"]),
        "card.yaml has no checksum for it",
    ),
    (lambda card: card["programs"]["onnx"].update(files=["a.onnx"]), "a.onnx: card.yaml has no checksum for it"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_VALUES, ids=[message for _, message in WRONG_VALUES])
def test_a_wrong_field_is_named(infer, folder, image_file, change, message):
    edit(folder, change)
    assert message in refusal(infer(folder, image_file), 4)


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def damage_with_a_true_checksum(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a program")
    record = file_record(folder / "model.onnx")
    edit(folder, lambda card: card["files"]["model.onnx"].update(bytes=record.bytes, sha256=record.sha256))


def write_card_text(folder: Path, text: bytes) -> None:
    (folder / "card.yaml").write_bytes(add_checksum_line(text))


def change(folder: Path, old: bytes, new: bytes) -> None:
    card = (folder / "card.yaml").read_bytes()
    (folder / "card.yaml").write_bytes(card.replace(old, new))


DAMAGE = [
    (flip_a_byte, "damaged, or of another model; copy the file again"),
    (lambda folder: write_folder(folder / "other", Preprocess(), num_classes=3).joinpath("model.onnx").replace(
        folder / "model.onnx"), "bytes, card.yaml says"),
    (damage_with_a_true_checksum, "model.onnx: OpenVINO cannot run it"),
    (lambda folder: (folder / "model.onnx").unlink(), "missing, but card.yaml lists it; copy the whole folder"),
    (lambda folder: (folder / "card.yaml").unlink(), "card.yaml: no such card"),
    (lambda folder: write_card_text(folder, b"- a\n- b"), "the card: expected `field: value` lines"),
    (lambda folder: write_card_text(folder, b"a: [b"), "card.yaml: cannot be read"),
    (lambda folder: write_card_text(folder, b"[" * 100_000), "card.yaml: cannot be read"),
    (lambda folder: write_card_text(folder, b"#" * (1 << 21)), "card.yaml: more than 2097152 bytes"),
    (lambda folder: (folder / "card.yaml").write_text("format: 1"), "card.yaml: the last line, a checksum, is missing"),
    (lambda folder: change(folder, b"Means", b"Beans"), "card.yaml: damaged, or changed after the export"),
    (lambda folder: change(folder, b"above: ", b"above: 0"), "card.yaml: damaged, or changed after the export"),
    (shutil.rmtree, "exported: no such file or folder; export_model.py writes it"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[message for _, message in DAMAGE])
def test_a_damaged_folder_is_refused(infer, folder, image_file, damage, message):
    damage(folder)
    assert message in refusal(infer(folder, image_file), 4)


def test_an_older_file_of_predictions_stays_if_the_folder_is_refused(infer, folder, image_file, tmp_path):
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text("before")
    edit(folder, lambda card: card["programs"]["onnx"].update(input_name="x"))
    refusal(infer(folder, image_file, "--save_path", predictions), 4)
    assert predictions.read_text() == "before"


def test_a_full_disk_is_an_error(infer, folder, image_file):
    run = infer(folder, image_file, "--dump_input", "/dev/full")
    assert run.returncode == 3 and "is the disk full?" in run.stderr


def test_a_changed_constant_is_found_by_the_self_check(infer, exported_onnx, tmp_path, image_file):
    folder = shutil.copytree(exported_onnx, tmp_path / "copy")
    edit(folder, lambda card: card["preprocess"].update(mean=[0.485, 0.456, 0.411]))
    assert "gives other logits for check.png than at the export" in refusal(infer(folder, image_file), 4)


def test_int8_needs_its_own_program(infer, folder, image_file):
    edit(folder, lambda card: card["programs"].update({"onnx-int8": card["programs"].pop("onnx")}))
    assert infer(folder, image_file, "--precision", "int8").returncode == 0
    message = refusal(infer(folder, image_file), 4)
    assert "runs onnx, card.yaml lists onnx-int8 (model.onnx); export the model again" in message


USAGE = [
    (["--colour", "blue"], "unknown flag --colour; the flags are --model_file"),
    (["--batch_size", "0"], "--batch_size: expected a whole number of at least 1, got '0'"),
    (["--topk", "five"], "--topk: expected a whole number of at least 1, got 'five'"),
    (["--threshold", "nan"], "--threshold: expected a number from 0 to 1, got 'nan'"),
    (["--precision", "fp16"], "--precision: unknown value 'fp16'; known: fp32, int8"),
    (["--topk"], "--topk: expected a value after it"),
    (["image_file.jpg"], "unexpected 'image_file.jpg'; put a flag before it"),
    (["--model_file="], "--model_file is missing; for example"),
    (["--save_path", "records.csv"], "--save_path records.csv: predictions are written to a .jsonl file"),
]


@pytest.mark.parametrize(("flags", "message"), USAGE, ids=[message for _, message in USAGE])
def test_wrong_usage_names_the_fix(infer, folder, image_file, flags, message):
    assert message in refusal(infer(folder, image_file, *flags), 2)


def test_help_names_every_flag(program):
    run = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert set(re.findall(r"--\w+", run.stdout)) >= {"--model_file", "--input_file", "--topk", "--dump_input"}


def test_a_bad_image_is_reported_and_the_others_are_predicted(infer, folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    image_file = make_image(60, 50)
    image_file.save(images / "a.jpg")
    image_file.save(images / "z.png")
    jpeg, png = (images / "a.jpg").read_bytes(), bytearray((images / "z.png").read_bytes())
    png[len(png) // 2] ^= 1
    bad = {
        "b_cut.jpg": (jpeg[:-100], "damaged: Premature end of input file"),
        "c_empty.jpg": (b"", "not a JPEG or PNG"),
        "d_flipped.png": (png, "damaged: IDAT"),
        "e_cut.png": (png[:-20], "damaged: "),
        "f_huge.png": (
            png_header(20_000, 20_000, 1, 0) + chunk(b"IDAT"),
            "20000 x 20000 pixels; the limit",
        ),
        "g.webp": (b"RIFF0000WEBPVP8 ", "not a JPEG or PNG"),
    }
    for name, (data, _) in bad.items():
        (images / name).write_bytes(data)
    (images / "h_nowhere.jpg").symlink_to("nowhere")
    bad["h_nowhere.jpg"] = (b"", "no such file")

    run = infer(folder, images, "--batch_size", "4")
    assert run.returncode == 3
    assert "error: 7 of 9 images could not be read; the others have predictions" in run.stderr
    by_name = {Path(one["file_name"]).name: one for one in map(json.loads, run.stdout.splitlines())}
    assert list(by_name) == ["a.jpg", *bad, "z.png"]
    for name, (_, reason) in bad.items():
        assert list(by_name[name]) == ["class_ids", "scores", "file_name", "label_names", "error"]
        assert by_name[name]["error"].startswith(reason)
        assert f"error: {images / name}: {reason}" in run.stderr
    assert all(len(by_name[name]["class_ids"]) == 4 for name in ("a.jpg", "z.png"))


def test_pixel_data_beyond_the_last_row_is_refused_and_not_decompressed(infer, folder, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(hostile.png(1, 1, 8, 2, hostile.deflated_zeros(2**20, 64)))
    run = infer(folder, path)
    assert run.returncode == 3 and "x.png: damaged: more pixels than the header says" in run.stderr


COSTLY = ["scans", "segments", "long segments", "fill bytes", "arithmetic", "chunks", "pixel chunks", "texts", "a side"]


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_image_is_refused_as_in_python(infer, folder, tmp_path, name):
    path = tmp_path / "x.jpg"
    path.write_bytes(REFUSED[name][0])
    run = infer(folder, path)
    reason = json.loads(run.stdout)["error"]
    assert run.returncode == 3 and re.search("limit|rare kind", reason), reason


def test_no_images_is_an_error(infer, folder, tmp_path):
    assert "no image in this folder or below; looked for .jpg" in refusal(infer(folder, folder), 3)
    assert "no such file or folder" in refusal(infer(folder, tmp_path / "nowhere"), 3)
