"""The C++ program: pixels equal to Pillow's bit for bit, answers equal to Python's, every fault named."""

import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import pytest
import yaml
from PIL import Image, PngImagePlugin

from datasets.decode import read_image
from datasets.image_folder import find_images
from datasets.preprocess import Preprocess
from deploy.card import Card, Program, file_record, write_card
from deploy.export import check_images, export_folder
from deploy.predictor import Predictor

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "cpp"
IMAGENET_LITE = ROOT.parent / "shared" / "data" / "imagenet_lite"


@pytest.fixture(scope="session")
def program() -> Path:
    """The program, built if its sources have changed."""
    for tool in ("cmake", "c++"):
        if not shutil.which(tool):
            pytest.skip(f"no {tool}; `make test-cpp` installs what the C++ program needs")
    cmake_files = Path(pytest.importorskip("openvino").__file__).parent / "cmake"
    configure = ["cmake", "-S", ROOT / "deploy" / "cpp", "-B", BUILD, f"-DOpenVINO_DIR={cmake_files}"]
    configured = subprocess.run(configure, capture_output=True, text=True)
    missing = re.search(
        r"Could NOT find \w+|find a package configuration file provided by \"yaml-cpp\"", configured.stderr
    )
    if configured.returncode and missing:
        pytest.skip(f"{missing[0]}; `make test-cpp` installs what the C++ program needs")
    assert configured.returncode == 0, configured.stderr
    built = subprocess.run(["cmake", "--build", BUILD, "--parallel", "2"], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout
    return BUILD / "infer"


@pytest.fixture
def infer(program):
    """Runs the program with flags and returns what it did."""

    def run(model, images, *flags) -> subprocess.CompletedProcess:
        command = [program, "--model_file", model, "--input_file", images, "--cpu_threads", "1", *flags]
        return subprocess.run(command, capture_output=True, text=True)

    return run


def records(run: subprocess.CompletedProcess) -> list[dict]:
    return [json.loads(line) for line in run.stdout.splitlines()]


def write_folder(folder: Path, preprocess: Preprocess, num_classes: int = 4, side: int | None = None) -> Path:
    """An exported folder whose network is the mean of each channel times a matrix."""
    onnx = pytest.importorskip("onnx")
    side = side or preprocess.input_size
    weights = np.random.default_rng(0).normal(0, 3, (3, num_classes)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
            onnx.helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        ],
        "means",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["batch", 3, side, side])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", num_classes])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    write_card(
        folder,
        Card(
            model="means",
            architecture="Means",
            num_classes=num_classes,
            preprocess=preprocess,
            class_names=None,
            programs={"onnx": Program(("model.onnx",), "images", "logits")},
            files={"model.onnx": file_record(folder / "model.onnx")},
        ),
    )
    return folder


def assert_same_pixels(infer, folder: Path, preprocess: Preprocess, images: Path) -> None:
    dump = folder / "dump.npy"
    run = infer(write_folder(folder, preprocess), images, "--batch_size", "8", "--dump_input", dump)
    assert run.returncode == 0, run.stderr
    paths = find_images(images)
    assert [record["file_name"] for record in records(run)] == paths
    for path, array in zip(paths, np.load(dump), strict=True):
        expected = preprocess(read_image(path, exif_orientation=preprocess.exif_orientation))
        assert np.array_equal(array, expected), f"{path}: {np.mean(array != expected):.1%} of the numbers differ"


def picture(width: int, height: int) -> Image.Image:
    """Coarse colours with noise, so that both smooth and sharp places are resampled."""
    rng = np.random.default_rng([width, height])
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.integers(-40, 41, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))


SIZES = [(1, 1), (3, 2), (500, 375), (375, 500), (333, 499), (640, 113), (224, 224), (256, 256), (257, 300), (31, 32),
         (97, 131), (64, 64), (1024, 700), (37, 5), (2000, 2)]  # fmt: skip
TALL = [(60, 400), (2, 900), (101, 203), (64, 129)]


@pytest.fixture(scope="session")
def pictures_of_many_sizes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sizes")
    is_pillow_13 = int(PIL.__version__.split(".")[0]) >= 13  # earlier ones resize tall pictures in another order
    for width, height in SIZES + (TALL if is_pillow_13 else []):
        picture(width, height).save(folder / f"{width}x{height}.png", compress_level=1)
    return folder


FILTERS = ["bilinear", "bicubic", "nearest", "box", "hamming", "lanczos"]


@pytest.mark.parametrize(
    ("interpolation", "input_size", "resize_size"),
    [*((name, 32, None) for name in FILTERS), *((name, 65, 100) for name in FILTERS), ("bicubic", 224, None)],
)
def test_resized_pixels_equal_pillow(infer, tmp_path, pictures_of_many_sizes, interpolation, input_size, resize_size):
    preprocess = Preprocess(input_size=input_size, resize_size=resize_size, interpolation=interpolation)
    assert_same_pixels(infer, tmp_path / "exported", preprocess, pictures_of_many_sizes)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, bits: int, color: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))


def png_bytes(bits: int, color: int, *, transparency: bool = False) -> bytes:
    """A PNG of random samples in a form that Pillow does not write."""
    width, height = 33, 17
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    rng = np.random.default_rng([bits, color])

    chunks = [png_header(width, height, bits, color), chunk(b"gAMA", struct.pack(">I", 100_000))]
    if color == 3:
        chunks.append(chunk(b"PLTE", rng.bytes(3 * 2**bits)))
    if transparency:
        chunks.append(chunk(b"tRNS", {0: b"\0\1", 2: b"\0\1\0\2\0\3", 3: b"\0\x80"}[color]))
    rows = b"".join(b"\0" + rng.bytes((width * channels * bits + 7) // 8) for _ in range(height))
    return b"".join([*chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND")])


PNG_FORMS = [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (2, 3), (4, 3), (8, 3), (8, 4), (16, 4),
             (8, 6), (16, 6)]  # fmt: skip


def test_decoded_pixels_equal_pillow(infer, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for bits, color in PNG_FORMS:
        (images / f"{bits}_{color}.png").write_bytes(png_bytes(bits, color))
        if color in (0, 2, 3):
            (images / f"{bits}_{color}_transparency.png").write_bytes(png_bytes(bits, color, transparency=True))
    photo = picture(203, 151)
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
        for quality in (10, 75, 100):
            photo.save(images / f"{subsampling} {quality}.jpg", subsampling=subsampling, quality=quality)
    photo.save(images / "progressive.jpg", progressive=True)
    photo.save(images / "restart.jpg", restart_marker_rows=1)
    photo.save(images / "stored as RGB.jpg", keep_rgb=True)
    photo.convert("L").save(images / "gray.jpg")
    photo.convert("CMYK").save(images / "cmyk.jpg")
    photo.save(images / "a PNG.jpg", format="PNG")
    (images / "garbage behind.jpg").write_bytes((images / "gray.jpg").read_bytes() + b"garbage")
    assert_same_pixels(infer, tmp_path / "exported", Preprocess(input_size=64), images)


@pytest.mark.parametrize("exif_orientation", ["ignore", "apply"])
def test_orientation_is_that_of_the_card(infer, tmp_path, exif_orientation):
    images = tmp_path / "images"
    images.mkdir()
    photo = picture(80, 60)
    for value in range(10):  # 0 and 9 mean nothing
        exif = Image.Exif()
        exif[0x0112] = value
        photo.save(images / f"{value}.jpg", exif=exif)
        photo.save(images / f"{value}.png", exif=exif)
        long_and_big_endian = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\4\0\0\0\1" + struct.pack(">I", value) + b"\0\0\0\0"
        photo.save(images / f"{value}_long.jpg", exif=b"Exif\0\0" + long_and_big_endian)
        photo.save(images / f"{value}_xmp.jpg", xmp=f'<x tiff:Orientation="{value}"/>'.encode())
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", f"<tiff:Orientation>{value}</tiff:Orientation>")
        photo.save(images / f"{value}_xmp.png", pnginfo=info)
    preprocess = Preprocess(input_size=32, exif_orientation=exif_orientation)
    assert_same_pixels(infer, tmp_path / "exported", preprocess, images)


def assert_same_answers(infer, folder: Path, images, *flags) -> None:
    predictor = Predictor(folder, engine="onnxruntime")
    paths = find_images(images)
    expected = [predictor.predict([read_image(path)], [path])[0] for path in paths]
    run = infer(folder, images, *flags)
    assert run.returncode == 0, run.stderr
    answered = records(run)
    assert len(answered) == len(paths)
    for answer, wanted in zip(answered, expected, strict=True):
        assert list(answer) == list(wanted)
        assert answer["scores"] == pytest.approx(wanted["scores"], abs=1e-5)
        for name in ("file_name", "class_ids", "label_names"):
            assert answer[name] == wanted[name]


@pytest.fixture
def jpegs_and_pngs(photographs, tmp_path) -> Path:
    return shutil.copytree(photographs, tmp_path / "images", ignore=shutil.ignore_patterns("*.webp", "*.tiff", "*.BMP"))


@pytest.mark.parametrize("batch_size", ["1", "3", "16"])
def test_answers_equal_python(infer, exported_onnx, jpegs_and_pngs, batch_size):
    assert_same_answers(infer, exported_onnx, jpegs_and_pngs, "--batch_size", batch_size)
    assert_same_answers(infer, exported_onnx / "model.onnx", jpegs_and_pngs / "b.jpg", "-b", batch_size)


def slow(name: str):
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.skipif(not IMAGENET_LITE.exists(), reason="no real photographs beside the project")
@pytest.mark.parametrize("name", ["mobilenet_v3_small", slow("peleenet"), slow("alexnet")])
def test_answers_equal_python_on_real_photographs(infer, tmp_path, name):
    pytest.importorskip("paddle2onnx")
    import paddle

    from engine.export import export_program
    from models import create_model

    paddle.seed(0)
    model = create_model(name, num_classes=20)
    model.eval()
    preprocess = Preprocess()
    images = check_images()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(np.stack([preprocess(image) for image in images]))).numpy()
    card = Card(name, type(model).__name__, num_classes=20, preprocess=preprocess, class_names=None)
    export_folder(tmp_path, ["onnx"], card, partial(export_program, model, 224), images, logits)
    assert_same_answers(infer, tmp_path, IMAGENET_LITE, "--batch_size", "8")


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_folder(tmp_path / "exported", Preprocess(input_size=32))


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    picture(40, 50).save(path)
    return path


def edit(folder: Path, change) -> None:
    path = folder / "card.yaml"
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(fields)
    path.write_text(yaml.safe_dump(fields, allow_unicode=True), encoding="utf-8")


def refusal(run: subprocess.CompletedProcess, exit_code: int) -> str:
    assert (run.returncode, run.stdout) == (exit_code, ""), run.stderr
    assert run.stderr.count("error: ") == 1
    return run.stderr


FIELDS = ["format", "model", "architecture", "num_classes", "preprocess", "class_names", "programs", "files", "metrics",
          "versions", "created", "output", *(f"preprocess.{name}" for name in Preprocess().to_dict()),
          "programs.onnx.files", "programs.onnx.input_name", "programs.onnx.output_name", "files.model.onnx.bytes",
          "files.model.onnx.sha256"]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_is_named(infer, folder, photo, field):
    def remove(card):
        *place, name = field.replace("model.onnx", "model/onnx").split(".")
        for part in place:
            card = card[part.replace("/", ".")]
        del card[name]

    edit(folder, remove)
    assert f"card.yaml: field {field} is missing; export" in refusal(infer(folder, photo), 4)


WRONG_VALUES = [
    (lambda card: card.update(num_classes="4"), 'field num_classes: expected a whole number, got "4"'),
    (lambda card: card.update(num_classes=0), "field num_classes: expected a whole number from 1, got 0"),
    (lambda card: card.update(model=3), "field model: expected text, got 3"),
    (lambda card: card.update(colour="blue"), "unknown field colour"),
    (lambda card: card.update(format=2), "field format: expected 1, got 2"),
    (lambda card: card.update(output="probabilities"), "field output: expected one of logits, got probabilities"),
    (lambda card: card.update(class_names=["one"]), "field class_names: expected 4 names, as num_classes says"),
    (lambda card: card.update(programs=[]), "field programs: expected `name: value` lines"),
    (lambda card: card.update(programs={}), "card.yaml lists no program; export"),
    (lambda card: card.update(files={}), "card.yaml has no checksum of it"),
    (lambda card: card["preprocess"].update(mean=[0.5, 0.5]), "field preprocess.mean: expected three numbers"),
    (lambda card: card["preprocess"].update(std=[0, 1, 1]), "field preprocess.std: expected three numbers above 0"),
    (
        lambda card: card["preprocess"].update(interpolation="cubic"),
        "interpolation: expected one of nearest",
    ),
    (lambda card: card["preprocess"].update(resize_size=31), "resize_size: expected a whole number from 32, got 31"),
    (lambda card: card["preprocess"].update(image_backend="cv2"), "preprocess.image_backend: expected one of pil"),
    (lambda card: card["preprocess"].update(input_size=36, resize_size=41), "takes images [?,3,32,32], card.yaml says"),
    (lambda card: card.update(num_classes=5), "gives [1,4], card.yaml says 5 classes"),
    (lambda card: card["programs"]["onnx"].update(input_name="x"), "OpenVINO cannot run it"),
    (lambda card: card["programs"]["onnx"].update(files=["a.onnx"]), "a.onnx: card.yaml has no checksum of it"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_VALUES, ids=[message for _, message in WRONG_VALUES])
def test_a_wrong_field_is_named(infer, folder, photo, change, message):
    edit(folder, change)
    assert message in refusal(infer(folder, photo), 4)


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def damage_with_a_true_checksum(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"not a program")
    record = file_record(folder / "model.onnx")
    edit(folder, lambda card: card["files"]["model.onnx"].update(bytes=record.bytes, sha256=record.sha256))


DAMAGE = [
    (flip_a_byte, "damaged, or of another model; copy the file again"),
    (lambda folder: write_folder(folder / "other", Preprocess(), num_classes=3).joinpath("model.onnx").replace(
        folder / "model.onnx"), "bytes, card.yaml says"),
    (damage_with_a_true_checksum, "model.onnx: OpenVINO cannot run it"),
    (lambda folder: (folder / "model.onnx").unlink(), "missing, but card.yaml lists it; copy the whole folder"),
    (lambda folder: (folder / "card.yaml").unlink(), "card.yaml: no such card"),
    (lambda folder: (folder / "card.yaml").write_text("- a\n- b"), "the card: expected `field: value` lines"),
    (lambda folder: (folder / "card.yaml").write_text("a: [b"), "card.yaml: cannot be read"),
    (shutil.rmtree, "no such card"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[message for _, message in DAMAGE])
def test_a_damaged_folder_is_refused(infer, folder, photo, damage, message):
    damage(folder)
    assert message in refusal(infer(folder, photo), 4)


def test_a_changed_constant_is_caught_by_the_picture_of_the_export(infer, exported_onnx, tmp_path, photo):
    folder = shutil.copytree(exported_onnx, tmp_path / "copy")
    edit(folder, lambda card: card["preprocess"].update(mean=[0.485, 0.456, 0.411]))
    assert "answers check.png otherwise than at its export" in refusal(infer(folder, photo), 4)


def test_int8_is_the_other_program(infer, folder, photo):
    edit(folder, lambda card: card["programs"].update({"onnx-int8": card["programs"].pop("onnx")}))
    assert infer(folder, photo, "--precision", "int8").returncode == 0
    message = refusal(infer(folder, photo), 4)
    assert "runs onnx, card.yaml lists onnx-int8 (model.onnx); export the model again" in message


USAGE = [
    (["--colour", "blue"], "unknown flag --colour; flags are --model_file"),
    (["--batch_size", "0"], "--batch_size: expected a whole number from 1, got '0'"),
    (["--topk", "five"], "--topk: expected a whole number from 1, got 'five'"),
    (["--threshold", "nan"], "--threshold: expected a number from 0 to 1, got 'nan'"),
    (["--precision", "fp16"], "--precision: unknown value 'fp16'; known: fp32, int8"),
    (["--topk"], "--topk: expected its value after it"),
    (["photo.jpg"], "unexpected 'photo.jpg'; name a flag before it"),
    (["--model_file="], "--model_file is missing; for example"),
    (["--save_path", "records.csv"], "--save_path records.csv: records are written to a .jsonl file"),
]


@pytest.mark.parametrize(("flags", "message"), USAGE, ids=[message for _, message in USAGE])
def test_wrong_usage_names_the_fix(infer, folder, photo, flags, message):
    assert message in refusal(infer(folder, photo, *flags), 2)


def test_help_names_every_flag(program):
    run = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    assert set(re.findall(r"--\w+", run.stdout)) >= {"--model_file", "--input_file", "--topk", "--dump_input"}


def test_a_bad_image_is_reported_and_the_others_are_answered(infer, folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    photo = picture(60, 50)
    photo.save(images / "a.jpg")
    photo.save(images / "z.png")
    jpeg, png = (images / "a.jpg").read_bytes(), bytearray((images / "z.png").read_bytes())
    png[len(png) // 2] ^= 1
    bad = {
        "b_cut.jpg": (jpeg[:-100], "damaged: Premature end of input file"),
        "c_empty.jpg": (b"", "not a JPEG or PNG"),
        "d_flipped.png": (png, "damaged: IDAT"),
        "e_cut.png": (png[:-20], "damaged: "),
        "f_huge.png": (png_header(20_000, 20_000, 1, 0), "20000 x 20000 pixels; the limit is 64000000"),
        "g.webp": (b"RIFF0000WEBPVP8 ", "not a JPEG or PNG"),
    }
    for name, (data, _) in bad.items():
        (images / name).write_bytes(data)
    (images / "h_nowhere.jpg").symlink_to("nowhere")
    bad["h_nowhere.jpg"] = (b"", "no such file")

    run = infer(folder, images, "--batch_size", "4")
    assert run.returncode == 3
    assert "error: 7 of 9 images could not be read; the others were answered" in run.stderr
    by_name = {Path(record["file_name"]).name: record for record in records(run)}
    assert list(by_name) == ["a.jpg", *bad, "z.png"]
    for name, (_, reason) in bad.items():
        assert list(by_name[name]) == ["class_ids", "scores", "file_name", "label_names", "error"]
        assert by_name[name]["error"].startswith(reason)
        assert f"error: {images / name}: {reason}" in run.stderr
    assert all(len(by_name[name]["class_ids"]) == 4 for name in ("a.jpg", "z.png"))


def test_no_images_is_an_error(infer, folder, tmp_path):
    assert "no image in this folder or below; looked for .jpg" in refusal(infer(folder, folder), 3)
    assert "no such file or folder" in refusal(infer(folder, tmp_path / "nowhere"), 3)


def test_file_names_come_back_as_they_are(infer, folder, photo, tmp_path):
    images = tmp_path / "images"
    (images / "loop").mkdir(parents=True)
    (images / "loop" / "back").symlink_to(images)
    names = [b'quote " and \\.png', "照片.PNG".encode(), b"latin \xe9.png", b"tab\t.png", b"cut \xe2\x82.Png"]
    for name in names:
        (images / os.fsdecode(name)).write_bytes(photo.read_bytes())
    found = [os.fsencode(record["file_name"]) for record in records(infer(folder, images))]
    assert found == sorted(os.fsencode(images) + b"/" + name for name in names)


def test_topk_threshold_and_save_path(infer, folder, photo, tmp_path):
    [every] = records(infer(folder, photo, "--topk", "9"))
    assert len(every["scores"]) == 4
    assert sum(every["scores"]) == pytest.approx(1, abs=1e-12)
    [two] = records(infer(folder, photo, "--topk=2"))
    assert two["class_ids"] == every["class_ids"][:2]
    assert two["label_names"] == [f"class {label}" for label in two["class_ids"]]
    [likely] = records(infer(folder, photo, "--threshold", str(every["scores"][1])))
    assert likely["scores"] == every["scores"][:2]
    run = infer(folder, photo, "--save-path", tmp_path / "records.jsonl")
    assert run.stdout == ""
    assert json.loads((tmp_path / "records.jsonl").read_text(encoding="utf-8")) == {**every}


def test_benchmark_report(infer, folder, pictures_of_many_sizes):
    run = infer(folder, pictures_of_many_sizes, "--enable_benchmark", "True", "--batch_size", "4")
    assert run.returncode == 0
    sections = re.findall(r"-{22} (.*) -{22}", run.stderr)
    assert sections == ["Conf info", "Model info", "Data info", "Perf info"]
    assert f"image_num: {len(records(run))}" in run.stderr
    for stage in ("preprocess_time", "inference_time", "postprocess_time", "batch_time"):
        assert re.search(rf" {stage}\(ms\) p50: [\d.]+, p90: [\d.]+, p99: [\d.]+, per image: [\d.]+", run.stderr)
