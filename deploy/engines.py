"""One class per runtime; each takes a program and answers `run(images) -> logits`, and nothing else is asked of it."""

import copy
import importlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import EngineOptionError, ExportedModelError, MissingDependencyError


@dataclass(frozen=True)
class EngineOptions:
    """Switches of the runtimes. An engine that cannot do what a switch asks for refuses; it never ignores it."""

    use_gpu: bool = False
    gpu_id: int = 0
    gpu_mem_mb: int = 8000
    num_threads: int | None = None  # None: every core this process may use
    precision: str = "fp32"  # fp32, fp16 or int8
    num_clones: int = 1  # engines on the same weights that will run at the same time, each with num_threads
    max_batch_size: int = 1  # TensorRT builds for it; 1 prefers the program for single images
    ir_optim: bool = True
    onednn: bool = False
    openvino: bool = False  # Paddle Inference hands model.pdmodel to the OpenVINO runtime in its wheel
    tensorrt: bool = False

    @property
    def threads(self) -> int:
        """Threads of one engine."""
        if self.num_threads:
            return self.num_threads
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def in_threads(number: int) -> str:
    return f"{number} thread" if number == 1 else f"{number} threads"


class PaddleEngine:
    """Paddle Inference on model.json or model.pdmodel.

    `run` holds Python's lock throughout (3.3.1), so threads of one process take turns.
    """

    def __init__(self, files: Sequence[Path], options: EngineOptions):
        inference = _import("paddle.inference", "paddle")
        is_pdmodel = files[0].suffix == ".pdmodel"
        self.description, self.device = f"Paddle Inference of {files[0].name}", "cpu"
        self.memory_optim_is_on = is_pdmodel
        with tempfile.TemporaryDirectory() as aside:  # OpenVINO would leave its blobs in ./__cache__
            config = inference.Config(*map(str, _side_by_side(files, Path(aside)) if options.openvino else files))
            config.set_optim_cache_dir(aside)
            config.disable_glog_info()
            config.switch_ir_optim(options.ir_optim)
            if is_pdmodel:  # for model.json create_predictor raises: memory_optimize_pass is not found
                config.enable_memory_optim()
            if options.use_gpu and _has_gpu(options.gpu_id):
                self._use_gpu(config, options, inference.PrecisionType)
            else:
                self._use_cpu(config, options, inference.PrecisionType, is_pdmodel=is_pdmodel)
            self.onednn_is_on = config.mkldnn_enabled()
            try:
                predictor = inference.create_predictor(config)
            except Exception as error:  # Paddle raises RuntimeError, ValueError and OSError for a damaged program
                raise ExportedModelError(f"{files[0]}: Paddle Inference cannot load it: {last_line(error)}") from None
        self._take(predictor)

    def _use_gpu(self, config, options: EngineOptions, precisions) -> None:
        precision = {"fp32": precisions.Float32, "fp16": precisions.Half, "int8": precisions.Int8}[options.precision]
        if options.precision == "int8" and not options.tensorrt:
            raise EngineOptionError("--precision int8 on a GPU needs --use_tensorrt True")
        config.enable_use_gpu(options.gpu_mem_mb, options.gpu_id, precisions.Float32 if options.tensorrt else precision)
        self.device = "gpu"
        self.description += f" on GPU {options.gpu_id}, {options.precision}"
        if options.tensorrt:
            _enable_tensorrt(config, precision, options.max_batch_size)
            self.description += ", TensorRT"

    def _use_cpu(self, config, options: EngineOptions, precisions, *, is_pdmodel: bool) -> None:
        if options.tensorrt:
            _enable_tensorrt(config, precisions.Float32, options.max_batch_size)
        if options.precision == "int8":
            raise EngineOptionError(
                "the paddle engine has no int8 on a CPU; take --engine onnxruntime and a folder exported with "
                "--format onnx-int8"
            )
        if options.precision == "fp16" and not options.onednn:
            raise EngineOptionError(
                "--precision fp16 on a CPU exists only as oneDNN's bfloat16; add --enable_mkldnn True"
            )
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(options.threads)
        self.description += " on CPU" + (", where it found no GPU" if options.use_gpu else "")
        if options.openvino:
            if not is_pdmodel:  # Paddle would silently run model.json without OpenVINO, five times slower
                raise ExportedModelError("Paddle Inference gives only model.pdmodel to OpenVINO; name that file")
            config.enable_openvino_engine(precisions.Float32)
            self.description += ", OpenVINO"
        elif options.onednn:
            config.enable_mkldnn()
            if options.precision == "fp16":
                config.enable_mkldnn_bfloat16()
            self.description += ", oneDNN" + (" bfloat16" if options.precision == "fp16" else "")
        else:
            config.disable_mkldnn()  # it is on by default on a CPU
        self.description += f", {in_threads(options.threads)}"

    def _take(self, predictor) -> None:
        self._predictor = predictor
        self.input_name = _only(predictor.get_input_names(), "inputs", self.description)
        self.output_name = _only(predictor.get_output_names(), "outputs", self.description)
        self._input = predictor.get_input_handle(self.input_name)
        self._output = predictor.get_output_handle(self.output_name)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits [B, C] of `images` [B, 3, S, S] float32."""
        self._input.reshape(images.shape)
        self._input.copy_from_cpu(np.ascontiguousarray(images))
        self._predictor.run()
        return self._output.copy_to_cpu()

    def clone(self) -> "PaddleEngine":
        """An engine for another thread; the weights are shared."""
        twin = copy.copy(self)
        twin._take(self._predictor.clone())
        return twin


def _side_by_side(files: Sequence[Path], folder: Path) -> list[Path]:
    """`files` of one name, in `folder` if need be: Paddle's OpenVINO finds the weights by the name of the program."""
    if len({file.stem for file in files}) == 1:
        return list(files)
    twins = [folder / f"model{file.suffix}" for file in files]
    for twin, file in zip(twins, files, strict=True):
        try:
            twin.symlink_to(file.resolve())
        except OSError:  # Windows asks for a privilege
            shutil.copy(file, twin)
    return twins


def _has_gpu(gpu_id: int) -> bool:
    import paddle

    if not paddle.is_compiled_with_cuda() or paddle.device.cuda.device_count() == 0:
        return False
    num_gpus = paddle.device.cuda.device_count()
    if gpu_id >= num_gpus:
        raise MissingDependencyError(f"--gpu_id {gpu_id}: this machine has {num_gpus}, counted from 0")
    return True


def _enable_tensorrt(config, precision, max_batch_size: int) -> None:
    try:
        config.enable_tensorrt_engine(
            workspace_size=1 << 30,
            max_batch_size=max_batch_size,
            min_subgraph_size=3,
            precision_mode=precision,
            use_static=False,
            use_calib_mode=False,
        )
    except RuntimeError:
        raise MissingDependencyError(
            "this build of Paddle has no TensorRT; install paddlepaddle-gpu with TensorRT, or leave out --use_tensorrt"
        ) from None


class OnnxRuntimeEngine:
    """ONNX Runtime on model.onnx or model_int8.onnx, on the CPU. Paddle is not imported."""

    device, onednn_is_on, memory_optim_is_on = "cpu", False, False

    def __init__(self, files: Sequence[Path], options: EngineOptions):
        ort = _import("onnxruntime", "onnxruntime")
        _refuse_paddle_switches("onnxruntime", options)
        settings = ort.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = options.threads, 1
        if not options.ir_optim:
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = ort.InferenceSession(files[0], settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base
            raise ExportedModelError(f"{files[0]}: ONNX Runtime cannot load it: {last_line(error)}") from None
        self._input_name = _only([value.name for value in self._session.get_inputs()], "inputs", files[0])
        _only([value.name for value in self._session.get_outputs()], "outputs", files[0])
        self.description = f"ONNX Runtime {ort.__version__} on CPU, {files[0].name}, {in_threads(options.threads)}"

    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits [B, C] of `images` [B, 3, S, S] float32."""
        [logits] = self._session.run(None, {self._input_name: images})
        return logits

    def clone(self) -> "OnnxRuntimeEngine":
        """Itself: a session may run in many threads at once."""
        return self


class OpenVinoEngine:
    """OpenVINO on model.onnx, model_int8.onnx or model.pdmodel, on the CPU. Paddle is not imported."""

    device, onednn_is_on, memory_optim_is_on = "cpu", False, False

    def __init__(self, files: Sequence[Path], options: EngineOptions):
        openvino = _import("openvino", "openvino")
        _refuse_paddle_switches("openvino", options)
        if not options.ir_optim:
            raise EngineOptionError("--engine openvino has no --ir_optim False: it always optimises")
        core = openvino.Core()
        try:
            model = core.read_model(*files)
            settings = {
                "NUM_STREAMS": options.num_clones,  # requests of one stream wait for each other
                "INFERENCE_NUM_THREADS": options.threads * options.num_clones,
                "INFERENCE_PRECISION_HINT": "f32",  # by default it takes bfloat16 where the CPU has it
                "ENABLE_CPU_PINNING": False,  # on a shared machine the pinned core may be taken
            }
            self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise ExportedModelError(f"{files[0]}: OpenVINO cannot load it: {last_line(error)}") from None
        _only([port.any_name for port in self._compiled.inputs], "inputs", files[0])  # it would make the others up
        _only([port.any_name for port in self._compiled.outputs], "outputs", files[0])
        self._request = self._compiled.create_infer_request()
        self.description = (
            f"OpenVINO {openvino.__version__.split('-')[0]} on CPU, {files[0].name}, {in_threads(options.threads)}"
        )

    def run(self, images: np.ndarray) -> np.ndarray:
        """Logits [B, C] of `images` [B, 3, S, S] float32."""
        [logits] = self._request.infer([images]).values()
        return logits

    def clone(self) -> "OpenVinoEngine":
        """An engine for another thread; the compiled model is shared."""
        twin = copy.copy(self)
        twin._request = self._compiled.create_infer_request()
        return twin


ENGINES = {"paddle": PaddleEngine, "onnxruntime": OnnxRuntimeEngine, "openvino": OpenVinoEngine}

SINGLE = "pdmodel-b1"  # for one image at a time; `Predictor` runs a batch in as many steps
# programs of the card that an engine runs, the best first
PROGRAMS = {"paddle": ("paddle", "pdmodel", SINGLE), "onnxruntime": ("onnx",), "openvino": ("onnx", "pdmodel")}
INT8_PROGRAMS = {"paddle": (), "onnxruntime": ("onnx-int8",), "openvino": ("onnx-int8",)}

REQUIREMENTS = {
    "paddle": "requirements.txt",
    "onnxruntime": "requirements-deploy.txt",
    "openvino": "requirements-deploy.txt",
}


def engine_programs(name: str, options: EngineOptions) -> tuple[str, ...]:
    """Names of the card's programs that the engine called `name` takes with `options`, the best first."""
    if name == "paddle" and options.openvino:
        return (SINGLE, "pdmodel") if options.max_batch_size == 1 else ("pdmodel", SINGLE)
    is_int8 = options.precision == "int8" and name != "paddle"  # whose int8 is TensorRT's, from the fp32 program
    return (INT8_PROGRAMS if is_int8 else PROGRAMS)[name]


def all_programs(name: str) -> tuple[str, ...]:
    """Names of the card's programs that the engine called `name` can run at all."""
    return PROGRAMS[name] + INT8_PROGRAMS[name]


def create_engine(name: str, files: Sequence[Path], options: EngineOptions):
    """The engine called `name` on the program `files` (program first, then weights)."""
    if name != "openvino":
        require_utf8(*files)
    return ENGINES[name](files, options)


def require_utf8(*paths: Path) -> None:
    """Linux allows a path to be no text; Paddle and ONNX Runtime then raise a TypeError of many lines."""
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise ExportedModelError(
                f"{path}: not UTF-8; Paddle and ONNX Runtime take no such path: rename the folder"
            ) from None


def _import(module: str, engine: str):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"--engine {engine}: {error}; pip install -r {REQUIREMENTS[engine]}, or take another --engine"
        ) from None


def _refuse_paddle_switches(engine: str, options: EngineOptions) -> None:
    for flag, is_on in (
        ("--use_tensorrt", options.tensorrt),
        ("--enable_mkldnn", options.onednn),
        ("--enable_openvino", options.openvino),
        ("--precision fp16", options.precision == "fp16"),
    ):
        if is_on:
            raise EngineOptionError(f"--engine {engine} has no {flag}: that is a switch of --engine paddle")


def _only(names: Sequence[str], what: str, place: object) -> str:
    if len(names) != 1:
        raise ExportedModelError(f"{place}: {len(names)} {what}, {', '.join(names)}: this is no image classifier")
    return names[0]


def last_line(error: Exception) -> str:
    """What the exception of a runtime comes to, without its stack trace."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
