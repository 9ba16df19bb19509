"""Paddle Inference: model.json or model.pdmodel on a CPU (with oneDNN or OpenVINO) or on a GPU (with TensorRT)."""

import copy
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.errors import ExportedModelError, MissingDependencyError

from .engine_base import (
    BATCH_1_PROGRAM,
    Engine,
    EngineOptions,
    format_threads,
    import_runtime,
    last_line,
    only_name,
    require_bfloat16,
    require_utf8,
)


class PaddleEngine(Engine):
    """Paddle Inference. In Paddle 3.3.1 `run` holds the global interpreter lock, so threads run one after another."""

    name = "paddle"
    programs = ("paddle", "pdmodel", BATCH_1_PROGRAM)
    int8_programs = programs  # TensorRT quantises the fp32 program
    requirements = "requirements.txt"
    releases_gil = False

    def __init__(self, files: Sequence[Path], options: EngineOptions):
        """Load the program `files[0]` with its weights `files[1]`.

        Raises:
            ExportedModelError: the program or its weights are damaged.
            MissingDependencyError: Paddle, the GPU or TensorRT is missing.
        """
        require_utf8(*files)
        inference = import_runtime(PaddleEngine, "paddle.inference")
        is_pdmodel = files[0].suffix == ".pdmodel"
        self.description = f"Paddle Inference of {files[0].name}"
        self.memory_optim_is_on = is_pdmodel
        with tempfile.TemporaryDirectory() as cache:  # without it OpenVINO writes its files to ./__cache__
            config = inference.Config(*map(str, _with_one_stem(files, Path(cache)) if options.openvino else files))
            config.set_optim_cache_dir(cache)
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
        self._bind(predictor)

    @classmethod
    def finds_gpu(cls, options: EngineOptions) -> bool:
        """Whether Paddle is installed, was built for GPUs, and finds one.

        Raises:
            MissingDependencyError: there are GPUs, but not `options.gpu_id`.
        """
        return cls.is_installed() and _has_gpu(options.gpu_id)

    @classmethod
    def unsupported_reason(cls, options: EngineOptions) -> str | None:
        """Say why Paddle Inference cannot do what `options` ask for on this machine; None if it can.

        Raises:
            MissingDependencyError: Paddle is not installed, the GPU `options.gpu_id` does not exist, or bf16 or fp16
                on a processor without bfloat16.
        """
        if options.use_gpu and _has_gpu(options.gpu_id):
            if options.precision == "bf16":
                return "--precision bf16 is for a CPU; add --use_gpu False, or take --precision fp16"
            if options.precision == "int8" and not options.tensorrt:
                return "--precision int8 on a GPU needs --use_tensorrt True"
            return None
        if options.precision == "int8":
            return (
                "the paddle engine has no int8 on a CPU; use --engine onnxruntime and a folder exported with "
                "--format onnx-int8"
            )
        if options.precision == "fp16" and not options.onednn:
            return "--precision fp16 on a CPU exists only as bfloat16 of oneDNN; add --enable_mkldnn True"
        if options.onednn and options.openvino and options.precision != "bf16":
            return "--enable_mkldnn True and --enable_openvino True name two libraries, of which only one can run"
        if options.precision == "bf16" and (not options.onednn or options.openvino):
            return "the paddle engine has bf16 only by oneDNN: infer.py --enable_mkldnn True; or use --engine openvino"
        if options.precision in ("bf16", "fp16"):
            require_bfloat16(options.precision)
        return None

    @classmethod
    def programs_for(cls, options: EngineOptions) -> tuple[str, ...]:
        """Names of the programs in a card that run with `options`, the fastest first. OpenVINO needs a .pdmodel."""
        if options.openvino:
            is_batch_1 = options.max_batch_size == 1
            return (BATCH_1_PROGRAM, "pdmodel") if is_batch_1 else ("pdmodel", BATCH_1_PROGRAM)
        return super().programs_for(options)

    @classmethod
    def fastest_cpu_options(cls, options: EngineOptions, programs: Collection[str]) -> EngineOptions:
        """Switch OpenVINO on for a folder with a .pdmodel, else oneDNN, unless `options` name a library."""
        if options.openvino or options.onednn or options.tensorrt:
            return options
        has_pdmodel = any(name in programs for name in cls.programs_for(replace(options, openvino=True)))
        return replace(options, openvino=has_pdmodel, onednn=not has_pdmodel)

    def _use_gpu(self, config, options: EngineOptions, precisions) -> None:
        precision = {"fp32": precisions.Float32, "fp16": precisions.Half, "int8": precisions.Int8}[options.precision]
        config.enable_use_gpu(options.gpu_mem_mb, options.gpu_id, precisions.Float32 if options.tensorrt else precision)
        self.device = "gpu"
        self.description += f" on GPU {options.gpu_id}, {options.precision}"
        if options.tensorrt:
            _enable_tensorrt(config, precision, options.max_batch_size)
            self.description += ", TensorRT"

    def _use_cpu(self, config, options: EngineOptions, precisions, *, is_pdmodel: bool) -> None:
        if options.tensorrt:
            _enable_tensorrt(config, precisions.Float32, options.max_batch_size)
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(options.threads)
        self.description += " on CPU" + (" (no GPU found)" if options.use_gpu else "")
        if options.openvino:
            if not is_pdmodel:  # Paddle would silently run model.json without OpenVINO, five times slower
                raise ExportedModelError(
                    "--enable_openvino True: Paddle Inference runs only model.pdmodel through OpenVINO; name that file"
                )
            config.enable_openvino_engine(precisions.Float32)
            self.description += ", OpenVINO"
        elif options.onednn:
            config.enable_mkldnn()
            is_bfloat16 = options.precision in ("bf16", "fp16")
            if is_bfloat16:
                config.enable_mkldnn_bfloat16()
            self.description += ", oneDNN" + (" bfloat16" if is_bfloat16 else "")
        else:
            config.disable_mkldnn()  # on by default on a CPU
        self.description += f", {format_threads(options.threads)}"

    def _bind(self, predictor) -> None:
        self._predictor = predictor
        self.input_name = only_name(predictor.get_input_names(), "inputs", self.description)
        self.output_name = only_name(predictor.get_output_names(), "outputs", self.description)
        self._input = predictor.get_input_handle(self.input_name)
        self._output = predictor.get_output_handle(self.output_name)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits [B, C] float32 of preprocessed `images` [B, 3, S, S] float32."""
        self._input.reshape(images.shape)
        self._input.copy_from_cpu(np.ascontiguousarray(images))
        self._predictor.run()
        return self._output.copy_to_cpu()

    def clone(self) -> "PaddleEngine":
        """Return an engine for another thread that shares the weights of this one."""
        clone = copy.copy(self)
        clone._bind(self._predictor.clone())
        return clone


def _with_one_stem(files: Sequence[Path], folder: Path) -> list[Path]:
    """Link `files` in `folder` as model.* unless their stems are equal: OpenVINO in Paddle searches by the stem."""
    if len({file.stem for file in files}) == 1:
        return list(files)
    links = [folder / f"model{file.suffix}" for file in files]
    for link, file in zip(links, files, strict=True):
        try:
            link.symlink_to(file.resolve())
        except OSError:  # Windows asks for a privilege
            shutil.copy(file, link)
    return links


def _has_gpu(gpu_id: int) -> bool:
    paddle = import_runtime(PaddleEngine, "paddle")
    num_gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if 0 < num_gpus <= gpu_id:
        raise MissingDependencyError(f"--gpu_id {gpu_id}: this machine has {num_gpus} GPUs, numbered from 0")
    return num_gpus > 0


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
