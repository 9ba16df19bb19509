"""Train the reference for a part of a whole training: the state comes from a file and goes to a file."""

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import nn

from alignment.exchange import read_arrays, write_arrays

from .references import build, set_state
from .training import OPTIMIZERS, cross_entropy

# Names of the arrays of a state: weight/<name>, and optimizer/<name of the parameter>/<kind>.
WEIGHT, OPTIMIZER = "weight/", "optimizer/"
EVAL_BATCH = 100


def train_part(
    reference: dict,
    state: str,
    inputs: str,
    rates: list[float],
    optimizer: dict,
    smoothing: float,
    seed: int,
    output: str,
) -> dict:
    """Train for some steps, and write the new state and `losses` [K].

    Args:
        reference: the model, see `references.build`.
        state: file of the weights and of the optimizer.
        inputs: file with `images` [K, B, 3, H, W], and `labels` [K, B], or [K, B, C] if they are mixed.
        rates: learning rate of each step.
        optimizer: {"name": "momentum" or "adamw", and its settings}.
        smoothing: label smoothing of labels [K, B].
        seed: of the dropout of these steps.
        output: file to write.
    """
    arrays, batches = read_arrays(Path(state)), read_arrays(Path(inputs))
    model = set_state(build(reference), weights_of(arrays)).train()
    settings = {key: value for key, value in optimizer.items() if key != "name"}
    algorithm = OPTIMIZERS[optimizer["name"]](model, rates[0], **settings)
    set_optimizer_state(algorithm, model, arrays)
    soft = batches["labels"].ndim == 3
    loss_of = cross_entropy(0.0 if soft else smoothing)
    torch.manual_seed(seed)
    losses = []
    for images, labels, rate in zip(batches["images"], batches["labels"], rates, strict=True):
        for group in algorithm.param_groups:
            group["lr"] = rate
        algorithm.zero_grad()
        loss = loss_of(model(torch.from_numpy(images)), torch.from_numpy(labels))
        loss.backward()
        algorithm.step()
        losses.append(loss.item())
    write_arrays(Path(output), state_of(algorithm, model) | {"losses": np.array(losses)})
    return {"num_steps": len(losses)}


def count_correct(reference: dict, state: str, inputs: str) -> dict:
    """Number of images whose highest logit is that of their label; `inputs` has `images` [N, 3, H, W], `labels` [N]."""
    arrays = read_arrays(Path(inputs))
    model = set_state(build(reference), weights_of(read_arrays(Path(state)))).eval()
    correct = 0
    with torch.no_grad():
        for start in range(0, len(arrays["labels"]), EVAL_BATCH):
            rows = slice(start, start + EVAL_BATCH)
            logits = model(torch.from_numpy(arrays["images"][rows]))
            correct += int((logits.argmax(1) == torch.from_numpy(arrays["labels"][rows])).sum())
    return {"correct": correct}


def weights_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of a state, by their names in the model."""
    return {name.removeprefix(WEIGHT): array for name, array in arrays.items() if name.startswith(WEIGHT)}


def set_optimizer_state(algorithm: torch.optim.Optimizer, model: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Give the optimizer what an earlier part wrote; nothing before the first step."""
    for name, parameter in model.named_parameters():
        prefix = f"{OPTIMIZER}{name}/"
        state = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        if state:
            algorithm.state[parameter] = {kind: torch.from_numpy(value) for kind, value in state.items()}


def state_of(algorithm: torch.optim.Optimizer, model: nn.Module) -> dict[str, np.ndarray]:
    """The arrays of a state."""
    weights = {f"{WEIGHT}{name}": value.numpy() for name, value in model.state_dict().items()}
    kinds = (
        (f"{OPTIMIZER}{name}/{kind}", value.detach().numpy())
        for name, parameter in model.named_parameters()
        for kind, value in algorithm.state[parameter].items()
        if isinstance(value, torch.Tensor)
    )
    return dict(itertools.chain(weights.items(), kinds))
