"""What the reference's process can be asked; every operation takes and returns plain values and names of files."""

import inspect
from pathlib import Path

import numpy as np
import torch

from alignment.exchange import DropoutMasks, read_arrays, sketch, write_arrays

from . import torch_formulas
from .float32_constants import float32_constants
from .recorder import short_path, trace
from .references import DTYPES, build, constant_layers, load_callable, set_random_weights, set_state
from .training import cross_entropy, train

MAX_DRAWS = 20  # a ReLU over four channels is dead in one of some twenty draws; what stays dead is inconclusive
WHOLE_GRADIENTS = 1 << 20  # elements; a bigger gradient is sent as a sketch


def versions() -> dict:
    return {"torch": torch.__version__, "numpy": np.__version__}


def inventory(reference: dict) -> dict:
    """Every entry of the state, and where each module's class is written."""
    model = build(reference)
    parameters = dict(model.named_parameters())
    return {
        "entries": [
            {"name": name, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch."),
             "is_parameter": name in parameters}
            for name, value in model.state_dict().items()
        ],
        "classes": {path: class_place(type(module)) for path, module in model.named_modules()},
    }  # fmt: skip


def logits_shape(reference: dict, shape: list[int]) -> dict:
    """What images of `shape` become."""
    with torch.no_grad():
        return {"shape": list(build(reference).eval()(torch.zeros(shape)).shape)}


def class_place(kind: type) -> str:
    try:
        return f"{short_path(inspect.getfile(kind))}:{inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):
        return ""


def initialise(reference: dict, seed: int, images: str, num_checked: int, output: str) -> dict:
    """Write random weights (see references.py) as float32; draw again while a layer is dead on the checked images."""
    model = build(reference, "float64")
    batch = torch.from_numpy(read_arrays(Path(images))["images"]).double()
    for draw in range(MAX_DRAWS):
        set_random_weights(model, [seed, draw], batch)
        if not constant_layers(model, batch[:num_checked]):
            break
    state = {name: value.numpy() for name, value in model.float().state_dict().items()}
    write_arrays(Path(output), state)
    return {"num_entries": len(state), "num_draws": draw + 1}


def record_trace(
    reference: dict, weights: str, inputs: str, output: str, dtype: str, is_training: bool, loss: dict | None,
    seed: int, axes: dict,
) -> dict:  # fmt: skip
    """Layer by layer, forward and, when a loss is named, backward."""
    arrays = read_arrays(Path(inputs))
    model = set_state(build(reference, dtype), read_arrays(Path(weights))).train(is_training)
    images = torch.from_numpy(arrays["images"]).to(DTYPES[dtype])
    labels = torch.from_numpy(arrays["labels"])
    loss_of = (lambda logits: loss_function(loss)(logits, labels)) if loss else None
    with float32_constants(dtype == "float64"):
        answer, values = trace(model, images, loss_of, DropoutMasks(seed), lambda name, array: pack(name, array, axes))
    write_arrays(Path(output), values)
    return answer


def pack(name: str, array: np.ndarray, axes: dict) -> np.ndarray:
    """The gradient in the port's layout; whole, or a sketch when it is big."""
    array = array.transpose(axes[name]) if name in axes else array
    return array if array.size <= WHOLE_GRADIENTS else sketch(array)


def loss_function(loss: dict):
    if loss["name"] == "cross_entropy":
        return cross_entropy(loss.get("smoothing", 0.0))
    return load_callable(loss["name"])


def train_steps(
    reference: dict, weights: str, inputs: str, output: str, dtype: str, rates: list[float], optimizer: dict,
    loss: dict, seed: int, axes: dict, width: int,
) -> dict:  # fmt: skip
    arrays = read_arrays(Path(inputs))
    model = set_state(build(reference, dtype), read_arrays(Path(weights)))
    images = arrays["images"]
    with float32_constants(dtype == "float64"):
        records = train(
            model, images, arrays["labels"], rates, optimizer, loss_function(loss), DropoutMasks(seed), axes, width
        )
    write_arrays(Path(output), records)
    return {"num_steps": len(rates)}


def load_file(path: str, output: str) -> dict:
    """Tensors of a torch file, without running code from it; refuses what `weights_only` refuses."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    keys = [key for key in ("state_dict", "model", "model_state") if isinstance(content.get(key), dict)]
    state = content[keys[0]] if keys else content
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f"no tensors in {path}; its keys are {', '.join(map(str, content))}")
    write_arrays(Path(output), {name: value.detach().contiguous().numpy() for name, value in tensors.items()})
    return {"num_entries": len(tensors), "left_out": [name for name in content if keys and name != keys[0]]}


def save_file(inputs: str, path: str) -> dict:
    state = {name: torch.from_numpy(array) for name, array in read_arrays(Path(inputs)).items()}
    torch.save(state, path)
    return {"num_entries": len(state)}


OPERATIONS = {
    "versions": versions,
    "inventory": inventory,
    "logits_shape": logits_shape,
    "initialise": initialise,
    "record_trace": record_trace,
    "train_steps": train_steps,
    "load_file": load_file,
    "save_file": save_file,
    "eval_pixels": torch_formulas.eval_pixels,
    "replay": torch_formulas.replay,
    "mixup": torch_formulas.mixup,
    "losses": torch_formulas.losses,
    "rates": torch_formulas.rates,
    "accuracy": torch_formulas.accuracy,
    "loader_order": torch_formulas.loader_order,
}
