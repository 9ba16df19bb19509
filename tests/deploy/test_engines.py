"""The engines agree with the eager model, and every switch does what it says or refuses."""

import os
from pathlib import Path

import numpy as np
import paddle
import pytest

from common.errors import EngineOptionError, ExportedModelError, MissingDependencyError
from deploy.engines import EngineOptions, PaddleEngine, create_engine
from deploy.predictor import Predictor, choose_engine
from deploy.topk import softmax

PADDLE_RUNS = [
    ("model.json", {}),
    ("model.json", {"onednn": True}),
    ("model.json", {"ir_optim": False}),
    ("model.pdmodel", {}),
    ("model.pdmodel", {"onednn": True}),
    ("model.pdmodel", {"openvino": True}),
]


def assert_agrees(predictor, source):
    logits = predictor.logits(predictor.arrays(source.images))
    np.testing.assert_allclose(softmax(logits), softmax(source.logits), rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits, source.logits, rtol=0, atol=1e-5 * np.abs(source.logits).max())


@pytest.mark.parametrize(("program", "switches"), PADDLE_RUNS)
def test_paddle_inference_agrees_with_the_eager_model(exported, source, program, switches):
    assert_agrees(Predictor(exported / program, options=EngineOptions(num_threads=1, **switches)), source)


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("engine", "program"), [("onnxruntime", "model.onnx"), ("openvino", "model.onnx"), ("openvino", "model.pdmodel")]
)
def test_other_runtimes_agree_with_the_eager_model(exported_onnx, source, engine, program):
    predictor = Predictor(exported_onnx / program, engine=engine, options=EngineOptions(num_threads=1))
    assert predictor.engine.description.endswith("1 thread")
    assert_agrees(predictor, source)
    assert_agrees(predictor.clone(), source)
    answer = predictor.logits(predictor.arrays(source.images[:1]))
    kept = answer.copy()
    predictor.logits(predictor.arrays(source.images[1:2]))
    assert np.array_equal(answer, kept), "the next answer overwrote it"


def engine(folder, program, **switches) -> PaddleEngine:
    return create_engine("paddle", [folder / program, folder / "model.pdiparams"], EngineOptions(**switches))


@pytest.mark.parametrize("program", ["model.json", "model.pdmodel"])
def test_onednn_is_on_only_when_asked_for(exported, program):
    assert not engine(exported, program).onednn_is_on
    assert engine(exported, program, onednn=True).onednn_is_on


def test_openvino_in_paddle_leaves_no_files_behind(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predictor = Predictor(exported / "model.pdmodel", options=EngineOptions(openvino=True))
    predictor.clone()
    assert not list(tmp_path.iterdir())


def test_input_and_output_names_are_asked_of_the_program(exported):
    assert engine(exported, "model.json").output_name == "fetch_name_0"
    assert engine(exported, "model.pdmodel").output_name.endswith("tmp_1")


def test_a_clone_answers_alike(exported, source):
    predictor = Predictor(exported)
    assert_agrees(predictor.clone(), source)


def test_without_a_gpu_the_cpu_is_used_and_named(exported):
    pytest.importorskip("paddle")
    assert engine(exported, "model.json", use_gpu=True).description.startswith(
        "Paddle Inference of model.json on CPU, where it found no GPU"
    )


@pytest.mark.parametrize(
    ("program", "switches", "error", "message"),
    [
        ("model.json", {"tensorrt": True}, MissingDependencyError, "has no TensorRT"),
        ("model.json", {"openvino": True}, ExportedModelError, "only model.pdmodel"),
        ("model.json", {"precision": "fp16"}, EngineOptionError, "add --enable_mkldnn True"),
        ("model.json", {"precision": "int8"}, EngineOptionError, "--engine onnxruntime"),
    ],
)
def test_what_a_cpu_cannot_do_is_refused(exported, program, switches, error, message):
    with pytest.raises(error, match=message):
        engine(exported, program, **switches)


@pytest.mark.deploy
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("switches", [{"tensorrt": True}, {"onednn": True}, {"openvino": True}, {"precision": "fp16"}])
def test_switches_of_paddle_are_refused_elsewhere(exported_onnx, name, switches):
    with pytest.raises(EngineOptionError, match=f"--engine {name} has no --"):
        create_engine(name, [exported_onnx / "model.onnx"], EngineOptions(**switches))


@pytest.mark.deploy
def test_openvino_cannot_leave_its_optimisation_out(exported_onnx):
    with pytest.raises(EngineOptionError, match="openvino has no --ir_optim False"):
        create_engine("openvino", [exported_onnx / "model.onnx"], EngineOptions(ir_optim=False))


def test_a_damaged_program_without_a_card_is_an_error(exported, tmp_path):
    (tmp_path / "model.json").write_text((exported / "model.json").read_text()[:-100])
    (tmp_path / "model.pdiparams").write_bytes((exported / "model.pdiparams").read_bytes())
    with pytest.raises(ExportedModelError, match=r"model.json: Paddle Inference cannot load it"):
        engine(tmp_path, "model.json")


@pytest.mark.parametrize("name", ["paddle", "onnxruntime"])
def test_a_path_that_is_not_utf8_is_one_sentence(name):
    with pytest.raises(ExportedModelError, match=r"not UTF-8; .* rename the folder"):
        create_engine(name, [Path(os.fsdecode(b"/caf\xe9/model"))], EngineOptions())


def test_auto_is_the_best_engine_that_is_installed_and_has_a_program(exported, exported_onnx, monkeypatch):
    options = EngineOptions(use_gpu=True)
    assert choose_engine(exported_onnx, options) == ("onnxruntime", options)
    assert choose_engine(exported, options)[0] == "openvino", "it reads model.pdmodel"
    assert choose_engine(exported, EngineOptions(ir_optim=False))[0] == "paddle", "OpenVINO always optimises"
    assert choose_engine(exported_onnx / "model.json", options)[0] == "paddle", "that program was asked for"
    with pytest.raises(ExportedModelError, match=r"none.onnx: .*card.yaml does not list it, only paddle \(model"):
        choose_engine(exported_onnx / "none.onnx", options)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "paddle")
    assert choose_engine(exported, options) == ("paddle", EngineOptions(use_gpu=True, openvino=True))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExportedModelError, match="no installed engine runs paddle or pdmodel"):
        choose_engine(exported, options)


@pytest.mark.deploy
def test_auto_needs_a_card(tmp_path):
    with pytest.raises(ExportedModelError, match=r"no card\.yaml there, .* name an engine instead of --engine auto"):
        choose_engine(tmp_path / "model.onnx", EngineOptions())


def test_int8_is_taken_only_when_asked_for_and_where_it_is(exported_onnx):
    with pytest.raises(ExportedModelError, match=r"runs onnx-int8, the folder holds .* --format onnx-int8"):
        Predictor(exported_onnx, engine="onnxruntime", options=EngineOptions(precision="int8"))


@pytest.mark.parametrize(("engine", "program"), [("onnxruntime", "model.json"), ("openvino", "model.json")])
def test_a_program_that_the_engine_does_not_run(exported, engine, program):
    with pytest.raises(ExportedModelError, match=rf"{program}: the {engine} engine runs onnx .*, not paddle"):
        Predictor(exported / program, engine=engine)


@pytest.mark.deploy
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [("ab", "y", "2 inputs, a, b"), ("a", "yz", "2 outputs, y, z"), ("a", "y", "not a number for each class")],
)
def test_a_program_that_is_no_classifier(tmp_path, engine, inputs, outputs, message):
    helper = pytest.importorskip("onnx").helper
    ports = {name: helper.make_tensor_value_info(name, 1, [1, 3, 224, 224]) for name in inputs + outputs}
    nodes = [helper.make_node("Add", [inputs[0], inputs[-1]], [name]) for name in outputs]
    graph = helper.make_graph(nodes, "g", [ports[name] for name in inputs], [ports[name] for name in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportedModelError, match=f"two.onnx: .*{message}"):
        Predictor(tmp_path / "two.onnx", engine=engine)


@pytest.mark.deploy
def test_openvino_runs_clones_side_by_side(exported_onnx):
    engine = create_engine("openvino", [exported_onnx / "model.onnx"], EngineOptions(num_threads=1, num_clones=2))
    assert engine._compiled.get_property("NUM_STREAMS") == min(2, os.cpu_count())
    assert engine._compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


@pytest.mark.deploy
def test_onnx_runtime_and_paddle_have_the_threads_that_were_asked_for(exported_onnx, monkeypatch):
    """Those of one engine work on one operator, and operators run one after the other."""
    one = create_engine("onnxruntime", [exported_onnx / "model.onnx"], EngineOptions(num_threads=3, num_clones=2))
    settings = one._session.get_session_options()
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (3, 1)
    configs, create = [], paddle.inference.create_predictor
    monkeypatch.setattr(paddle.inference, "create_predictor", lambda c: configs.append(c) or create(c))
    engine(exported_onnx, "model.json", num_threads=3, num_clones=2)
    assert [config.cpu_math_library_num_threads() for config in configs] == [3]


@pytest.mark.deploy
def test_openvino_has_threads_for_every_clone(exported_onnx, monkeypatch):
    """OpenVINO takes no more than the machine has, so the test reads what OpenVINO is asked for."""
    core, asked = pytest.importorskip("openvino").Core, []
    compile_model = core.compile_model
    monkeypatch.setattr(core, "compile_model", lambda *a: asked.append(a[-1]) or compile_model(*a))
    for num_threads, num_clones in ((3, 1), (3, 2)):
        options = EngineOptions(num_threads=num_threads, num_clones=num_clones)
        create_engine("openvino", [exported_onnx / "model.onnx"], options)
    assert [one["INFERENCE_NUM_THREADS"] for one in asked] == [3, 6]
    assert [one["NUM_STREAMS"] for one in asked] == [1, 2]


def test_a_program_for_one_image_at_a_time(source, tmp_path):
    source.export(tmp_path, ("paddle", "pdmodel", "pdmodel-b1"))
    assert (tmp_path / "model_b1.pdmodel").read_bytes() != (tmp_path / "model.pdmodel").read_bytes()
    for batch_size, program in ((1, "model_b1.pdmodel"), (2, "model.pdmodel")):
        options = EngineOptions(openvino=True, max_batch_size=batch_size, num_threads=1)
        predictor = Predictor(tmp_path, engine="paddle", options=options)
        assert program in predictor.engine.description
        arrays = predictor.arrays(source.images[:batch_size])
        np.testing.assert_allclose(predictor.logits(arrays), source.logits[:batch_size], rtol=1e-4, atol=1e-5)
    assert_agrees(Predictor(tmp_path / "model_b1.pdmodel"), source)  # four images, one after the other


@pytest.mark.parametrize("batch_size", [1, 4])
def test_auto_without_other_runtimes_takes_what_the_folder_has(source, tmp_path, monkeypatch, batch_size):
    source.export(tmp_path, ("paddle", "pdmodel-b1"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "paddle")
    engine, options = choose_engine(tmp_path, EngineOptions(max_batch_size=batch_size, num_threads=1))
    assert_agrees(Predictor(tmp_path, engine=engine, options=options), source)
