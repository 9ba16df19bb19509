"""An interrupted epoch gives bit for bit the numbers of an uninterrupted one; bad numbers stop it before a save."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from common.errors import CheckpointError, NonFiniteLossError, Preempted
from common.logs import set_up_logging
from configs.schema import OptimConfig, ScheduleConfig
from engine.checkpoint import read_checkpoint, write_checkpoint
from engine.distributed import Ranks
from engine.ema import Ema
from engine.losses import cross_entropy
from engine.onednn.convolution import use_onednn_convolutions
from engine.onednn.library import find_library
from engine.optim import create_optimizer, optimizer_arrays
from engine.preemption import Preemption
from engine.run import Run
from engine.schedule import warmup_cosine
from engine.state import TrainState
from engine.train import Recipe, step_seed, train_epoch
from engine.weights import load_weights
from tests.engine.tiny import FakeTrainLoader, arrays_of, batches, images_and_labels, same, tiny_net
from tests.forked_python import run_python

STEPS, ACCUM, BATCH = 7, 2, 4


def new_state(opt: str = "momentum", *, seed: int = 0, dropout: float = 0.3, lr: float = 0.1) -> TrainState:
    model = tiny_net(seed, dropout)
    return TrainState(model, create_optimizer(model, OptimConfig(opt=opt, weight_decay=1e-3), lr), ema=Ema(model, 0.9))


LOADER = FakeTrainLoader(STEPS, BATCH, ACCUM)
RECIPE = Recipe(
    loss_fn=cross_entropy(0.1),
    learning_rate=warmup_cosine(0.1, ScheduleConfig(epochs=3, warmup_epochs=1, min_lr=0.0)),
    epochs=3,
    accum_iter=ACCUM,
)


class FakeSaver:
    """Saver that writes at once."""

    def __init__(self, state: TrainState, path, save_steps: int | None = None):
        self.state, self.path, self.save_steps, self.saved_at = state, path, save_steps, []

    def save(self, name: str) -> None:
        save(self.state, self.path)
        self.saved_at.append(self.state.next_step)


def save(state: TrainState, path) -> None:
    write_checkpoint(path, *state.snapshot())


def train(state: TrainState, saver=None, *, loader=LOADER, run: dict | None = None, **recipe) -> None:
    """Train to the end of an epoch of 7 steps of 2 micro-batches of 4 images; `run` are fields of Run."""
    run = Run(**{"log_every": 3, "sync_every": 1, **(run or {})})
    train_epoch(state, state.model, loader, replace(RECIPE, **recipe), run, saver)


def everything(state: TrainState) -> dict[str, np.ndarray]:
    numbers = [state.lr_meter.to_dict(), state.loss_meter.to_dict()]
    return {
        **{f"model/{name}": array for name, array in arrays_of(state.model).items()},
        **{f"ema/{name}": array for name, array in state.ema.arrays().items()},
        **{f"optimizer/{name}": array for name, array in optimizer_arrays(state.optimizer, state.model).items()},
        "numbers": np.array([n for meter in numbers for n in (*meter["recent"], meter["total"], meter["count"])]),
    }


class StopAfter(Preemption):
    """Preemption by a signal that arrives during the given step."""

    def __init__(self, state: TrainState, step: int):
        self._state, self._step = state, step

    @property
    def requested(self) -> bool:
        return self._state.next_step >= self._step


def untimed(text: str) -> list[str]:
    """Lines of a log without their times."""
    return re.sub(r"\[..:..:..\.\d+\] |eta: \S+|time: .*|Total time: .*", "", text).splitlines()


@pytest.mark.parametrize("opt", ["momentum", "adamw", "rmsprop", "sgd"])
@pytest.mark.parametrize("stop", [1, 3, 6, 7])
def test_resuming_anywhere_in_an_epoch_changes_no_bit(tmp_path, capsys, opt, stop):
    set_up_logging()
    whole = new_state(opt)
    train(whole)
    lines_of_whole = untimed(capsys.readouterr().out)

    path = tmp_path / "checkpoint-latest.pd"
    stopped = new_state(opt)
    with pytest.raises(Preempted, match=f"epoch 0, step {stop} .counted from 0.; saved"):
        train(stopped, FakeSaver(stopped, path), run={"preemption": StopAfter(stopped, stop)})
    nn.Linear(3, 3)  # another process would have other automatic names
    resumed = new_state(opt, seed=9)
    resumed.restore(read_checkpoint(path))
    assert (resumed.next_epoch, resumed.next_step) == (0, stop)
    capsys.readouterr()
    train(resumed)
    assert same(everything(resumed), everything(whole))
    lines = untimed(capsys.readouterr().out)
    assert lines == lines_of_whole[-len(lines) :]


def test_saving_every_few_steps(tmp_path):
    state, path = new_state(), tmp_path / "checkpoint-latest.pd"
    train(state, saver := FakeSaver(state, path, save_steps=2))
    assert saver.saved_at == [2, 4, 6]
    resumed = new_state(seed=5)
    resumed.restore(read_checkpoint(path))
    train(resumed)
    assert same(everything(resumed), everything(state))


def test_exchanging_losses_less_often_changes_no_number():
    often, seldom = new_state(), new_state()
    train(often, run={"sync_every": 1})
    train(seldom, run={"sync_every": 5, "log_every": 100})
    assert same(everything(often), everything(seldom))


def test_nothing_is_fetched_from_the_device_between_exchanges(monkeypatch):
    """Each fetch would make a GPU wait; exchanges and log lines may fetch, at steps 0, 3 and 6."""
    state, fetched_at = new_state(), []
    tensor = type(paddle.zeros([]))
    for name in ("numpy", "item", "tolist", "__float__", "__bool__", "__int__"):
        real = getattr(tensor, name)

        def counted(self, *arguments, real=real):
            fetched_at.append(state.next_step)
            return real(self, *arguments)

        monkeypatch.setattr(tensor, name, counted)
    train(state, run={"sync_every": 3})
    assert set(fetched_at) == {1, 3, 4, 6, 7}


def test_dropout_depends_on_the_place_only():
    assert len({step_seed(0, e, i, r) for e in range(5) for i in range(20) for r in range(4)}) == 400
    losses = []
    for _ in range(2):
        paddle.seed(np.random.randint(1000))
        state = new_state(dropout=0.9)
        train(state)
        losses.append(state.loss_meter.total)
    assert losses[0] == losses[1]
    other = new_state(dropout=0.9)
    train(other, seed=1)
    assert other.loss_meter.total != losses[0]


def test_no_two_forward_passes_draw_the_same_random_numbers():
    """Forward passes of two seeds, two epochs, all steps and micro-batches, and two ranks."""
    draws = []
    for seed in (0, 1):
        for rank in (0, 1):
            state = new_state()
            state.model.register_forward_pre_hook(
                lambda layer, inputs: draws.append(paddle.rand([2]).numpy().tobytes())
            )
            for epoch in (0, 1):
                state.begin_epoch(epoch)
                train(state, seed=seed, run={"ranks": Ranks(rank, 2)})
    assert len(draws) == 2 * 2 * 2 * STEPS * ACCUM
    assert len(set(draws)) == len(draws)


def test_accumulation_equals_a_large_batch():
    """Without batch norm, which computes its statistics by micro-batch."""
    results = []
    for accum in (1, 4):
        paddle.seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 7))
        state = TrainState(model, create_optimizer(model, OptimConfig(opt="momentum", weight_decay=0), 0.1))
        schedule = warmup_cosine(0.1, ScheduleConfig(epochs=2, warmup_epochs=0, min_lr=0.0))
        recipe = Recipe(cross_entropy(), schedule, epochs=2, accum_iter=accum)
        train_epoch(state, model, FakeTrainLoader(3, 16 // accum, accum), recipe, Run(), None)
        results.append((model[1].weight.numpy(), state.loss_meter.total))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-6)


# --- Errors and signals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync_every", [1, 3, 100])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_named_with_its_images(tmp_path, sync_every, value):
    state, path = new_state(), tmp_path / "checkpoint-latest.pd"

    def loss_fn(logits, labels):
        return cross_entropy()(logits, labels) * (value if state.next_step == 4 else 1)

    with pytest.raises(NonFiniteLossError) as caught:
        train(state, FakeSaver(state, path, 2), run={"log_every": 100, "sync_every": sync_every}, loss_fn=loss_fn)
    message = str(caught.value)
    for part in (
        "epoch 0, step 4, learning rate 0.05",
        "val/32.jpg, val/33.jpg",
        "val/39.jpg",
        "on rank 0",
        "--clip_grad",
    ):
        assert part in message
    read = read_checkpoint(path)  # the last checkpoint before the bad step
    assert read.meta["next_step"] == 4
    assert all(np.isfinite(array).all() for array in read.tensors.values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch):
    """Batch norm spreads a NaN of an image, relu turns it to 0: the loss stays finite, and the weights do not."""
    state, path = new_state(), tmp_path / "checkpoint-latest.pd"
    with_nan = batches(STEPS * ACCUM * BATCH, BATCH)
    with_nan[3 * ACCUM].images[2, 0, 0, 0] = float("nan")
    loader = FakeTrainLoader(STEPS, BATCH, ACCUM)
    monkeypatch.setattr(loader, "batches", lambda epoch, first_step: with_nan)
    with pytest.raises(
        NonFiniteLossError, match="the weights are no longer finite, though the loss is, in epoch 0, step 3"
    ):
        train(state, FakeSaver(state, path, 2), loader=loader, run={"preemption": StopAfter(state, 4)})
    assert read_checkpoint(path).meta["next_step"] == 2


def test_a_signal_without_an_output_folder():
    state = new_state()
    with pytest.raises(Preempted, match="nothing is saved without --output_dir"):
        train(state, run={"preemption": StopAfter(state, 2)})


# In a process of its own, since a signal without its handler ends the process.
TWO_SIGNALS = """
import signal, sys
from engine.preemption import Preemption
preemption = Preemption().install()
assert not preemption.requested
number = getattr(signal, sys.argv[1])
signal.raise_signal(number)
assert preemption.requested
try:
    signal.raise_signal(number)
except KeyboardInterrupt:
    print("interrupted")
else:
    print("goes on")
"""


@pytest.mark.parametrize(
    ("name", "second"), [("SIGTERM", "goes on"), ("SIGUSR1", "goes on"), ("SIGINT", "interrupted")]
)
def test_signals_set_a_flag_and_a_second_ctrl_c_interrupts_at_once(name, second):
    done = run_python(["-c", TWO_SIGNALS, name], cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout.strip()) == (0, second), done.stderr


# --- The state ------------------------------------------------------------------------------------------------------


def test_all_numbers_of_the_state_are_restored(tmp_path, caplog):
    state = new_state()
    train(state)
    state.begin_epoch(5)
    state.best_top1_percent, state.best_top1_ema_percent, state.info = 71.3, 71.6, {"class_names": ["a", "b"]}
    save(state, path := tmp_path / "checkpoint-best.pd")
    resumed = new_state(seed=2)
    caplog.clear()
    resumed.restore(read_checkpoint(path))
    assert (resumed.next_epoch, resumed.next_step, resumed.loss_meter.count) == (5, 0, 0)
    assert (resumed.best_top1_percent, resumed.best_top1_ema_percent) == (71.3, 71.6)
    assert caplog.messages == []
    meta = load_weights(path).meta
    assert meta["epoch"] == 4 and meta["info"] == state.info


def rewrite(path, change):
    read = read_checkpoint(path)
    tensors, meta = dict(read.tensors), read.meta
    change(tensors, meta)
    write_checkpoint(path, tensors, meta)


def test_a_checkpoint_without_average_starts_it_from_the_weights(tmp_path, caplog):
    state, fresh, path = new_state(), new_state(seed=3), tmp_path / "c.pd"
    train(state)
    trained, untrained = arrays_of(state.model), arrays_of(fresh.model)
    for name in trained:  # also the batch-norm statistics, so that a missing entry is noticed
        assert not np.array_equal(trained[name], untrained[name]), name
    state.ema = None
    save(state, path)
    resumed = fresh
    resumed.restore(read_checkpoint(path))
    assert same(resumed.ema.arrays(), trained)
    assert "no moving average" in caplog.messages[-1]
    for tensor in resumed.model.state_dict().values():
        tensor.set_value(paddle.full_like(tensor, 3.0))
    assert same(resumed.ema.arrays(), trained), "the average shares its memory with the model"


def test_another_environment_is_logged(tmp_path, caplog):
    state, path = new_state(), tmp_path / "c.pd"
    save(state, path)
    rewrite(path, lambda tensors, meta: meta["environment"].update(threads="64", ranks=8))
    state.restore(read_checkpoint(path))
    lines = caplog.messages
    assert len(lines) == 2 and "written with threads 64" in lines[0] and "ranks 8, this run has 1" in lines[1]
    assert "--cpu_threads 64 gives the same bits" in lines[0] and "--cpu_threads" not in lines[1]


@pytest.mark.skipif(find_library() is None, reason="this Paddle has no oneDNN")
def test_another_library_of_convolutions_is_logged(tmp_path, caplog):
    state, path, onednn = new_state(), tmp_path / "c.pd", f"oneDNN {find_library().version}"
    save(state, path)
    use_onednn_convolutions(state.model)
    caplog.clear()  # of the line that names the library
    for change in (lambda tensors, meta: None, lambda tensors, meta: meta["environment"].pop("convolutions")):
        rewrite(path, change)  # files of before December 2026 lack the entry
        state.restore(read_checkpoint(path))
    save(state, path)
    new_state().restore(read_checkpoint(path))
    older, without, newer = caplog.messages
    assert older == without and f"written with convolutions Paddle, this run has {onednn}" in older
    assert "--no_onednn gives the same bits" in older
    assert f"written with convolutions {onednn}, this run has Paddle" in newer and "--no_onednn" not in newer


def test_a_file_that_lacks_something_is_refused(tmp_path):
    state, path = new_state(), tmp_path / "c.pd"
    save(state, path)
    rewrite(path, lambda tensors, meta: meta.pop("loss_meter"))
    with pytest.raises(CheckpointError, match="lacks the entry 'loss_meter'"):
        state.restore(read_checkpoint(path))


def test_the_scaler_survives(tmp_path):
    """On a CPU Paddle disables its scaler, so the test uses one that only keeps its state."""

    class Scaler:
        def __init__(self, scale):
            self.values = {"scale": np.array([scale], np.float32), "incr_count": 7, "use_dynamic_loss_scaling": True}

        def state_dict(self):
            return self.values

        def load_state_dict(self, values):
            self.values = values

    state, path = new_state(), tmp_path / "c.pd"
    state.scaler = Scaler(1024.0)
    save(state, path)
    state.scaler = Scaler(1.0)
    state.restore(read_checkpoint(path))
    assert state.scaler.values["scale"].tolist() == [1024.0] and state.scaler.values["incr_count"] == 7


def test_the_average_follows_its_formula_and_does_not_change_the_model():
    state = new_state()
    expected = {name: array.astype(float) for name, array in arrays_of(state.model).items()}
    for epoch in range(3):
        state.begin_epoch(epoch)
        train(state)
    assert not np.allclose(expected["1._mean"], state.ema.arrays()["1._mean"])

    model, average = state.model, Ema(state.model, 0.75)
    expected = {name: array.astype(float) for name, array in arrays_of(model).items()}
    for value in (1.0, -2.0):
        for tensor in model.state_dict().values():
            tensor.set_value(paddle.full_like(tensor, value))
        average.update()
        expected = {name: 0.75 * array + 0.25 * value for name, array in expected.items()}
    for name, array in average.arrays().items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-6, atol=1e-7)
    own = arrays_of(model)
    with average.applied():
        assert same(arrays_of(model), average.arrays())
    assert same(arrays_of(model), own)


def test_an_average_of_another_model_is_refused():
    wide = tiny_net()
    wide[5] = nn.Linear(36, 9)
    average = Ema(tiny_net(), 0.9)
    before = average.arrays()
    with pytest.raises(CheckpointError, match=r"the moving average of f\.pd does not fit .* 2 of another shape"):
        average.load(arrays_of(wide), source="f.pd")
    assert same(average.arrays(), before)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_by_its_formula(smoothing):
    logits, labels = np.random.default_rng(0).standard_normal((6, 7)), images_and_labels(6)[1]
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    nll = -log_p[np.arange(6), labels].mean()
    loss = cross_entropy(smoothing)
    hard = loss(paddle.to_tensor(logits, "float32"), paddle.to_tensor(labels))
    assert hard.item() == pytest.approx((1 - smoothing) * nll + smoothing * -log_p.mean(), rel=1e-5)
    soft = np.eye(7)[labels] * 0.7 + 0.3 * np.eye(7)[labels[::-1]]
    soft_loss = loss(paddle.to_tensor(logits, "float32"), paddle.to_tensor(soft, "float32"))
    assert soft_loss.item() == pytest.approx(-(soft * log_p).sum(1).mean(), rel=1e-5)


def test_weights_and_focal_loss_by_their_formula():
    logits, labels = 2 * np.random.default_rng(0).standard_normal((6, 7)), images_and_labels(6)[1]
    weights, smoothing, gamma = np.linspace(0.2, 3, 7), 0.2, 1.5
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    own = np.eye(7)[labels]
    mixed = own * 0.7 + 0.3 * own[::-1]
    for label, given in ((own, paddle.to_tensor(labels)), (mixed, None)):
        smooth = label * (1 - smoothing) + smoothing / 7
        given = paddle.to_tensor(smooth, "float32") if given is None else given
        for used, focus in ((weights, gamma), (np.ones(7), gamma), (weights, 0.0)):
            expected = -((label @ used) * (smooth * (1 - np.exp(log_p)) ** focus * log_p).sum(1)).mean()
            loss = cross_entropy(smoothing, class_weights=used if used is weights else None, focal_gamma=focus)
            assert loss(paddle.to_tensor(logits, "float32"), given).item() == pytest.approx(expected, rel=1e-5)


def test_equal_weights_change_nothing():
    logits, labels = paddle.randn([6, 7]), paddle.to_tensor(images_and_labels(6)[1])
    equal = cross_entropy(0.1, class_weights=np.ones(7, np.float32))(logits, labels)
    assert equal.item() == pytest.approx(cross_entropy(0.1)(logits, labels).item(), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_focal_loss_of_a_certain_image_has_a_finite_gradient(gamma):
    logits = paddle.to_tensor([[200.0, -200.0], [-200.0, 200.0]], stop_gradient=False)
    loss = cross_entropy(focal_gamma=gamma)(logits, paddle.to_tensor([0, 0]))
    loss.backward()
    assert np.isfinite(loss.item()) and np.isfinite(logits.grad.numpy()).all()


def test_weighted_steps_do_not_depend_on_the_micro_batches():
    """The mean is over images, not over weights: two micro-batches of a step give the gradient of the whole batch."""
    logits, labels = np.random.default_rng(0).standard_normal((6, 7)), images_and_labels(6)[1]
    loss = cross_entropy(0.1, class_weights=np.linspace(0.2, 3, 7), focal_gamma=2)
    whole, *parts = (
        loss(paddle.to_tensor(logits[rows], "float32"), paddle.to_tensor(labels[rows])).item()
        for rows in (slice(None), slice(0, 3), slice(3, 6))
    )
    assert sum(parts) / 2 == pytest.approx(whole, rel=1e-6)
