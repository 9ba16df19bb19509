"""The engines agree with the eager model; every option has its effect or is refused."""

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from common.cpus import has_bfloat16
from common.errors import EngineOptionError, ExportedModelError, MissingDependencyError, UsageError
from configs.loader import parse
from configs.schema import InferConfig
from deploy import engine_base, exported_program, predictor
from deploy import paddle_engine as paddle_engine_module
from deploy.engine_base import Engine
from deploy.engines import ENGINES, EngineOptions, create_engine
from deploy.export.export_folder import WRITERS
from deploy.exported_program import choose_engine
from deploy.paddle_engine import PaddleEngine
from deploy.predictor import open_predictor
from deploy.topk import softmax
from tests.forked_python import run_python

ROOT = Path(__file__).parents[2]
PADDLE_RUNS = [
    ("model.json", {}),
    ("model.json", {"onednn": True}),
    ("model.json", {"ir_optim": False}),
    ("model.pdmodel", {}),
    ("model.pdmodel", {"onednn": True}),
    ("model.pdmodel", {"openvino": True}),
]


def assert_agrees(predictor, source):
    logits = predictor.logits(predictor.preprocess(source.images))
    np.testing.assert_allclose(softmax(logits), softmax(source.logits), rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits, source.logits, rtol=0, atol=1e-5 * np.abs(source.logits).max())


@pytest.mark.parametrize(("program", "options"), PADDLE_RUNS)
def test_paddle_inference_agrees_with_the_eager_model(exported, source, program, options):
    assert_agrees(open_predictor(exported / program, options=EngineOptions(num_threads=1, **options)), source)


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("engine", "program"), [("onnxruntime", "model.onnx"), ("openvino", "model.onnx"), ("openvino", "model.pdmodel")]
)
def test_other_runtimes_agree_with_the_eager_model(exported_onnx, source, engine, program):
    predictor = open_predictor(exported_onnx / program, engine=engine, options=EngineOptions(num_threads=1))
    assert predictor.engine.description.endswith("1 thread")
    assert_agrees(predictor, source)
    assert_agrees(predictor.clone(), source)
    logits = predictor.logits(predictor.preprocess(source.images[:1]))
    copy = logits.copy()
    predictor.logits(predictor.preprocess(source.images[1:2]))
    assert np.array_equal(logits, copy), "the next logits overwrote the first"


def paddle_engine(folder, program, **options) -> PaddleEngine:
    return create_engine("paddle", [folder / program, folder / "model.pdiparams"], EngineOptions(**options))


@pytest.mark.parametrize("program", ["model.json", "model.pdmodel"])
def test_onednn_is_on_only_with_its_option(exported, program):
    assert not paddle_engine(exported, program).onednn_is_on
    assert paddle_engine(exported, program, onednn=True).onednn_is_on


def test_openvino_in_paddle_leaves_no_files_behind(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    predictor = open_predictor(exported / "model.pdmodel", options=EngineOptions(openvino=True))
    predictor.clone()
    assert not list(tmp_path.iterdir())


SIGNAL_AFTER_TWO_ENGINES = """
import gc, signal, sys
import numpy as np
from deploy.predictor import open_predictor

engines = [open_predictor(sys.argv[1], engine="openvino").engine for _ in range(2)]
while engines:
    engines[0].run(np.zeros([1, 3, 32, 32], np.float32))
    del engines[0]
    gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("the handler has run"))
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.deploy
def test_a_signal_after_two_engines_of_openvino_have_ended(exported):
    # The one that was made first ends first: the stack of signals must not stay at that of the first one.
    done = run_python(["-c", SIGNAL_AFTER_TWO_ENGINES, exported / "model.pdmodel"], cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "the handler has run\n"), done.stderr


def test_input_and_output_names_are_read_from_the_program(exported):
    assert paddle_engine(exported, "model.json").output_name == "fetch_name_0"
    assert paddle_engine(exported, "model.pdmodel").output_name.endswith("tmp_1")


def test_a_clone_gives_the_same_logits(exported, source):
    predictor = open_predictor(exported)
    assert_agrees(predictor.clone(), source)


def test_without_a_gpu_the_description_names_the_cpu(exported):
    pytest.importorskip("paddle")
    assert paddle_engine(exported, "model.json", use_gpu=True).description.startswith(
        "Paddle Inference of model.json on CPU (no GPU found)"
    )


@pytest.mark.parametrize(
    ("program", "options", "error", "message"),
    [
        ("model.json", {"tensorrt": True}, MissingDependencyError, "has no TensorRT"),
        ("model.json", {"openvino": True}, ExportedModelError, "only model.pdmodel"),
        ("model.json", {"precision": "fp16"}, EngineOptionError, "add --enable_mkldnn True"),
        ("model.pdmodel", {"precision": "fp16", "openvino": True}, EngineOptionError, "add --enable_mkldnn True"),
        ("model.pdmodel", {"onednn": True, "openvino": True}, EngineOptionError, "two libraries"),
        ("model.json", {"precision": "int8"}, EngineOptionError, "--engine onnxruntime"),
    ],
)
def test_options_that_a_cpu_does_not_have_are_refused(exported, program, options, error, message):
    with pytest.raises(error, match=message):
        paddle_engine(exported, program, **options)


@pytest.mark.deploy
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("options", [{"tensorrt": True}, {"onednn": True}, {"openvino": True}, {"precision": "fp16"}])
def test_options_of_paddle_are_refused_by_other_engines(exported_onnx, name, options):
    with pytest.raises(EngineOptionError, match=f"--engine {name} has no --"):
        create_engine(name, [exported_onnx / "model.onnx"], EngineOptions(**options))


def bfloat16_is(answer: bool, monkeypatch) -> None:
    """Replace what the processor says of itself."""
    monkeypatch.setattr(engine_base, "has_bfloat16", lambda: answer)


BF16 = EngineOptions(precision="bf16", num_threads=1)


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("engine", "options"), [("openvino", {}), ("auto", {}), ("paddle", {"onednn": True, "use_gpu": False})]
)
def test_bf16_on_a_processor_without_it_is_an_error_with_code_7(exported_onnx, monkeypatch, engine, options):
    bfloat16_is(False, monkeypatch)
    with pytest.raises(MissingDependencyError, match="bf16: this processor has no bfloat16") as error:
        open_predictor(exported_onnx, engine=engine, options=replace(BF16, **options))
    assert error.value.exit_code == 7
    assert open_predictor(exported_onnx, engine="openvino").engine.name == "openvino", "fp32 runs everywhere"


def test_fp16_on_a_processor_without_bfloat16_is_refused_too(exported, monkeypatch):
    bfloat16_is(False, monkeypatch)
    with pytest.raises(MissingDependencyError, match="--precision fp16: this processor has no bfloat16"):
        paddle_engine(exported, "model.json", precision="fp16", onednn=True)


@pytest.mark.deploy
@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("onnxruntime", {}, "onnxruntime has no --precision bf16: that is an option of --engine openvino"),
        ("paddle", {}, "bf16 only by oneDNN: infer.py --enable_mkldnn True; or use --engine openvino"),
        ("paddle", {"openvino": True}, "bf16 only by oneDNN"),
        ("openvino", {"onednn": True}, "openvino has no --enable_mkldnn"),
    ],
)
def test_bf16_of_an_engine_that_does_not_have_it_is_refused(exported_onnx, monkeypatch, engine, options, message):
    bfloat16_is(True, monkeypatch)
    with pytest.raises(EngineOptionError, match=message):
        open_predictor(exported_onnx, engine=engine, options=replace(BF16, **options))


@pytest.mark.deploy
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_openvino_is_told_the_precision(exported_onnx, monkeypatch, precision):
    """Without a word OpenVINO takes bfloat16 where the processor has it, and answers would differ by machine."""
    bfloat16_is(True, monkeypatch)
    core, calls = pytest.importorskip("openvino").Core, []
    compile_model = core.compile_model
    monkeypatch.setattr(core, "compile_model", lambda *a: calls.append(a[-1]) or compile_model(*a))
    engine = create_engine("openvino", [exported_onnx / "model.onnx"], EngineOptions(precision=precision))
    assert [settings["INFERENCE_PRECISION_HINT"] for settings in calls] == [{"fp32": "f32"}.get(precision, "bf16")]
    assert ("bfloat16" in engine.description) == (precision == "bf16")


@pytest.mark.deploy
@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
@pytest.mark.parametrize(
    ("engine", "program", "options"),
    [
        ("openvino", "model.onnx", {}),
        ("auto", "model.onnx", {}),
        ("paddle", "model.json", {"onednn": True}),
        ("paddle", "model.pdmodel", {"onednn": True}),
    ],
)
def test_bf16_is_within_two_hundredths_of_the_largest_logit(exported_onnx, source, engine, program, options):
    """A bfloat16 has 8 bits; float32 would be within 1e-5, so that the other end says that bf16 was computed."""
    opened = open_predictor(exported_onnx / program, engine=engine, options=replace(BF16, **options))
    assert "bfloat16" in opened.engine.description
    logits = opened.logits(opened.preprocess(source.images))
    distance = np.abs(logits - source.logits).max() / np.abs(source.logits).max()
    assert 1e-5 < distance < 0.02


@pytest.mark.deploy
def test_a_gpu_does_not_take_bf16(exported_onnx, monkeypatch):
    monkeypatch.setattr("deploy.paddle_engine._has_gpu", lambda gpu_id: True)
    reason = PaddleEngine.unsupported_reason(replace(BF16, use_gpu=True))
    assert reason == "--precision bf16 is for a CPU; add --use_gpu False, or take --precision fp16"


@pytest.mark.deploy
def test_openvino_refuses_to_run_without_optimisation(exported_onnx):
    with pytest.raises(EngineOptionError, match="openvino has no --ir_optim False"):
        create_engine("openvino", [exported_onnx / "model.onnx"], EngineOptions(ir_optim=False))


def test_a_damaged_program_without_a_card_is_an_error(exported, tmp_path):
    (tmp_path / "model.json").write_text((exported / "model.json").read_text()[:-100])
    (tmp_path / "model.pdiparams").write_bytes((exported / "model.pdiparams").read_bytes())
    with pytest.raises(ExportedModelError, match=r"model.json: Paddle Inference cannot load it"):
        paddle_engine(tmp_path, "model.json")


@pytest.mark.parametrize("name", ["paddle", "onnxruntime"])
def test_a_path_that_is_not_utf8_is_a_clear_error(name):
    with pytest.raises(ExportedModelError, match=r"not UTF-8; .* rename the folder"):
        create_engine(name, [Path(os.fsdecode(b"/caf\xe9/model"))], EngineOptions())


def test_auto_chooses_the_fastest_installed_engine_that_has_a_program(exported, exported_onnx, monkeypatch):
    options = EngineOptions(use_gpu=True)
    assert choose_engine(exported_onnx, options) == ("onnxruntime", options)
    assert choose_engine(exported, options)[0] == "openvino", "OpenVINO reads model.pdmodel"
    assert choose_engine(exported, EngineOptions(ir_optim=False))[0] == "paddle", "OpenVINO always optimises"
    assert choose_engine(exported_onnx / "model.json", options)[0] == "paddle", "only Paddle runs model.json"
    with pytest.raises(ExportedModelError, match=r"none.onnx: .*card.yaml does not list it, only paddle \(model"):
        choose_engine(exported_onnx / "none.onnx", options)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "paddle")
    assert choose_engine(exported, options) == ("paddle", EngineOptions(use_gpu=True, openvino=True))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExportedModelError, match="no installed engine runs paddle or pdmodel"):
        choose_engine(exported, options)


def test_auto_skips_engines_that_lack_an_option(exported_onnx):
    options = EngineOptions(onednn=True)
    assert choose_engine(exported_onnx, options) == ("paddle", options), "only Paddle has oneDNN"
    with pytest.raises(EngineOptionError, match=r"--engine auto: .* openvino has no --precision fp16.* as bfloat16"):
        choose_engine(exported_onnx, EngineOptions(precision="fp16"))


def test_auto_on_a_gpu_takes_only_engines_that_run_on_it(exported_onnx, monkeypatch):
    monkeypatch.setattr(exported_program, "GPU_DEVICE", exported_onnx)  # a path that exists
    monkeypatch.setattr(paddle_engine_module, "_has_gpu", lambda gpu_id: True)
    assert choose_engine(exported_onnx, EngineOptions(use_gpu=True)) == ("paddle", EngineOptions(use_gpu=True))
    assert choose_engine(exported_onnx, EngineOptions())[0] == "onnxruntime"


@pytest.mark.parametrize("is_installed", [True, False])
def test_auto_takes_a_cpu_engine_where_no_engine_runs_on_the_gpu(exported, exported_onnx, monkeypatch, is_installed):
    """Paddle for CPUs, or none, on a machine with a GPU."""
    options, find_spec = EngineOptions(use_gpu=True), importlib.util.find_spec
    monkeypatch.setattr(exported_program, "GPU_DEVICE", exported_onnx)  # a path that exists
    monkeypatch.setattr(paddle_engine_module, "_has_gpu", lambda gpu_id: False)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: find_spec(name) if is_installed or name != "paddle" else None
    )
    assert choose_engine(exported_onnx, options) == ("onnxruntime", options)
    if is_installed:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "paddle")
        assert choose_engine(exported, options) == ("paddle", EngineOptions(use_gpu=True, openvino=True))


def test_the_flag_and_the_table_name_the_same_engines():
    for name in ("auto", *ENGINES):
        assert parse(InferConfig, [f"--engine={name}"], prog="infer.py").engine.engine == name
    with pytest.raises(UsageError) as error:
        parse(InferConfig, ["--engine=none"], prog="infer.py")
    assert set(str(error.value).rpartition("known: ")[2].split(", ")) == {"auto", *ENGINES}


def test_every_engine_declares_its_programs_and_requirements():
    for name, engine in ENGINES.items():
        assert engine.name == name and importlib.util.find_spec(engine.name)
        assert engine.programs and set(engine.all_programs()) <= set(WRITERS)
        assert (ROOT / engine.requirements).is_file()


class ConstantEngine(Engine):
    """The smallest class of an engine."""

    name = "numpy"
    programs = ("onnx",)

    def __init__(self, files, options):
        self.description = f"constant logits instead of {files[0].name}"

    def run(self, images):
        return np.tile(np.float32([3, 1, 2, 0]), (len(images), 1))

    def clone(self):
        return self


def test_a_new_engine_is_a_class_and_a_row_of_the_table(exported_onnx, source, monkeypatch):
    monkeypatch.setitem(ENGINES, "numpy", ConstantEngine)
    monkeypatch.setattr(predictor, "check_logits", lambda *arguments: None)  # constants differ from the export
    opened = open_predictor(exported_onnx, engine="numpy")
    [prediction] = opened.predict(source.images[:1], ["a.jpg"], topk=2)
    assert prediction["class_ids"] == [0, 2]
    for options in ({"tensorrt": True}, {"precision": "int8"}):
        with pytest.raises(EngineOptionError, match="--engine numpy has no --"):
            open_predictor(exported_onnx, engine="numpy", options=EngineOptions(**options))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "numpy")
    assert choose_engine(exported_onnx, EngineOptions())[0] == "numpy"


@pytest.mark.deploy
def test_a_predictor_opened_by_auto_has_the_first_engine_of_the_table(exported_onnx):
    assert open_predictor(exported_onnx, engine="auto").engine.name == next(iter(ENGINES))


@pytest.mark.deploy
def test_auto_names_a_path_that_does_not_exist(tmp_path):
    (tmp_path / "exported").mkdir()
    with pytest.raises(ExportedModelError, match=r"exportde: no such file; did you mean .*exported"):
        choose_engine(tmp_path / "exportde", EngineOptions())


def test_auto_needs_a_card(tmp_path):
    with pytest.raises(ExportedModelError, match=r"no card\.yaml in .* name an engine instead of --engine auto"):
        choose_engine(tmp_path, EngineOptions())


def test_int8_needs_its_own_program(exported_onnx):
    with pytest.raises(ExportedModelError, match=r"runs onnx-int8, the folder holds .* --format .*onnx-int8"):
        open_predictor(exported_onnx, engine="onnxruntime", options=EngineOptions(precision="int8"))


@pytest.mark.parametrize(("engine", "program"), [("onnxruntime", "model.json"), ("openvino", "model.json")])
def test_a_program_of_another_engine_is_refused(exported, engine, program):
    with pytest.raises(ExportedModelError, match=rf"{program}: the {engine} engine runs onnx .*, not paddle"):
        open_predictor(exported / program, engine=engine)


@pytest.mark.deploy
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [("ab", "y", "2 inputs, a, b"), ("a", "yz", "2 outputs, y, z"), ("a", "y", "not one number for each class")],
)
def test_a_program_that_is_not_a_classifier_is_refused(tmp_path, engine, inputs, outputs, message):
    helper = pytest.importorskip("onnx").helper
    ports = {name: helper.make_tensor_value_info(name, 1, [1, 3, 224, 224]) for name in inputs + outputs}
    nodes = [helper.make_node("Add", [inputs[0], inputs[-1]], [name]) for name in outputs]
    graph = helper.make_graph(nodes, "g", [ports[name] for name in inputs], [ports[name] for name in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportedModelError, match=f"two.onnx: .*{message}"):
        open_predictor(tmp_path / "two.onnx", engine=engine)


@pytest.mark.deploy
def test_openvino_runs_clones_side_by_side(exported_onnx):
    engine = create_engine("openvino", [exported_onnx / "model.onnx"], EngineOptions(num_threads=1, num_clones=2))
    engine.clone().run(np.zeros((1, 3, 32, 32), np.float32))
    [compiled] = engine._compiled.values()  # clones share it
    assert compiled.get_property("NUM_STREAMS") == min(2, os.cpu_count())
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


def openvino_kernels(engine, batch_size) -> dict[str, set[tuple[str, str]]]:
    """Name and layout of the kernels of each kind of layer in the compiled model of a batch size; None is any size."""
    kinds = {}
    for operation in engine._compiled[batch_size].get_runtime_model().get_ops():
        about = {
            name: operation.get_rt_info()[name].astype(str) for name in ("layerType", "primitiveType", "outputLayouts")
        }
        kinds.setdefault(about["layerType"], set()).add((about["primitiveType"], about["outputLayouts"]))
    return kinds


@pytest.mark.deploy
def test_openvino_for_single_images_has_a_model_of_one_image_in_blocks_of_channels(exported_onnx, source):
    """Its concatenations copy nothing, and its numbers are those of any batch."""
    opened = open_predictor(exported_onnx / "model.onnx", engine="openvino", options=EngineOptions(num_threads=1))
    engine = opened.engine
    assert set(engine._compiled) == {1}, "a larger batch has not come yet"
    kernels = openvino_kernels(engine, 1)
    if any("avx512" in name for name, _ in kernels["Convolution"]):
        assert {layout for _, layout in kernels["Convolution"]} == {"aBcd16b"}
        assert not any(name.startswith("ref") for name, _ in kernels["Concatenation"])
    one_by_one = np.concatenate([opened.logits(opened.preprocess([image])) for image in source.images])
    assert_agrees(opened, source)
    assert set(engine._compiled) == {1, None}
    np.testing.assert_allclose(one_by_one, source.logits, rtol=0, atol=1e-5 * np.abs(source.logits).max())


@pytest.mark.deploy
def test_openvino_for_batches_has_one_model_of_any_size(exported_onnx, source):
    options = EngineOptions(num_threads=1, max_batch_size=2)
    opened = open_predictor(exported_onnx / "model.onnx", engine="openvino", options=options)
    assert_agrees(opened, source)
    assert set(opened.engine._compiled) == {None}


@pytest.mark.deploy
def test_openvino_in_bf16_keeps_its_own_choice_of_kernels(exported_onnx, monkeypatch):
    """Blocks of channels would keep it from the matrix instructions."""
    bfloat16_is(True, monkeypatch)
    marked = []
    monkeypatch.setattr("deploy.engines._prefer_channel_blocks", lambda *given: marked.append(given))
    for precision, num_marked in (("bf16", 0), ("fp32", 1)):
        options = EngineOptions(precision=precision, num_threads=1)
        create_engine("openvino", [exported_onnx / "model.onnx"], options)
        assert len(marked) == num_marked


@pytest.mark.deploy
def test_onnx_runtime_and_paddle_get_the_number_of_threads(exported_onnx, monkeypatch):
    """The threads of an engine compute one operator; operators run one after another."""
    one = create_engine("onnxruntime", [exported_onnx / "model.onnx"], EngineOptions(num_threads=3, num_clones=2))
    settings = one._session.get_session_options()
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (3, 1)
    configs, create = [], paddle.inference.create_predictor
    monkeypatch.setattr(paddle.inference, "create_predictor", lambda c: configs.append(c) or create(c))
    paddle_engine(exported_onnx, "model.json", num_threads=3, num_clones=2)
    assert [config.cpu_math_library_num_threads() for config in configs] == [3]


@pytest.mark.deploy
def test_openvino_gets_threads_for_every_clone(exported_onnx, monkeypatch):
    """OpenVINO limits the threads to those of the machine, so the test reads the arguments of compile_model."""
    core, calls = pytest.importorskip("openvino").Core, []
    compile_model = core.compile_model
    monkeypatch.setattr(core, "compile_model", lambda *a: calls.append(a[-1]) or compile_model(*a))
    for num_threads, num_clones in ((3, 1), (3, 2)):
        options = EngineOptions(num_threads=num_threads, num_clones=num_clones)
        create_engine("openvino", [exported_onnx / "model.onnx"], options)
    assert [settings["INFERENCE_NUM_THREADS"] for settings in calls] == [3, 6]
    assert [settings["NUM_STREAMS"] for settings in calls] == [1, 2]


def test_a_program_with_a_fixed_batch_size_of_1(source, tmp_path):
    source.export(tmp_path, ("paddle", "pdmodel", "pdmodel-b1"))
    assert (tmp_path / "model_b1.pdmodel").read_bytes() != (tmp_path / "model.pdmodel").read_bytes()
    for batch_size, program in ((1, "model_b1.pdmodel"), (2, "model.pdmodel")):
        options = EngineOptions(openvino=True, max_batch_size=batch_size, num_threads=1)
        predictor = open_predictor(tmp_path, engine="paddle", options=options)
        assert program in predictor.engine.description
        arrays = predictor.preprocess(source.images[:batch_size])
        np.testing.assert_allclose(predictor.logits(arrays), source.logits[:batch_size], rtol=1e-4, atol=1e-5)
    predictor, sizes = open_predictor(tmp_path / "model_b1.pdmodel"), []
    run = predictor.engine.run
    predictor.engine.run = lambda images: (sizes.append(len(images)), run(images))[1]
    assert_agrees(predictor, source)
    assert set(sizes) == {1}  # four images, one after the other


@pytest.mark.parametrize("batch_size", [1, 4])
def test_auto_without_other_runtimes_runs_a_program_of_the_folder(source, tmp_path, monkeypatch, batch_size):
    source.export(tmp_path, ("paddle", "pdmodel-b1"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "paddle")
    engine, options = choose_engine(tmp_path, EngineOptions(max_batch_size=batch_size, num_threads=1))
    assert_agrees(open_predictor(tmp_path, engine=engine, options=options), source)


def test_a_gpu_gets_its_memory_and_its_number():
    """A fake replaces the configuration of Paddle Inference."""
    asked, engine = [], object.__new__(PaddleEngine)
    engine.description = ""
    config = SimpleNamespace(enable_use_gpu=lambda *given: asked.append(given))
    precisions = SimpleNamespace(Float32="float32", Half="float16", Int8="int8")
    engine._use_gpu(config, EngineOptions(gpu_id=1, gpu_mem_mb=500, precision="fp16"), precisions)
    assert asked == [(500, 1, "float16")] and engine.device == "gpu" and "GPU 1" in engine.description
