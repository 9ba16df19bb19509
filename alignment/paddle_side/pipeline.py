"""Run the functions of the user's pipeline on the port's side: data, loss, optimizer, schedule and metric."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import Optimizer
from paddle.optimizer.lr import LRScheduler, ReduceOnPlateau

from common.errors import CaseError, ProjectError, UserFunctionError

from ..adapter import in_order, original_of, tensors_of, with_tensors
from ..case import Case
from ..memory import is_refused
from ..pipeline.functions import (
    call_loss,
    dataset_items,
    loader_batches,
    made,
    metric_values,
    num_positional,
    plateau_loss,
    preprocess_images,
    schedule_settings,
)
from ..rules import Arrays
from ..stages.unjudged import missing_operation
from ..user_code import USER_ERRORS, place_of_error
from .port import Port, default_dtype, load_callable, to_dtype


def load(case: Case, key: str) -> Callable:
    """The function of the port that the case names under `key`.

    Raises:
        CaseError: it does not exist.
    """
    spec = case.function_spec(key, "port")
    return load_callable(spec["callable"], spec.get("package"), f"{key} of the port")


@contextmanager
def errors_named(case: Case, key: str) -> Iterator[None]:
    """Name the key of the case in an error that its function raises inside the context.

    Raises:
        UserFunctionError: the function failed, and not because an operation or memory is missing here.
    """
    try:
        yield
    except ProjectError:
        raise
    except USER_ERRORS as error:
        text = f"{type(error).__name__}: {error}{place_of_error(error)}"
        if missing_operation(text) or is_refused(error):
            raise
        raise UserFunctionError(f"{case.name}: the {key} of the port failed: {text}") from error


def port_of_case(case: Case) -> Port:
    """The model of the case with the user's functions that the case names, and else those of this project."""
    parts = {}
    if case.loss.is_given:
        parts["loss"] = lambda smoothing: user_loss(case)
    if case.optimizer.is_given:
        parts["schedule"] = lambda: make_schedule(case)
        parts["user_optimizer"] = lambda model, schedule: make_optimizer(case, model, schedule)
    if case.step.is_given:
        parts["step"] = user_step(case)
    return replace(Port.of_case(case), **parts)


def preprocessed(case: Case, paths: list[str], seed: int) -> Arrays:
    """What the function makes of each picture; `pipeline.functions.preprocess_images` has the arguments."""
    with errors_named(case, "preprocess"):
        return preprocess_images(load(case, "preprocess"), paths, seed, paddle.seed)


def items(case: Case, num: int | list[int], seed: int) -> Arrays:
    """Items of the data set, as `pipeline.functions.dataset_items` describes."""
    with errors_named(case, "dataset"):
        return dataset_items(load(case, "dataset"), num, seed, paddle.seed)


def batches(case: Case, num: int, seed: int) -> Arrays:
    """Batches of the loader, as `pipeline.functions.loader_batches` describes."""
    with errors_named(case, "loader"):
        return loader_batches(load(case, "loader"), num, seed, paddle.seed)


def user_loss(case: Case) -> Callable:
    """The loss of the user as a function of (output, target)."""
    with errors_named(case, "loss"):
        loss = made(load(case, "loss"))

    def call(output: object, target: object) -> object:
        with errors_named(case, "loss"):
            return call_loss(loss, output, target)

    call.of_user = loss
    return call


def user_step(case: Case) -> Callable:
    """The training step of the user, with the parameters that it has."""
    step = load(case, "step")

    @wraps(step)
    def call(**values: object) -> object:
        with errors_named(case, "step"):
            return step(**values)

    return call


def metric(case: Case, pairs: list[tuple]) -> Arrays:
    """The values of the metric for pairs (what the model returned, target)."""
    with errors_named(case, "metric"):
        return metric_values(load(case, "metric"), pairs)


def returned(port: Port, images: np.ndarray) -> object:
    """What a new port itself returns for images, in evaluation mode and float64."""
    model = to_dtype(port.build(), "float64")
    model.eval()
    with default_dtype("float64"), paddle.no_grad():
        return original_of(model(paddle.to_tensor(images.astype(np.float64))))


def loss_and_gradients(
    loss: Callable, nested: object, outputs: list[np.ndarray], paths: list[str], target: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The value of a loss, and its gradient of each output.

    Args:
        loss: function of (output, target).
        nested: what the port returns, which shows how the tensors are nested.
        outputs: the values of these tensors, in the order of the reference.
        paths: of the tensors in the reference.
        target: what the loss is given beside the output.

    Raises:
        CaseError: the port returns another number of tensors.
    """
    tensors = [paddle.to_tensor(array, stop_gradient=array.dtype.kind != "f") for array in outputs]
    value = loss(filled(nested, tensors, paths), paddle.to_tensor(target))
    value.backward()
    gradients = [paddle.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in tensors]
    return value.numpy(), [gradient.numpy() for gradient in gradients]


def filled(nested: object, tensors: list[paddle.Tensor], paths: list[str]) -> object:
    """What the port returns with the values of other tensors, which the reference returns under these paths.

    Tensors are paired by path if both sides have the same, and else in order.

    Raises:
        CaseError: there are more or fewer tensors than it returns.
    """
    own = [path for path, _ in tensors_of(nested, paddle.is_tensor)]
    num = len(own)
    if num != len(tensors):
        raise CaseError(f"the port returns {num} tensors, the reference {len(tensors)}: their losses are not compared")
    ordered = in_order(list(zip(paths, tensors, strict=True)), own)
    return with_tensors(nested, paddle.is_tensor, [tensor for _, tensor in ordered])


def make_schedule(case: Case) -> LRScheduler | None:
    """The schedule of the user; None if the case names none for the port, whose optimizer may have one."""
    with errors_named(case, "schedule"):
        return load(case, "schedule")() if case.schedule.port else None


def base_rate(case: Case) -> float | None:
    """The rate that the schedule of the port starts from, which in torch its optimizer has."""
    schedule = make_schedule(case)
    return float(getattr(schedule, "base_lr", 0.0)) or None


def make_optimizer(case: Case, model: nn.Layer, schedule: LRScheduler | None) -> Optimizer:
    """The optimizer of the user for the model; a function of two parameters is given the schedule as the second."""
    function = load(case, "optimizer")
    with errors_named(case, "optimizer"):
        if schedule is not None and num_positional(function) > 1:
            return function(model, schedule)
        optimizer = function(model)
    if schedule is not None:
        optimizer.set_lr_scheduler(schedule)
    return optimizer


def schedule_of(optimizer: Optimizer) -> LRScheduler | None:
    """The schedule that sets the learning rate of the optimizer."""
    rate = optimizer._learning_rate
    return rate if isinstance(rate, LRScheduler) else None


def step_schedule(schedule: LRScheduler, index: int) -> None:
    """One step of a schedule; ReduceOnPlateau is given a loss that falls only at every third step."""
    is_plateau = isinstance(schedule, ReduceOnPlateau)
    schedule.step(plateau_loss(index)) if is_plateau else schedule.step()


def rates_of(case: Case, model: nn.Layer, num: int) -> tuple[list[float], dict[str, list[float]]]:
    """The learning rate before each of `num` steps, and the settings of the schedule.

    Raises:
        CaseError: the case names no schedule of the port, and its optimizer has none.
    """
    schedule = make_schedule(case)
    if schedule is None and case.optimizer.port:
        schedule = schedule_of(make_optimizer(case, model, None))
    if schedule is None:
        case.function_spec("schedule", "port")  # raises
    rates = []
    for index in range(num):
        rates.append(float(schedule.get_lr() if not hasattr(schedule, "last_lr") else schedule.last_lr))
        try:
            step_schedule(schedule, index)
        except ValueError:  # OneCycleLR, after its last step
            break
    return rates, schedule_settings(schedule)
