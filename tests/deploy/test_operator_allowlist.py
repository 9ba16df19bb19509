"""The operators of a program are checked before a runtime opens it; operators that we never write are refused."""

import shutil
from pathlib import Path

import paddle
import pytest
from paddle.base.proto import framework_pb2
from paddle.pir_utils import DygraphOldIrGuard

from common.errors import ExportedModelError
from deploy import operator_allowlist
from deploy.card import Card, file_record, read_card, write_card
from deploy.engine_base import EngineOptions
from deploy.exported_program import find_program
from deploy.operator_allowlist import ALLOWLISTS
from deploy.predictor import open_predictor
from export_model import program_writer
from models import create_model


@pytest.fixture(scope="module")
def written(exported_onnx, source, tmp_path_factory) -> list[Path]:
    """Programs of PeleeNet and MobileNetV3 by our exporter; AlexNet has no other operators."""
    from deploy.export.onnx_export import write_onnx
    from deploy.export.quantize import Calibration, write_int8

    folder, side = tmp_path_factory.mktemp("mobilenet"), source.card.preprocess.input_size
    write = program_writer(create_model("mobilenet_v3_small_x0_35", num_classes=4), side)
    write(folder)
    layers = paddle.nn.Sequential(paddle.nn.Flatten(), paddle.nn.Linear(3 * side * side, 4))
    program_writer(layers, side)(folder, with_softmax=True)
    with DygraphOldIrGuard():
        write(folder / "old")
    write_onnx(folder / "model.json", folder / "model.onnx", source.card)
    source.images[0].save(folder / "image.png")
    write_int8(folder / "model.onnx", folder / "int8.onnx", source.card, Calibration([str(folder / "image.png")]))
    return [path for place in (exported_onnx, folder) for path in place.rglob("*") if path.suffix in ALLOWLISTS]


@pytest.mark.deploy
@pytest.mark.parametrize("suffix", ALLOWLISTS)
def test_the_allowlists_hold_exactly_the_written_names(written, suffix):
    paths = [path for path in written if path.suffix == suffix and path.name != "check.json"]
    assert len(paths) >= 2
    assert set().union(*map(operator_allowlist.read_names, paths)) | {""} == ALLOWLISTS[suffix][1] | {""}


def replace(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def change_pdmodel(path: Path, change) -> None:
    program = framework_pb2.ProgramDesc.FromString(path.read_bytes())
    change(program)
    path.write_bytes(program.SerializeToString())


def in_a_second_block(program) -> None:
    program.blocks.add(idx=1, parent_idx=0).ops.add(type="py_func")


def with_a_block_in_front(program) -> None:
    program.blocks[0].forward_block_idx = 3


def change_onnx(path: Path, change) -> None:
    import onnx

    model = onnx.load(path)
    change(onnx, model)
    path.write_bytes(model.SerializeToString())


def of_another_domain(onnx, model) -> None:
    model.graph.node[-1].domain = "com.example"


def of_another_name(onnx, model) -> None:
    model.graph.node[-1].op_type = "If"


def with_its_own_operators(onnx, model) -> None:
    model.functions.add(name="Conv", domain="")


def with_a_graph_inside(onnx, model) -> None:
    model.graph.node[-1].attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.name = "body"


def _external(onnx, tensor) -> None:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")


def with_weights_elsewhere(onnx, model) -> None:
    _external(onnx, model.graph.initializer.add(name="w", data_type=1, dims=[1]))


def with_a_constant_elsewhere(onnx, model) -> None:
    _external(onnx, next(node for node in model.graph.node if node.op_type == "Constant").attribute[0].t)


PLANTED = {
    "model.json": [
        (lambda path: replace(path, b'"1.relu"', b'"1.save_combine"'), "'1.save_combine'"),
        (lambda path: replace(path, b'"1.relu"', b'"2.print"'), "'2.print'"),
        (lambda path: replace(path, b'"1.relu"', b'"1.\\u0070rint"'), "'1.print'"),
        (lambda path: replace(path, b'"#":"1.relu"', b'"#":"1.print","#":"1.relu"'), "'1.print'"),
        (lambda path: replace(path, b'"#":"1.relu"', b'"\\u0023":["1.relu"]'), "['1.relu']"),
        (lambda path: replace(path, b'"0.a_str"', b'"0.a_pointer"'), "'0.a_pointer'"),
        (lambda path: path.write_bytes(b"[" * 100_000), "damaged, or not a program: maximum recursion"),
        (lambda path: path.write_bytes(b" " * (1 << 24) + b"{}"), "more than 16777216 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "damaged, or not a program: Expecting"),
        (lambda path: replace(path, b"1.relu", b"1.\xff"), "damaged, or not a program: 'utf-8'"),
    ],
    "model.pdmodel": [
        (lambda path: change_pdmodel(path, in_a_second_block), "'py_func'"),
        (lambda path: change_pdmodel(path, with_a_block_in_front), "'field 5'"),
        (lambda path: path.write_bytes(b""), "damaged, or not a program: cannot mmap an empty file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "ends 1 bytes after its message"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\x0b\x0c"), "damaged, or not a program"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\x08" + b"\xff" * 11), "a number that does not end"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\x08\xff"), "does not end"),
    ],
    "model.onnx": [
        (lambda path: change_onnx(path, of_another_domain), "'com.example'"),
        (lambda path: change_onnx(path, of_another_name), "'If'"),
        (lambda path: change_onnx(path, with_its_own_operators), "'operators defined by the file'"),
        (lambda path: change_onnx(path, with_a_graph_inside), "'a graph inside a graph'"),
        (lambda path: change_onnx(path, with_weights_elsewhere), "'weights in another file'"),
        (lambda path: change_onnx(path, with_a_constant_elsewhere), "'weights in another file'"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "bytes after its message"),
    ],
}
ENGINES = {"model.json": "paddle", "model.pdmodel": "paddle", "model.onnx": "onnxruntime"}


@pytest.fixture
def no_runtime(monkeypatch):
    """Fail the test if a runtime gets a file; some files end the process by a segmentation fault."""
    for runtime in ("paddle.inference.create_predictor", "onnxruntime.InferenceSession"):
        pytest.importorskip(runtime.partition(".")[0])
        monkeypatch.setattr(runtime, lambda *_, **__: pytest.fail("a runtime opened the program"))


def true_checksums(folder: Path) -> None:
    """Write true checksums into the card, as anybody can who changes a file."""
    card = read_card(folder, verify=False)
    write_card(folder, Card(**{**vars(card), "files": {name: file_record(folder / name) for name in card.files}}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "check.json: does not hold logits: JSONDecodeError"),
        ("[]", "check.json: does not hold logits: TypeError"),
        ('{"logits": [1, [2]]}', "check.json: does not hold logits: ValueError"),
        ('{"logits": [1, 2, 3]}', "gives 4 classes, check.json holds 3"),
        ('{"logits": [0, 0, 0, 0]}', "gives other logits for check.png than at the export"),
    ],
)
def test_a_damaged_self_check_is_refused(exported, tmp_path, content, message):
    folder = shutil.copytree(exported, tmp_path / "exported")
    (folder / "check.json").write_text(content)
    true_checksums(folder)
    with pytest.raises(ExportedModelError, match=message):
        open_predictor(folder)


@pytest.mark.parametrize("name", ["check.json", "check.png"])
def test_the_files_of_the_self_check_have_checksums(exported, tmp_path, name):
    """On a GPU and for INT8 the logits are not compared, so that damage would not be seen otherwise."""
    folder = shutil.copytree(exported, tmp_path / "exported")
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b" ")
    with pytest.raises(ExportedModelError, match=f"{name}: sha256"):
        find_program(folder, None, "paddle", EngineOptions(), None)


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("name", "plant", "message"),
    [(name, plant, message) for name, cases in PLANTED.items() for plant, message in cases],
    ids=[f"{name}-{message}" for name, cases in PLANTED.items() for _, message in cases],
)
def test_names_that_are_never_written_are_refused_despite_true_checksums(
    exported_onnx, tmp_path, name, plant, message, no_runtime
):
    folder = shutil.copytree(exported_onnx, tmp_path / "exported")
    plant(folder / name)
    true_checksums(folder)
    with pytest.raises(ExportedModelError) as error:
        open_predictor(folder / name, engine=ENGINES[name])
    assert message in str(error.value) and str(folder / name) in str(error.value)
    assert error.value.exit_code == 4


def test_an_operator_that_writes_a_file_runs_only_if_trusted(exported, tmp_path):
    """Running the program writes the file: only the check of the operators prevents it."""
    folder, victim = shutil.copytree(exported, tmp_path / "exported"), tmp_path / "victim"

    def plant(program):
        block = program.blocks[0]
        weight = next(var.name for var in block.vars if var.name.endswith(".b_0"))
        saving = framework_pb2.OpDesc(type="save_combine")
        saving.inputs.add(parameter="X", arguments=[weight])
        saving.attrs.add(name="file_path", type=framework_pb2.AttrType.STRING, s=str(victim))
        block.ops.insert(1, saving)

    change_pdmodel(folder / "model.pdmodel", plant)
    true_checksums(folder)
    with pytest.raises(ExportedModelError, match=r"holds 'save_combine', which our exporter never .* --trust_program"):
        open_predictor(folder / "model.pdmodel")
    assert not victim.exists()
    open_predictor(folder / "model.pdmodel", trust_program=True)
    assert victim.exists()


@pytest.mark.deploy
def test_an_export_of_new_operators_prints_the_lines_to_add_and_writes_nothing(source, tmp_path):
    pytest.importorskip("paddle2onnx")
    layers = paddle.nn.Sequential(source.model, paddle.nn.ELU())
    layers.eval()  # else the export leaves them, and the model of all tests, in training mode
    save_program = program_writer(layers, source.card.preprocess.input_size)
    with pytest.raises(ExportedModelError) as error:
        source.export(tmp_path, ("paddle", "pdmodel", "onnx"), save_program=save_program)
    first, *lines = str(error.value).splitlines()
    assert first.startswith("the model holds '1.elu', ") and first.endswith(
        "add to deploy/operator_allowlist.py and export again:"
    )
    assert lines[:2] == ["    to JSON_NAMES: 1.elu", "    to PDMODEL_OPERATORS: elu"]
    assert lines[2:] == ["    to ONNX_OPERATORS: Elu"]
    for line in lines:
        name = line.split()[1].rstrip(":")
        assert isinstance(getattr(operator_allowlist, name), frozenset), "the allowlist has this name in the file"
    assert not list(tmp_path.iterdir())


def test_a_program_of_an_unknown_form_is_refused(tmp_path):
    (tmp_path / "model.xml").touch()
    with pytest.raises(ExportedModelError, match=r"model.xml: expected a program called \*.json, \*.pdmodel, \*.onnx"):
        open_predictor(tmp_path / "model.xml", engine="openvino")
