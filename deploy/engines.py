"""The table of inference engines: Paddle Inference, ONNX Runtime, OpenVINO; and the eager model as an engine."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from common.errors import EngineOptionError, ExportedModelError

from .engine_base import Engine, EngineOptions, format_threads, import_runtime, last_line, only_name, require_utf8
from .paddle_engine import PaddleEngine


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime on model.onnx or model_int8.onnx, on the CPU. Paddle is not imported."""

    name = "onnxruntime"
    programs = ("onnx",)
    int8_programs = ("onnx-int8",)

    def __init__(self, files: Sequence[Path], options: EngineOptions):
        """Load the program `files[0]`.

        Raises:
            ExportedModelError: the program is damaged or not an image classifier.
            MissingDependencyError: ONNX Runtime is not installed.
        """
        require_utf8(*files)
        ort = import_runtime(OnnxRuntimeEngine, "onnxruntime")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = options.threads, 1
        if not options.ir_optim:
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = ort.InferenceSession(files[0], settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # the exceptions of ONNX Runtime have no common base class
            raise ExportedModelError(f"{files[0]}: ONNX Runtime cannot load it: {last_line(error)}") from None
        self._input_name = only_name([value.name for value in self._session.get_inputs()], "inputs", files[0])
        only_name([value.name for value in self._session.get_outputs()], "outputs", files[0])
        self.description = f"ONNX Runtime {ort.__version__} on CPU, {files[0].name}, {format_threads(options.threads)}"

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits [B, C] float32 of preprocessed `images` [B, 3, S, S] float32."""
        [logits] = self._session.run(None, {self._input_name: images})
        return logits

    def clone(self) -> "OnnxRuntimeEngine":
        """Return this engine: a session may run in many threads at once."""
        return self


class OpenVinoEngine(Engine):
    """OpenVINO on model.onnx, model_int8.onnx or model.pdmodel, on the CPU. Paddle is not imported."""

    name = "openvino"
    programs = ("onnx", "pdmodel")
    int8_programs = ("onnx-int8",)

    def __init__(self, files: Sequence[Path], options: EngineOptions):
        """Load the program `files[0]` with its weights `files[1:]`.

        Raises:
            ExportedModelError: the program is damaged or not an image classifier.
            MissingDependencyError: OpenVINO is not installed.
        """
        openvino = import_runtime(OpenVinoEngine, "openvino")
        core = openvino.Core()
        try:
            model = core.read_model(*files)
            settings = {
                "NUM_STREAMS": options.num_clones,  # requests in one stream wait for each other
                "INFERENCE_NUM_THREADS": options.threads * options.num_clones,
                "INFERENCE_PRECISION_HINT": "f32",  # the default is bfloat16 where the CPU has it
                "ENABLE_CPU_PINNING": False,  # on a shared machine the pinned core may be busy
            }
            self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise ExportedModelError(f"{files[0]}: OpenVINO cannot load it: {last_line(error)}") from None
        # OpenVINO would invent values for further inputs
        only_name([port.any_name for port in self._compiled.inputs], "inputs", files[0])
        only_name([port.any_name for port in self._compiled.outputs], "outputs", files[0])
        self._request = self._compiled.create_infer_request()
        version = openvino.__version__.split("-")[0]
        self.description = f"OpenVINO {version} on CPU, {files[0].name}, {format_threads(options.threads)}"

    @classmethod
    def unsupported_reason(cls, options: EngineOptions) -> str | None:
        """Say why OpenVINO cannot do what `options` ask for; None if it can."""
        if not options.ir_optim:
            return "--engine openvino has no --ir_optim False: OpenVINO always optimises"
        return super().unsupported_reason(options)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits [B, C] float32 of preprocessed `images` [B, 3, S, S] float32."""
        [logits] = self._request.infer([images]).values()
        return logits

    def clone(self) -> "OpenVinoEngine":
        """Return an engine for another thread that shares the compiled model of this one."""
        clone = copy.copy(self)
        clone._request = self._compiled.create_infer_request()
        return clone


# Values of --engine in the order in which --engine auto tries them. PeleeNet, fp32, batch 1, one core: 11.1, 12.3 and
# at best 11.9 ms (python -m benchmarks.latency); Paddle takes longest to load and holds the global interpreter lock.
# The choices of --engine in configs/schema.py are held to this table by tests/deploy/test_engines.py.
ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (OnnxRuntimeEngine, OpenVinoEngine, PaddleEngine)}


def check_options(name: str, options: EngineOptions) -> None:
    """Refuse `options` that the engine `name` does not have.

    Raises:
        EngineOptionError: the engine does not have one of the `options`.
        MissingDependencyError: a device that `options` ask for is missing.
    """
    if reason := ENGINES[name].unsupported_reason(options):
        raise EngineOptionError(reason)


def create_engine(name: str, files: Sequence[Path], options: EngineOptions) -> Engine:
    """Load the program `files[0]` with its weights `files[1:]` by the engine `name`.

    Raises:
        EngineOptionError: the engine does not have one of the `options`.
        ExportedModelError: the program cannot be loaded.
        MissingDependencyError: the runtime, or a device that `options` ask for, is missing.
    """
    check_options(name, options)
    return ENGINES[name](files, options)


class EagerEngine:
    """A Paddle layer that is not exported, in evaluation mode; `Predictor` uses it as any other engine."""

    description = "eager model"

    def __init__(self, model, autocast: Callable[[], AbstractContextManager] = nullcontext):
        model.eval()
        self._model = model
        self._autocast = autocast

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits [B, C] float32 of preprocessed `images` [B, 3, S, S] float32."""
        import paddle

        with paddle.no_grad(), self._autocast():
            return self._model(paddle.to_tensor(images)).astype("float32").numpy()
