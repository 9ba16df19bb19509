"""The table of inference engines: Paddle Inference, ONNX Runtime, OpenVINO; and the eager model as an engine."""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np

from common.errors import EngineOptionError, ExportedModelError
from common.processes import signal_stack_kept

from .engine_base import (
    Engine,
    EngineOptions,
    format_threads,
    import_runtime,
    last_line,
    only_name,
    require_bfloat16,
    require_utf8,
)
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

    @signal_stack_kept()
    def __init__(self, files: Sequence[Path], options: EngineOptions):
        """Load the program `files[0]` with its weights `files[1:]`.

        Raises:
            ExportedModelError: the program is damaged or not an image classifier.
            MissingDependencyError: OpenVINO is not installed.
        """
        openvino = import_runtime(OpenVinoEngine, "openvino")
        self._core, self._file = openvino.Core(), files[0]
        try:
            self._model = self._core.read_model(*files)  # once: another export may replace the files
        except RuntimeError as error:
            raise self._unusable(error) from None
        # OpenVINO would invent values for further inputs
        only_name([port.any_name for port in self._model.inputs], "inputs", files[0])
        only_name([port.any_name for port in self._model.outputs], "outputs", files[0])
        is_bf16 = options.precision == "bf16"
        self._settings = {
            "NUM_STREAMS": options.num_clones,  # requests in one stream wait for each other
            "INFERENCE_NUM_THREADS": options.threads * options.num_clones,
            # without it bfloat16 where the CPU has it
            "INFERENCE_PRECISION_HINT": "bf16" if is_bf16 else "f32",
            "ENABLE_CPU_PINNING": False,  # on a shared machine the pinned core may be busy
        }
        self._is_for_one = options.max_batch_size == 1
        self._is_fp32 = options.precision == "fp32"
        self._compiled, self._requests = {}, {}  # by batch size; None: any
        self._lock = Lock()  # of _compiled, which clones share
        self._request_for(1)  # a damaged program is an error now
        version = openvino.__version__.split("-")[0]
        precision = ", bfloat16" if is_bf16 else ""
        self.description = f"OpenVINO {version} on CPU, {files[0].name}{precision}, {format_threads(options.threads)}"

    @classmethod
    def unsupported_reason(cls, options: EngineOptions) -> str | None:
        """Say why OpenVINO cannot do what `options` ask for; None if it can.

        Raises:
            MissingDependencyError: bf16 on a processor that does not have it.
        """
        if not options.ir_optim:
            return "--engine openvino has no --ir_optim False: OpenVINO always optimises"
        if options.precision == "bf16":
            require_bfloat16()
            return super().unsupported_reason(replace(options, precision="fp32"))
        return super().unsupported_reason(options)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits [B, C] float32 of preprocessed `images` [B, 3, S, S] float32."""
        [logits] = self._request_for(len(images)).infer([images], share_inputs=True).values()
        return logits

    def clone(self) -> "OpenVinoEngine":
        """Return an engine for another thread that shares the compiled models of this one."""
        clone = copy.copy(self)
        clone._requests = {}
        return clone

    def _request_for(self, num_images: int):
        """The request of this engine for batches of `num_images`.

        An engine for single images has a model of one image, which is faster than one for any number, and compiles
        another one only when a larger batch comes.
        """
        size = 1 if num_images == 1 and self._is_for_one else None
        if size not in self._requests:
            with self._lock:
                if size not in self._compiled:
                    self._compiled[size] = self._compile(size)
            self._requests[size] = self._compiled[size].create_infer_request()
        return self._requests[size]

    def _compile(self, batch_size: int | None):
        """Compile the program for `batch_size` images, None: any number.

        Raises:
            ExportedModelError: OpenVINO cannot compile it.
        """
        try:
            model = self._model.clone()
            shape = model.input().partial_shape
            if batch_size and shape.rank.is_static and len(shape) and shape[0].is_dynamic:
                shape[0] = batch_size
                model.reshape(shape)
            if self._is_fp32:
                _prefer_channel_blocks(self._core, model)
            return self._core.compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: RuntimeError) -> ExportedModelError:
        return ExportedModelError(f"{self._file}: OpenVINO cannot load it: {last_line(error)}")


# Kernels whose values lie in memory as blocks of 16 channels, so that a concatenation of the channels of one image
# copies nothing. They take 0.83 to 1.0 times the time of the kernels that OpenVINO prefers (docs/journal.md).
CHANNEL_BLOCKS = "cpu:jit_avx512_1x1,cpu:jit_avx512_dw,cpu:jit_avx512"
_MARKED_MODEL = f"""<net name="marked" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1"><data shape="1" element_type="f32"/>
<output><port id="0" precision="FP32"><dim>1</dim></port></output></layer>
<layer id="1" name="marked" type="Relu" version="opset1">
<rt_info><attribute name="primitives_priority" version="0" value="{CHANNEL_BLOCKS}"/></rt_info>
<input><port id="0" precision="FP32"><dim>1</dim></port></input>
<output><port id="1" precision="FP32"><dim>1</dim></port></output></layer>
<layer id="2" name="y" type="Result" version="opset1"><input><port id="0" precision="FP32"><dim>1</dim></port></input>
</layer></layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>
<edge from-layer="1" from-port="1" to-layer="2" to-port="0"/></edges></net>"""


def _prefer_channel_blocks(core, model) -> None:
    """Mark the convolutions of `model` with CHANNEL_BLOCKS, unless it is an INT8 program, whose kernels are others.

    OpenVINO reads such a mark from its own files only, and Python cannot make one: it is taken from a model of text.
    """
    import openvino

    operations = model.get_ops()
    if any(operation.get_type_name() == "FakeQuantize" for operation in operations):
        return
    marked = core.read_model(_MARKED_MODEL, openvino.Tensor(openvino.Type.u8, openvino.Shape([0])))
    [mark] = [value for op in marked.get_ops() for value in op.get_rt_info().items() if op.get_type_name() == "Relu"]
    for operation in operations:
        if operation.get_type_name() in ("Convolution", "GroupConvolution"):
            operation.set_rt_info(mark[1], mark[0])


# Values of --engine in the order in which --engine auto tries them. OpenVINO is the fastest for single images (see
# benchmarks/latency.py), but takes 0.3 to 0.6 s longer to load than ONNX Runtime, what some hundred images gain;
# Paddle takes longest to load and holds the global interpreter lock.
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
