"""The injected bugs before the predecessors: reprod_log 1.0.1 by the tutorial's protocol, and PaDiff 0.2.0.

Both need PyTorch and Paddle in one process, so this script is a process of its own: job as JSON on standard input,
{tool: {net: {bug: found}}} as the last line of standard output. A tool that stops with an error has found the bug.
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
from alignment.port import Port, set_state  # noqa: E402
from alignment.selftest.mutations import MUTATIONS  # noqa: E402
from alignment.stages.data import EVAL_SETTINGS, write_jpegs  # noqa: E402
from alignment.torch_side import shim  # noqa: E402, F401
from alignment.torch_side.references import build, set_random_weights  # noqa: E402
from alignment.torch_side.torch_formulas import eval_pixels  # noqa: E402
from alignment.torch_side.training import cross_entropy, sgd  # noqa: E402

STEPS = 3  # as the tutorial's 05_test_backward
FORWARD, OTHERS = 1e-5, 1e-6  # the tutorial's thresholds; losses after a step get 1e-5, its own run missed 1e-6


class Pair:
    """A port, perhaps wrong, and its reference with the same weights; fresh on every call."""

    def __init__(self, net: str, mutation, seed: int):
        self.case = replace(read_case(net), seed=seed)
        self.port, _ = mutation.apply(Port.of(self.case)) if mutation else (Port.of(self.case), [])
        rng = np.random.default_rng(seed)
        self.images = rng.uniform(-2, 2, (8, 3, 32, 32)).astype("float32")
        self.labels = rng.integers(0, 10, 8)

    def models(self, *, is_training: bool):
        """Dropout is 0 in training, as the tutorial does and PaDiff needs."""
        theirs = build(self.case.reference_spec)
        set_random_weights(theirs, self.case.seed, torch.from_numpy(self.images))
        arrays = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
        ours = set_state(self.port.build(), self.case.rules().to_port(arrays), "scoreboard")
        if is_training:
            for layer in [*ours.sublayers(), *theirs.modules()]:
                if type(layer).__name__ == "Dropout":
                    layer.p = 0.0
        return ours.eval(), theirs.eval()

    def training(self, ours, theirs):
        """(losses by framework, optimizers by framework, learning rates by framework)."""
        train = self.case.train
        rates = [self.port.rate(train.lr, 1)(0, step, STEPS) for step in range(STEPS)]
        settings = {"momentum": train.momentum, "weight_decay": train.weight_decay}
        optimizers = self.port.optimizer("momentum", ours, lr=rates[0], **settings), sgd(theirs, train.lr, **settings)
        losses = self.port.loss(train.smoothing), cross_entropy(train.smoothing)
        right = [train.lr * 0.5 * (1 + np.cos(np.pi * step / STEPS)) for step in range(STEPS)]
        return losses, optimizers, (rates, right)


# --- reprod_log -------------------------------------------------------------------------------------------------------


def found_by_reprod_log(pair: Pair) -> bool:
    ours, theirs = protocol_arrays(pair)
    return any(not _passes({key: ours[key]}, {key: theirs[key]}, limit) for key, limit in limits(ours).items())


def limits(arrays: dict) -> dict[str, float]:
    return {key: FORWARD if key == "logits" or key.startswith("loss_") else OTHERS for key in arrays}


def protocol_arrays(pair: Pair) -> tuple[dict, dict]:
    """What 01_test_forward to 05_test_backward log: logits, data, metric, loss, and loss and rate of three steps."""
    ours, theirs = {}, {}
    model, reference = pair.models(is_training=False)
    images, labels = torch.from_numpy(pair.images), torch.from_numpy(pair.labels)
    theirs["logits"] = reference(images).detach().numpy()
    ours["logits"] = model(paddle.to_tensor(pair.images)).numpy()
    ours |= {f"top{k}": np.array(v / 8) for k, v in pair.port.counts(theirs["logits"], pair.labels, (1, 5)).items()}
    order = torch.from_numpy(theirs["logits"]).topk(5).indices == labels[:, None]
    theirs |= {f"top{k}": order[:, :k].any(1).double().mean().numpy() for k in (1, 5)}
    ours["data"], theirs["data"] = _data(pair)
    model, reference = pair.models(is_training=True)
    (our_loss, their_loss), (our_rule, their_rule), (our_rates, their_rates) = pair.training(model, reference)
    for step in range(STEPS):
        our_rule.set_lr(our_rates[step])
        their_rule.param_groups[0]["lr"] = their_rates[step]
        value = our_loss(model(paddle.to_tensor(pair.images)), paddle.to_tensor(pair.labels))
        other = their_loss(reference(images), labels)
        for loss, rule in ((value, our_rule), (other, their_rule)):
            loss.backward()
            rule.step()
        our_rule.clear_grad()
        their_rule.zero_grad()
        ours |= {f"loss_{step}": value.numpy(), f"lr_{step}": np.array(our_rates[step])}
        theirs |= {f"loss_{step}": other.detach().numpy(), f"lr_{step}": np.array(their_rates[step])}
    return ours, theirs


def _data(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    from datasets.constants import IMAGENET_MEAN, IMAGENET_STD

    size, resize, interpolation = EVAL_SETTINGS[0]
    with tempfile.TemporaryDirectory() as folder:
        paths, output = write_jpegs(Path(folder), 0)[:4], Path(folder) / "theirs.npz"
        eval_pixels(paths, resize, size, interpolation, list(IMAGENET_MEAN), list(IMAGENET_STD), str(output))
        images = [Image.open(path).convert("RGB") for path in paths]
        ours = np.stack([pair.port.preprocess(image, size, resize, interpolation) for image in images])
        return ours, np.load(output, allow_pickle=False)["images"]


def _passes(ours: dict, theirs: dict, threshold: float) -> bool:
    """By the words of its log: `report` returns nothing."""
    from reprod_log import ReprodDiffHelper

    helper = ReprodDiffHelper()
    helper.compare_info(theirs, ours)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "diff.txt"
        helper.report(diff_method="mean", diff_threshold=threshold, path=str(path))
        text = path.read_text()
    for handler in logging.getLogger().handlers[:]:
        logging.getLogger().removeHandler(handler)
    return "diff check passed" in text


# --- PaDiff -----------------------------------------------------------------------------------------------------------


def found_by_padiff(pair: Pair) -> bool:
    """Strict at 1e-5: forward and backward in evaluation, then three training steps with loss and optimizer."""
    from padiff import auto_diff

    options = {"atol": 1e-5, "rtol": 1e-5, "compare_mode": "strict", "diff_phase": "both"}
    inputs = {"x": paddle.to_tensor(pair.images)}, {"x": torch.from_numpy(pair.images)}
    model, reference = pair.models(is_training=False)
    if not auto_diff(model, reference, inputs, auto_weights=False, options=dict(options)):
        return True
    model, reference = pair.models(is_training=True)
    (our_loss, their_loss), optimizers, _ = pair.training(model, reference)
    losses = [
        lambda logits: our_loss(logits, paddle.to_tensor(pair.labels)),
        lambda logits: their_loss(logits, torch.from_numpy(pair.labels)),
    ]
    model.train()
    reference.train()
    return not auto_diff(
        model, reference, inputs, auto_weights=False, options=dict(options), loss_fn=losses,
        optimizer=list(optimizers), steps=STEPS,
    )  # fmt: skip


TOOLS = {"reprod_log": found_by_reprod_log, "PaDiff": found_by_padiff}


def main() -> None:
    job = json.loads(sys.stdin.read())
    torch.set_num_threads(1)
    chosen = [mutation for mutation in MUTATIONS if mutation.name in job["names"]]
    scores: dict = {tool: {net: {} for net in job["nets"]} for tool in TOOLS}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path[0:0] = [folder]  # PaDiff writes its logs to sys.path[0]
        for net in job["nets"]:
            for mutation in chosen:
                for tool, found_by in TOOLS.items():
                    scores[tool][net][mutation.name] = judged(found_by, Pair(net, mutation, 0))
        for seed in range(job["num_clean"]):
            net = job["nets"][seed % len(job["nets"])]
            for tool, found_by in TOOLS.items():
                scores[tool][net][f"clean {seed}"] = judged(found_by, Pair(net, None, 1000 + seed))
    print(json.dumps(scores))


def judged(found_by, pair: Pair) -> bool:
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return found_by(pair)
        except (Exception, SystemExit) as error:
            print(f"{found_by.__name__}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            return True


if __name__ == "__main__":
    main()
