"""Run the mutations of the self-test with two other tools: reprod_log 1.0.1 by the tutorial's protocol, PaDiff 0.2.0.

Both tools need PyTorch and Paddle in one process, so this file is a program: it reads a job from standard input, JSON
with `names` of mutations, `nets` and `num_clean`. The last line of its standard output is {tool: {net: {mutation:
whether it was found}}}. A tool that stops with an exception counts as having found the mutation.
"""

import contextlib
import json
import logging
import os
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)
os.environ.setdefault("PADIFF_TENSOR_METHOD", "OFF")
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import paddle  # noqa: E402
import torch  # noqa: E402

from alignment.case import read_case  # noqa: E402
from alignment.paddle_side.port import Port, set_state  # noqa: E402
from alignment.selftest.mutations import MUTATIONS, Mutation  # noqa: E402
from alignment.stages.data import EVAL_SETTINGS, write_jpegs  # noqa: E402
from alignment.torch_side import shim  # noqa: E402, F401
from alignment.torch_side.references import build, set_random_weights  # noqa: E402
from alignment.torch_side.torch_formulas import eval_pixels  # noqa: E402
from alignment.torch_side.training import cross_entropy, sgd  # noqa: E402

NUM_STEPS = 3  # as in the tutorial's 05_test_backward
# The tutorial's thresholds. Losses after a step get 1e-5, because the tutorial's own run does not meet 1e-6.
FORWARD_THRESHOLD, OTHER_THRESHOLD = 1e-5, 1e-6


class ModelPair:
    """A port with or without a mutation and its reference with equal weights; every call builds new models."""

    def __init__(self, net: str, mutation: Mutation | None, seed: int):
        self.case = replace(read_case(net), seed=seed)
        right_port = Port.of_case(self.case)
        self.port = mutation.apply(right_port)[0] if mutation else right_port
        rng = np.random.default_rng(seed)
        self.images = rng.uniform(-2, 2, (8, 3, 32, 32)).astype("float32")
        self.labels = rng.integers(0, 10, 8)

    def models(self, *, has_dropout: bool = True) -> tuple[paddle.nn.Layer, torch.nn.Module]:
        """(port, reference) in evaluation mode; training is without dropout, as in the tutorial and as PaDiff needs."""
        reference = build(self.case.reference_spec)
        set_random_weights(reference, self.case.seed, torch.from_numpy(self.images))
        arrays = {name: value.numpy().copy() for name, value in reference.state_dict().items()}
        port = set_state(self.port.build(), self.case.rules().to_port(arrays), "peer_tools")
        if not has_dropout:
            for layer in [*port.sublayers(), *reference.modules()]:
                if type(layer).__name__ == "Dropout":
                    layer.p = 0.0
        return port.eval(), reference.eval()

    def losses(self) -> tuple:
        """(loss of the port, loss of the reference), functions of (logits, labels)."""
        smoothing = self.case.train.smoothing
        return self.port.loss(smoothing), cross_entropy(smoothing)

    def optimizers(self, port: paddle.nn.Layer, reference: torch.nn.Module) -> tuple:
        """(optimizer of the port, optimizer of the reference)."""
        train = self.case.train
        settings = {"momentum": train.momentum, "weight_decay": train.weight_decay}
        lr = self.rates()[0][0]
        return self.port.optimizer("momentum", port, lr=lr, **settings), sgd(reference, train.lr, **settings)

    def rates(self) -> tuple[list[float], list[float]]:
        """(learning rates of the port, of the reference) for each step."""
        lr = self.case.train.lr
        port = [self.port.rate(lr, 1)(0, step, NUM_STEPS) for step in range(NUM_STEPS)]
        return port, [lr * 0.5 * (1 + np.cos(np.pi * step / NUM_STEPS)) for step in range(NUM_STEPS)]


# --- reprod_log -------------------------------------------------------------------------------------------------------


def is_found_by_reprod_log(pair: ModelPair) -> bool:
    """Whether one of the logged arrays differs by more than its threshold."""
    port, reference = logged_arrays(pair)
    return any(not _passes({key: port[key]}, {key: reference[key]}, _threshold(key)) for key in port)


def _threshold(key: str) -> float:
    return FORWARD_THRESHOLD if key == "logits" or key.startswith("loss_") else OTHER_THRESHOLD


def logged_arrays(pair: ModelPair) -> tuple[dict, dict]:
    """(port, reference): what 01_test_forward to 05_test_backward log."""
    port, reference = {}, {}
    model, torch_model = pair.models()
    labels = torch.from_numpy(pair.labels)
    reference["logits"] = torch_model(torch.from_numpy(pair.images)).detach().numpy()
    port["logits"] = model(paddle.to_tensor(pair.images)).numpy()
    counts = pair.port.counts(reference["logits"], pair.labels, (1, 5))
    port |= {f"top{k}": np.array(count / 8) for k, count in counts.items()}
    is_hit = torch.from_numpy(reference["logits"]).topk(5).indices == labels[:, None]
    reference |= {f"top{k}": is_hit[:, :k].any(1).double().mean().numpy() for k in (1, 5)}
    port["data"], reference["data"] = _data(pair)
    for step, values in enumerate(_training(pair)):
        port |= {f"loss_{step}": values[0], f"lr_{step}": values[1]}
        reference |= {f"loss_{step}": values[2], f"lr_{step}": values[3]}
    return port, reference


def _training(pair: ModelPair):
    """(loss, rate of the port, loss, rate of the reference) for each step."""
    model, torch_model = pair.models(has_dropout=False)
    images, labels = torch.from_numpy(pair.images), torch.from_numpy(pair.labels)
    loss_of, torch_loss_of = pair.losses()
    optimizer, torch_optimizer = pair.optimizers(model, torch_model)
    for rate, torch_rate in zip(*pair.rates(), strict=True):
        optimizer.set_lr(rate)
        torch_optimizer.param_groups[0]["lr"] = torch_rate
        loss = loss_of(model(paddle.to_tensor(pair.images)), paddle.to_tensor(pair.labels))
        torch_loss = torch_loss_of(torch_model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        torch_loss.backward()
        torch_optimizer.step()
        torch_optimizer.zero_grad()
        yield loss.numpy(), np.array(rate), torch_loss.detach().numpy(), np.array(torch_rate)


def _data(pair: ModelPair) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    from datasets.constants import IMAGENET_MEAN, IMAGENET_STD

    size, resize, interpolation = EVAL_SETTINGS[0]
    with tempfile.TemporaryDirectory() as folder:
        paths, output = write_jpegs(Path(folder), 0)[:4], Path(folder) / "reference.npz"
        eval_pixels(paths, resize, size, interpolation, list(IMAGENET_MEAN), list(IMAGENET_STD), str(output))
        images = [Image.open(path).convert("RGB") for path in paths]
        port = np.stack([pair.port.preprocess(image, size, resize, interpolation) for image in images])
        return port, np.load(output, allow_pickle=False)["images"]


def _passes(port: dict, reference: dict, threshold: float) -> bool:
    """Whether the log of `report` says so; `report` returns nothing."""
    from reprod_log import ReprodDiffHelper

    helper = ReprodDiffHelper()
    helper.compare_info(reference, port)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "diff.txt"
        helper.report(diff_method="mean", diff_threshold=threshold, path=str(path))
        text = path.read_text()
    for handler in logging.getLogger().handlers[:]:
        logging.getLogger().removeHandler(handler)
    return "diff check passed" in text


# --- PaDiff -----------------------------------------------------------------------------------------------------------


def is_found_by_padiff(pair: ModelPair) -> bool:
    """Whether PaDiff, strict at 1e-5, fails in evaluation mode or in three training steps with loss and optimizer."""
    from padiff import auto_diff

    options = {"atol": 1e-5, "rtol": 1e-5, "compare_mode": "strict", "diff_phase": "both"}
    inputs = {"x": paddle.to_tensor(pair.images)}, {"x": torch.from_numpy(pair.images)}
    model, reference = pair.models()
    if not auto_diff(model, reference, inputs, auto_weights=False, options=dict(options)):
        return True
    model, reference = pair.models(has_dropout=False)
    loss_of, torch_loss_of = pair.losses()
    losses = [
        lambda logits: loss_of(logits, paddle.to_tensor(pair.labels)),
        lambda logits: torch_loss_of(logits, torch.from_numpy(pair.labels)),
    ]
    optimizers = list(pair.optimizers(model, reference))
    model.train()
    reference.train()
    return not auto_diff(
        model, reference, inputs, auto_weights=False, options=dict(options), loss_fn=losses, optimizer=optimizers,
        steps=NUM_STEPS,
    )  # fmt: skip


TOOLS = {"reprod_log": is_found_by_reprod_log, "PaDiff": is_found_by_padiff}


def main() -> None:
    """Answer the job on standard input."""
    job = json.loads(sys.stdin.read())
    torch.set_num_threads(1)
    mutations = [mutation for mutation in MUTATIONS if mutation.name in job["names"]]
    scores: dict = {tool: {net: {} for net in job["nets"]} for tool in TOOLS}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path[0:0] = [folder]  # PaDiff writes its logs to sys.path[0]
        for net in job["nets"]:
            for mutation in mutations:
                for tool, is_found_by in TOOLS.items():
                    scores[tool][net][mutation.name] = is_found(is_found_by, ModelPair(net, mutation, 0))
        for seed in range(job["num_clean"]):
            net = job["nets"][seed % len(job["nets"])]
            for tool, is_found_by in TOOLS.items():
                scores[tool][net][f"clean {seed}"] = is_found(is_found_by, ModelPair(net, None, 1000 + seed))
    print(json.dumps(scores))


def is_found(is_found_by, pair: ModelPair) -> bool:
    """The answer of a tool, True if it stops with an exception; what the tool prints goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return is_found_by(pair)
        except (Exception, SystemExit) as error:
            print(f"{is_found_by.__name__}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            return True


if __name__ == "__main__":
    main()
