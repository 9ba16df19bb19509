"""The fastest forward pass of trained weights on a CPU: their program, checked against the eager model."""

import copy
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from common.errors import ProjectError
from configs.schema import TrainedDeviceConfig

if TYPE_CHECKING:  # the deployment package is loaded where a program is opened: trainings need none
    from deploy.engine_base import Engine, EngineOptions
    from deploy.engines import EagerEngine

logger = logging.getLogger("eval")

# The program of PeleeNet takes 3 s to write and load, in which the eager model computes about this many
# multiply-accumulates: 100 images at 224 pixels. A count, not a timing: the same command takes the same way each time.
MIN_MACS = 5 * 10**10
MIN_IMAGES = 16  # for fewer the multiply-accumulates need not be counted, which takes a forward pass
NUM_CHECKED = 16  # images of the first batch that the eager model computes too
LIBRARIES = ({"openvino": True}, {"onednn": True})  # of Paddle's wheel, the faster one first


class CheckedProgram:
    """An engine that compares its first batch with the eager model, and leaves the work to it where they differ."""

    def __init__(self, program: "Engine", eager: "EagerEngine"):
        self._program: Engine | None = program
        self._eager = eager
        self._is_checked = False

    @property
    def description(self) -> str:
        """Runtime, program and device, for people."""
        return (self._program or self._eager).description

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute the logits [B, C] float32 of preprocessed `images` [B, 3, S, S] float32."""
        if self._program is None:
            return self._eager.run(images)
        logits = self._program.run(images)
        if not self._is_checked:
            from deploy.export.parity import TOLERANCE

            expected = self._eager.run(images[:NUM_CHECKED])
            difference, largest = np.abs(logits[:NUM_CHECKED] - expected).max(), np.abs(expected).max()
            if not difference <= TOLERANCE * largest:  # also where one of them is nan
                logger.warning(
                    f"the program and the eager model differ by {difference:.1e} in a logit, where the largest is "
                    f"{largest:.1e} (allowed {TOLERANCE:.0e} of it): the eager model continues, which is slower"
                )
                self._program = None
                return self._eager.run(images)
            self._is_checked = True
        return logits

    def clone(self) -> "CheckedProgram":
        """Return an engine for another thread that shares the weights of this one."""
        clone = copy.copy(self)
        clone._program = self._program and self._program.clone()
        return clone


def open_cpu_engine(
    model, input_size: int, num_images: int, device: TrainedDeviceConfig, eager: "EagerEngine"
) -> "EagerEngine | CheckedProgram":
    """Open the fastest engine that gives the logits of the eager model: its program, where that saves time.

    The eager model is taken on a GPU, with --eager True, for few images, and where no program can be written or loaded,
    which is a warning.

    Args:
        model: the model with its weights.
        input_size: side S of the images in pixels.
        num_images: number of images that will be computed.
        device: the branch `device` of the config.
        eager: the eager model.
    """
    from deploy.engine_base import EngineOptions, last_line
    from engine.cpu_threads import cpu_threads
    from engine.run import is_on_cpu
    from models.complexity import count_macs

    if device.eager or not is_on_cpu() or num_images < MIN_IMAGES:
        return eager
    if num_images * count_macs(model, input_size) < MIN_MACS:
        return eager
    options = EngineOptions(num_threads=cpu_threads())
    try:
        program = _load_program(model, input_size, options)
    except Exception as error:  # of Paddle's tracing, which may raise anything for a network that it cannot trace
        logger.warning(f"no program of the network: {last_line(error)}; the eager model computes, which is slower")
        return eager
    logger.info(f"forward pass: {program.description}; --eager True takes the eager model")
    return CheckedProgram(program, eager)


def _load_program(model, input_size: int, options: "EngineOptions") -> "Engine":
    from paddle.pir_utils import DygraphOldIrGuard

    from deploy.engines import create_engine
    from engine.export import export_program

    with tempfile.TemporaryDirectory() as folder:
        with DygraphOldIrGuard():  # OpenVINO reads this form alone
            export_program(model, input_size, folder)
        files = [Path(folder) / name for name in ("model.pdmodel", "model.pdiparams")]
        for library in LIBRARIES:
            try:
                return create_engine("paddle", files, replace(options, **library))
            except ProjectError as error:
                reason = error
        raise reason
