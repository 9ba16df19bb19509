"""The model repository for Triton: its config by Triton's own schema, its program, and what an export does to it."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.errors import UsageError
from datasets.reading.pixels import image_to_input
from deploy.card import read_card
from deploy.engines import EngineOptions, create_engine
from deploy.export.export_folder import WRITERS
from deploy.export.triton import place_repository, write_repository
from tests.deploy.conftest import CLASS_NAMES, SIDE

pytestmark = pytest.mark.deploy


@pytest.fixture(scope="module")
def folder(source, exported_onnx, tmp_path_factory) -> Path:
    """An export with a repository; the conversion to ONNX takes seconds, so its file is copied."""

    def write(work, _):
        shutil.copy(exported_onnx / "model.onnx", work)
        return read_card(exported_onnx).programs["onnx"]

    folder = tmp_path_factory.mktemp("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WRITERS, "onnx", write)
        source.export(folder, ("triton",))
    return folder


@pytest.fixture(scope="module")
def model_config():
    """Triton's message ModelConfig; the package around it would import gRPC."""
    pytest.importorskip("google.protobuf")
    package = importlib.util.find_spec("tritonclient")
    if package is None:
        pytest.skip("needs tritonclient")
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_config_is_one_that_triton_reads(folder, model_config):
    from google.protobuf import text_format

    model = folder / "triton" / "peleenet"
    assert files_below(model) == {"config.pbtxt", "labels.txt", "card.yaml", "1/model.onnx"}
    config = text_format.Parse((model / "config.pbtxt").read_text(encoding="utf-8"), model_config.ModelConfig())
    assert (config.name, config.backend) == (model.name, "onnxruntime")
    assert config.max_batch_size == 32 and config.HasField("dynamic_batching")
    [given], [answer], [warmup] = config.input, config.output, config.model_warmup
    assert (given.name, list(given.dims)) == ("images", [3, SIDE, SIDE])
    assert (given.data_type, given.format) == (model_config.TYPE_FP32, model_config.ModelInput.FORMAT_NCHW)
    assert (answer.name, list(answer.dims), answer.data_type) == ("logits", [4], model_config.TYPE_FP32)
    assert warmup.inputs["images"].zero_data and list(warmup.inputs["images"].dims) == [3, SIDE, SIDE]
    assert config.default_model_filename == "model.onnx"
    labels = (model / answer.label_filename).read_text(encoding="utf-8")
    assert labels.splitlines() == list(CLASS_NAMES)


def test_the_program_has_these_tensors_and_gives_the_answers_of_the_model(folder, source):
    model = folder / "triton" / "peleenet"
    assert (model / "1" / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx")
    assert [one.name for one in (*session.get_inputs(), *session.get_outputs())] == ["images", "logits"]
    engine = create_engine("onnxruntime", [model / "1" / "model.onnx"], EngineOptions())
    card = read_card(model)
    assert (card.preprocess, card.class_names) == (source.card.preprocess, source.card.class_names)
    images = np.stack([image_to_input(image, card.preprocess) for image in source.images])
    np.testing.assert_allclose(engine.run(images), source.logits, atol=1e-4)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_repository_replaces_the_older_one_and_goes_with_it(folder, tmp_path):
    card, new = read_card(folder), tmp_path / "new"
    shutil.copytree(folder / "triton", tmp_path / "triton")
    (tmp_path / "triton" / "peleenet" / "1" / "left_over.txt").write_text("of an older export")
    new.mkdir()
    shutil.copy(folder / "model.onnx", new)
    write_repository(new, card)
    place_repository(new, tmp_path)
    assert files_below(tmp_path / "triton") == files_below(folder / "triton")
    assert not (new / "triton").exists()
    place_repository(new, tmp_path)  # of an export without a repository
    assert not (tmp_path / "triton").exists()


def test_a_folder_that_no_export_wrote_is_left_alone(source, tmp_path):
    (tmp_path / "triton" / "mine").mkdir(parents=True)
    (tmp_path / "triton" / "mine" / "config.pbtxt").write_text('name: "mine"')
    with pytest.raises(UsageError, match=r"triton: is not a model repository that an export wrote; move it away"):
        source.export(tmp_path, ("triton",))
    assert not (tmp_path / "card.yaml").exists()
    place_repository(tmp_path / "new", tmp_path)
    assert (tmp_path / "triton" / "mine" / "config.pbtxt").read_text() == 'name: "mine"'
