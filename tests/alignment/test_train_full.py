"""A whole training on both sides: refused settings, parts and restarts that change no bit, and the comparison."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignment.case import read_case
from alignment.reference import Reference
from alignment.session import Session
from alignment.train_full import cli, paddle_run
from alignment.train_full.comparison import Comparison
from alignment.train_full.paddle_run import Trained, initial_weights, train_port
from alignment.train_full.settings import FullTraining
from alignment.train_full.torch_run import TorchRun
from common.errors import CheckpointError, MissingDependencyError, ProjectError, UsageError, WeightsError
from datasets.check.__main__ import main as check

ROOT = Path(__file__).parents[2]
NETWORK = "mobilenet_v3_small_x0_35"
RECIPE = f"""# A tiny training: main.py --config this file
model: {NETWORK}
input_size: 32
batch_size: 4
epochs: 2
opt: momentum
lr: 0.05
warmup_epochs: 0
smoothing: 0.0
crop: pad4
aa: ""
mixup: 0.0
cutmix: 0.0
log_every: 1
num_workers: 0
"""
NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.pool(self.norm(self.conv(x)).relu()).flatten(1))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Data of three classes, a recipe and a case."""
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    for split, count in (("train", 14), ("val", 6)):
        for i in range(count):
            pixels = rng.integers(0, 120, (28, 28, 3))
            pixels[..., i % 3] += 100
            path = root / "data" / split / str(i % 3) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    (root / "recipe.yaml").write_text(RECIPE)
    (root / "tiny.yaml").write_text(
        f"# A small network.\nport: {NETWORK}\nreference: torchvision.models:mobilenet_v3_small\n"
        "reference_arguments: {width_mult: 0.35}\nshape: [1, 3, 32, 32]\n"
        "transpose: [classifier.0.weight, classifier.3.weight]\n"
    )
    assert check([str(root / "data"), "--num_workers", "1"]) == 0
    return root


def recipe_of(files: Path, *flags: str) -> FullTraining:
    return FullTraining(read_case(str(files / "tiny.yaml")), files / "recipe.yaml", files / "data", flags)


@pytest.fixture(scope="module")
def session(files) -> Session:
    """Its process is not that of the other tests, whose answers are recorded."""
    case, number = recipe_of(files).case, {"num_classes": 3}
    case = replace(case, port_arguments=number, reference_arguments=case.reference_arguments | number)
    with Reference() as reference:
        yield Session(case, reference)


# ------------------------------------------------------------------------------------------------------- comparison


def runs(*accuracies: float, first_loss: float = 1.0) -> list[Trained]:
    return [Trained(seed, [10.0, value], [(0, 2.0)], first_loss, 5) for seed, value in enumerate(accuracies)]


def test_the_difference_is_judged_by_the_spread_between_seeds():
    near = Comparison(runs(90.0, 90.4, 90.2), runs(90.1, 90.5, 90.6), has_dropout=False, one_picture_percent=0.01)
    assert near.status == "pass" and near.difference_percent == pytest.approx(-0.2)
    assert near.spread_percent == pytest.approx(np.sqrt((0.04 + 0.07) / 2))
    assert near.allowed_percent == pytest.approx(2.776 * near.spread_percent * np.sqrt(2 / 3))
    far = replace(near, reference=runs(91.1, 91.5, 91.6))
    assert far.status == "fail" and "difference -1.20 points" in far.lines()[-1] and "FAIL" in far.lines()[-1]
    equal = Comparison(runs(90.0, 90.0), runs(90.0, 90.0), has_dropout=False, one_picture_percent=0.5)
    assert equal.spread_percent == 0.5 and equal.status == "pass"
    assert replace(equal, port=runs(93.5, 93.5)).status == "fail"


def test_one_seed_is_inconclusive():
    one = Comparison(runs(90.0), runs(90.0), has_dropout=False, one_picture_percent=0.01)
    assert one.status == "inconclusive" and "give more, for example --seeds 0 1 2: INCONCLUSIVE" in one.lines()[-1]


def test_other_losses_of_the_first_step_fail_unless_there_is_dropout():
    """Same images and same weights: a difference there is no chance."""
    other = Comparison(
        runs(90.0, 90.4), runs(90.1, 90.3, first_loss=1.001), has_dropout=False, one_picture_percent=0.01
    )
    assert other.status == "fail" and replace(other, has_dropout=True).status == "pass"
    assert replace(other, reference=runs(90.1, 90.3, first_loss=float("nan"))).status == "fail"
    values = json.loads(json.dumps(other.to_dict()))
    assert values["status"] == "fail" and values["pytorch"][1] == {
        "seed": 1,
        "top1_percent": [10.0, 90.3],
        "seconds": 5,
    }


# ---------------------------------------------------------------------------------------------------------- recipe


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model_ema",), "the training of the reference has no --model_ema; set it back"),
        (("--clip_grad", "1"), "no --clip_grad"),
        (("--accum_iter", "2", "--focal_gamma", "1"), "no --focal_gamma, --accum_iter"),
        (("--opt", "rmsprop"), "--opt rmsprop: the training of the reference has momentum, adamw"),
        (("--model", "alexnet"), f"trains alexnet, and the case tiny compares {NETWORK}"),
        (("--epoch", "1"), "did you mean --epochs"),
    ],
)
def test_settings_that_the_reference_lacks_are_refused(files, flags, message):
    with pytest.raises(UsageError, match=message):
        recipe_of(files, *flags)


def test_a_case_of_another_tree_is_refused():
    with pytest.raises(UsageError, match=r"main\.py trains the networks of models/ alone"):
        FullTraining(read_case("ladder"), Path("recipe.yaml"), Path("data"))


def test_a_case_without_a_recipe_is_told_to_name_one(files):
    with pytest.raises(UsageError, match=r"fashion_mnist_tiny.yaml: no such file; name the recipe .* by --config"):
        cli.main([str(files / "tiny.yaml"), "--data", str(files / "data")])


def test_rates_and_parts_are_those_of_main(files):
    recipe = recipe_of(files, "--warmup_epochs", "1", "--min_lr", "0")
    rates = recipe.rates(6)
    assert len(rates) == 12 and rates[:3] == pytest.approx([0, 0.05 / 6, 0.1 / 6]) and rates[6] == 0.05
    assert rates[9] == pytest.approx(0.025)
    assert recipe.steps_of_parts(2 * 4 * 3 * 32 * 32 * 4) == 2 and recipe.steps_of_parts(1) == 1
    weights = {"w": np.zeros(2)}
    base = recipe.fingerprint(0, weights)
    assert base == recipe_of(files, "--warmup_epochs", "1", "--min_lr", "0", "--log_every", "7").fingerprint(0, weights)
    others = [recipe.fingerprint(1, weights), recipe.fingerprint(0, {"w": np.ones(2)})]
    others.append(recipe_of(files, "--lr", "0.1").fingerprint(0, weights))
    assert base not in others and len(set(others)) == 3


# ------------------------------------------------------------------------------------------------------ both sides


@pytest.mark.torch
@pytest.mark.parametrize("optimizer", [{"name": "momentum", "momentum": 0.9}, {"name": "adamw"}], ids=str)
@pytest.mark.parametrize("is_mixed", [False, True])
def test_two_parts_are_one_training(session, tmp_path, optimizer, is_mixed):
    reference = session.reference
    (tmp_path / "net.py").write_text(NET)
    spec = {"callable": f"{tmp_path / 'net.py'}:Net", "arguments": {}}
    rng = np.random.default_rng(0)
    images = rng.normal(0, 1, (4, 6, 3, 8, 8)).astype(np.float32)
    labels = rng.integers(0, 3, (4, 6))
    if is_mixed:
        labels = np.eye(3, dtype=np.float32)[labels] * 0.7 + 0.1
    shapes = {entry["name"]: entry["shape"] for entry in reference.ask("inventory", reference=spec)["entries"]}
    state = {f"weight/{name}": rng.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    state["weight/norm.num_batches_tracked"] = np.zeros((), np.int64)
    settings = {"optimizer": optimizer | {"weight_decay": 0.01}, "smoothing": 0.1, "seed": 0, "reference": spec}

    def train(arrays: dict, steps: slice) -> dict:
        inputs = reference.put({"images": images[steps], "labels": labels[steps]})
        rates = [0.1, 0.2, 0.05, 0.01][steps]
        return reference.ask_arrays(
            "train_part", state=reference.put(arrays), inputs=inputs, rates=rates, **settings
        )[1]  # fmt: skip

    whole, first = train(state, slice(0, 4)), train(state, slice(0, 2))
    losses = [*first.pop("losses"), *(second := train(first, slice(2, 4))).pop("losses")]
    assert losses == whole.pop("losses").tolist() and losses[3] < losses[0]
    assert second.keys() == whole.keys() and any(name.startswith("optimizer/conv.weight/") for name in whole)
    for name, array in whole.items():
        np.testing.assert_array_equal(second[name], array, err_msg=name)


@pytest.mark.torch
def test_a_training_of_the_reference_continues_with_the_same_bits(files, session, tmp_path, monkeypatch):
    monkeypatch.setattr(FullTraining, "steps_of_parts", lambda self: 2)
    recipe, lines = recipe_of(files), []
    weights = cli._for_reference(session, initial_weights(recipe, 1))

    def start(folder: str, recipe: FullTraining = recipe) -> TorchRun:
        run = TorchRun(recipe, 1, session.reference, session.case.reference_spec, tmp_path / folder)
        run.start(weights)
        return run

    whole = start("whole")
    trained = whole.train(lines.append)
    assert len(trained.losses) == 6 and len(trained.top1_percent) == 2 == len(lines)
    assert trained.first_loss == trained.losses[0][1] == whole.state["losses"][0] and "seed 1, epoch 1" in lines[1]
    assert trained.losses[2][1] == pytest.approx(whole.state["losses"][:3].mean())
    assert trained.losses[4][1] == pytest.approx(whole.state["losses"][3:5].mean())  # of its epoch alone
    save, saved = TorchRun._save, []

    def save_and_stop(self, arrays):
        save(self, arrays)
        saved.append(arrays)
        if len(saved) in (1, 3, 4):  # inside an epoch, after an evaluation, and inside the next epoch
            raise KeyboardInterrupt

    monkeypatch.setattr(TorchRun, "_save", save_and_stop)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            start("stopped").train(lines.append)
    stopped = start("stopped")
    assert len(stopped.state["losses"]) == 5
    assert stopped.train(lines.append).top1_percent == trained.top1_percent
    for name in whole.state.keys() - {"seconds"}:
        np.testing.assert_array_equal(stopped.state[name], whole.state[name], err_msg=name)
    with pytest.raises(CheckpointError, match="other settings or weights; give another --output_dir"):
        start("stopped", recipe_of(files, "--lr", "0.1"))
    (tmp_path / "stopped" / "state.npz").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"state.npz cannot be read .*; remove it to train again"):
        start("stopped")


@pytest.mark.torch
def test_without_dropout_the_losses_are_those_of_the_engine(files, session, tmp_path):
    """Order, images, labels, learning rates, momentum and decay: three steps in float32, on both sides."""
    import paddle

    from engine.losses import cross_entropy
    from engine.optim import create_optimizer
    from models import create_model

    flags = ("--smoothing", "0.1", "--reprob", "0.5", "--lr", "0.01", "--weight_decay", "0.01", "--epochs", "1")
    recipe, spec = recipe_of(files, *flags), session.case.reference_spec
    spec = spec | {"arguments": spec["arguments"] | {"dropout": 0.0}}
    weights = initial_weights(recipe, 1)
    run = TorchRun(recipe, 1, session.reference, spec, tmp_path)
    run.start(cli._for_reference(session, weights))
    theirs = run.train(lambda line: None).losses
    model = create_model(NETWORK, num_classes=3, dropout=0.0)
    model.set_state_dict({name: paddle.to_tensor(array) for name, array in weights.items()})
    model.train()
    config, loader, ours = recipe.config(1), recipe.train_loader(1), []
    optimizer, loss_of = create_optimizer(model, config.optim, 0.01), cross_entropy(config.mix.smoothing)
    for batch, rate in zip(loader.batches(0), recipe.rates(loader.steps_per_epoch), strict=True):
        optimizer.set_lr(rate)
        loss = loss_of(model(batch.images), batch.labels)
        loss.backward()
        ours.append(loss.item())
        optimizer.step()
        optimizer.clear_grad()
    means = [np.mean(ours[: number + 1]) for number in range(len(ours))]
    np.testing.assert_allclose([loss for _, loss in theirs], means, rtol=1e-3)


@pytest.mark.torch
def test_rules_that_do_not_fit_are_refused(files, session):
    weights = initial_weights(recipe_of(files), 0)
    del weights["classifier.3.bias"]
    with pytest.raises(WeightsError, match=r"1 differ, the first classifier\.3\.bias: missing instead of \(3,\)"):
        cli._for_reference(session, weights)


def test_main_is_started_once_and_its_failure_is_reported(files, tmp_path, monkeypatch):
    recipe, commands = recipe_of(files), []

    def run(command, stdout, **_):
        commands.append(command)
        stdout.write("the reason\n")
        folder = Path(command[command.index("--output_dir") + 1])
        (folder / "log.txt").write_text('{"epoch": 0, "test_acc1": 50}\n{"epoch": 1, "test_acc1": 60}\n')
        steps = [{"epoch": e, "step": s, "loss": 3 - e - s / 10} for e in range(2) for s in (0, 5)]
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(step)}\n" for step in [*steps, {"epoch": 1}]))
        return type("Done", (), {"returncode": 3 if len(commands) == 1 else 0})()

    monkeypatch.setattr(paddle_run.subprocess, "run", run)
    weights = {"w": np.arange(3, dtype=np.float32)}
    with pytest.raises(ProjectError, match=r"ended with code 3; its log is .*main.log\nthe reason") as caught:
        train_port(recipe, 0, weights, tmp_path)
    assert caught.value.exit_code == 3
    trained = [train_port(recipe, 0, weights, tmp_path) for _ in range(2)]
    assert trained[0] == trained[1] and len(commands) == 2
    assert trained[0] == Trained(0, [50, 60], [(0, 3), (5, 2.5), (6, 2), (11, 1.5)], 3, None)  # seconds: a start failed
    assert commands[0][commands[0].index("--finetune") + 1] == str(tmp_path / "initial.safetensors")
    with pytest.raises(CheckpointError, match="holds a training with other settings"):
        train_port(recipe, 1, weights, tmp_path)


def test_a_seed_that_stands_twice_is_refused(files):
    """The second training would be read back from the folder of the first, and two equal runs have no spread."""
    command = [str(files / "tiny.yaml"), "--data", str(files / "data"), "--config", str(files / "recipe.yaml")]
    with pytest.raises(UsageError, match="--seeds 0 1 0: give each seed once"):
        cli.main([*command, "--seeds", "0", "1", "0"])


@pytest.mark.slow
@pytest.mark.torch
def test_both_sides_from_the_command(files, tmp_path, capsys):
    """The first losses agree where dropout is off; the figure and the result are written; nothing is trained twice."""
    pytest.importorskip("matplotlib")
    command = [str(files / "tiny.yaml"), "--data", str(files / "data"), "--config", str(files / "recipe.yaml")]
    command += ["--output_dir", str(tmp_path / "out"), "--json", str(tmp_path / "r.json"), "--seeds", "0", "1"]
    code = cli.main(command)
    first = capsys.readouterr().out
    result = json.loads((tmp_path / "r.json").read_text())
    assert (tmp_path / "out" / "result.json").read_text() == (tmp_path / "r.json").read_text()
    assert code == (0 if result["status"] == "pass" else 6) and result["has_dropout"] and result["epochs"] == 2
    assert [run["seed"] for run in result["paddle"]] == [run["seed"] for run in result["pytorch"]] == [0, 1]
    with Image.open(tmp_path / "out" / "curves.png") as figure:
        assert figure.size[0] > 1000
    assert cli.main(command) == code
    assert capsys.readouterr().out.splitlines()[-1] == first.splitlines()[-1]


@pytest.mark.torch
def test_a_missing_python_is_named(files, tmp_path):
    command = [str(files / "tiny.yaml"), "--data", str(files / "data"), "--config", str(files / "recipe.yaml")]
    with pytest.raises(MissingDependencyError, match="cannot start the reference with /nowhere/python"):
        cli.main([*command, "--output_dir", str(tmp_path), "--python", "/nowhere/python"])
