"""Every flag of main.py reaches its place: each run has values of its own, which show in draws, numbers and files.

A flag that is lost, or exchanged with another of the same type, changes one of these results. What each module does
with its settings is tested beside that module.
"""

import importlib
import json
import os
import re
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from paddle import nn

import main
import models
from common.errors import CheckpointError, DataError, DiskError, NonFiniteLossError
from datasets.augment.mixup import Mixup, MixupDraw
from datasets.augment.random_erasing import RandomErasing
from datasets.augment.transforms import TrainTransform
from datasets.loading.sampler import epoch_order
from engine import train
from engine.checkpoint import read_checkpoint, write_checkpoint
from tests.scripts.conftest import write_split

NUM_TRAIN, NUM_VAL, NUM_CLASSES = 24, 6, 4
SAME_PICTURES = "--aa= --hflip 0 --reprob 0 --mixup 0 --cutmix 0".split()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_split(folder, "train", NUM_TRAIN, seed=0)
    write_split(folder, "val", NUM_VAL, seed=1)
    return folder


class Seen(SimpleNamespace):
    """What the parts of a run did."""


def tiny_network(num_classes: int) -> nn.Layer:
    return nn.Sequential(
        nn.Conv2D(3, 4, 4, stride=4), nn.BatchNorm2D(4), nn.ReLU(), nn.AdaptiveAvgPool2D(1), nn.Flatten(),
        nn.Linear(4, num_classes),
    )  # fmt: skip


@pytest.fixture
def run(root, tmp_path, monkeypatch, capfd):
    """main.py with a network of two layers; returns what was seen of the run, which wrote into `tmp_path`."""
    seen = Seen(models=[], trained=[], evaluated=[], logits=[], updates=[], mixups=[], transforms=[], erasings=[],
                threads=set(), watchdogs=[], opened=[])  # fmt: skip

    def create_model(name, *, num_classes):
        model = tiny_network(num_classes)
        seen.models.append((name, {key: value.numpy() for key, value in model.state_dict().items()}))

        def forward(layer, inputs, outputs):
            (seen.trained if layer.training else seen.evaluated).append(list(inputs[0].shape))
            if layer.training:
                seen.logits.append(outputs.numpy())

        model.register_forward_post_hook(forward)
        return model

    def spy(owner, name, note):
        original = getattr(owner, name)

        def spied(self, *arguments, **named):
            note(self)
            return original(self, *arguments, **named)

        monkeypatch.setattr(owner, name, spied)

    def spy_on_step(owner):
        original = owner.step

        def step(optimizer):
            parameters = [parameter for parameter in optimizer._parameter_list if parameter.grad is not None]
            before = [(parameter.numpy(), parameter.grad.numpy()) for parameter in parameters]
            original(optimizer)
            seen.updates.append((optimizer.get_lr(), before, [parameter.numpy() for parameter in parameters]))

        monkeypatch.setattr(owner, "step", step)

    monkeypatch.setattr("models.create_model", create_model)
    spy(Mixup, "draw", seen.mixups.append)
    spy(RandomErasing, "draw", seen.erasings.append)
    spy(TrainTransform, "draw", lambda self: (seen.transforms.append(self), seen.threads.add(threading.get_ident())))
    spy_on_step(paddle.optimizer.Optimizer)
    spy_on_step(paddle.optimizer.AdamW)
    monkeypatch.setattr("engine.watchdog.Watchdog.start", lambda self: seen.watchdogs.append(self) or self)
    monkeypatch.setattr("engine.preemption.Preemption.install", lambda self: self)
    monkeypatch.setattr("engine.progress.plots.plot_curves", lambda *files: None)  # takes longer than all the rest

    def run_main(*flags):
        lists = [f"--cls_label_path_{split}={root / split}_list.txt" for split in ("train", "val")]
        words = ["--model=peleenet", f"--nb_classes={NUM_CLASSES}", "--input_size=32", "--num_workers=0", "--epochs=1",
                 "--batch_size=8", f"--data_path={root}", *lists, f"--output_dir={tmp_path}"]  # fmt: skip
        try:
            main.main([*words, *map(str, flags)])
        finally:
            seen.out = capfd.readouterr().out
        seen.log = [json.loads(line) for line in (tmp_path / "log.txt").read_text().splitlines()]
        seen.checkpoint = read_checkpoint(tmp_path / "checkpoint-latest.pd")
        return seen

    return run_main


# ---------------------------------------------------------------------------------------------------- data and batches


def test_model_data_and_batches(run, tmp_path):
    (tmp_path / "names.txt").write_text("".join(f"{label} name{label}\n" for label in range(5)))
    seen = run(
        *"--model mobilenet_v3_small --nb_classes 5 --input_size 40 --batch_size 4 --accum_iter 3".split(),
        f"--label_list={tmp_path / 'names.txt'}",
    )
    assert [name for name, _ in seen.models] == ["mobilenet_v3_small"]
    assert seen.trained == [[4, 3, 40, 40]] * 6 and {len(logits[0]) for logits in seen.logits} == {5}
    assert seen.evaluated == [[4, 3, 40, 40], [2, 3, 40, 40]]
    assert len(seen.updates) == 2, "three micro-batches each"
    assert f"Number of training examples = {NUM_TRAIN}\n" in seen.out and "effective batch size: 12\n" in seen.out
    assert f"Accuracy of the network on the {NUM_VAL} test images" in seen.out
    assert seen.checkpoint.meta["info"]["class_names"] == [f"name{label}" for label in range(5)]


def test_the_seed_is_that_of_weights_and_order_and_labels_are_smoothed_without_mixup(run):
    seen = run(*SAME_PICTURES, "--seed=7", "--batch_size=24", "--smoothing=0.25", "--scale", "1", "1")
    paddle.seed(7)
    expected = {name: value.numpy() for name, value in tiny_network(NUM_CLASSES).state_dict().items()}
    assert all(np.array_equal(seen.models[0][1][name], value) for name, value in expected.items())
    labels = epoch_order(NUM_TRAIN, 7, 0) % NUM_CLASSES
    [logits] = seen.logits
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = -(0.75 * log_p[np.arange(NUM_TRAIN), labels].mean() + 0.25 * log_p.mean())
    assert seen.log[0]["train_loss"] == pytest.approx(loss, rel=1e-5)


def test_the_seed_is_that_of_dropout(run, monkeypatch):
    seeds, step_seed = [], train.step_seed
    monkeypatch.setattr(train, "step_seed", lambda seed, *place: seeds.append(seed) or step_seed(seed, *place))
    run("--seed=7")
    assert {*seeds} == {7}


def test_a_new_run_sets_an_earlier_one_aside(run, tmp_path):
    run("--lr=0.5")
    assert not list(tmp_path.glob("previous-*"))
    assert len(run("--lr=0.25").log) == 1
    [aside] = tmp_path.glob("previous-*")
    assert (aside / "checkpoint-latest.pd").exists() and (aside / "config.yaml").exists()


def test_preprocessing_backends_and_workers(run, monkeypatch):
    pytest.importorskip("cv2")
    pytest.importorskip("simplejpeg")
    opened = {}
    for module in ("loading.sample", "reading.pixels"):
        open_file = importlib.import_module(f"datasets.{module}").open_file
        monkeypatch.setattr(
            f"datasets.{module}.open_file",
            lambda path, exif, backend, module=module, open_file=open_file: (
                opened.setdefault(module, set()).add((exif, backend)) or open_file(path, exif, backend)
            ),
        )
    seen = run(
        *"--train_interpolation bilinear --exif_orientation apply --image_backend cv2".split(),
        *"--eval_image_backend turbo --num_workers 2 --worker_type thread".split(),
    )
    assert opened == {"loading.sample": {("apply", "cv2")}, "reading.pixels": {("apply", "turbo")}}
    assert threading.get_ident() not in seen.threads and 1 <= len(seen.threads) <= 2
    preprocess = seen.checkpoint.meta["info"]["preprocess"]
    names = ("input_size", "interpolation", "exif_orientation", "image_backend")
    assert [preprocess[name] for name in names] == [32, "bilinear", "apply", "turbo"]
    crop = seen.transforms[0].draw(np.random.default_rng(0), (64, 64))[0]
    assert crop.interpolation == "bilinear"


@pytest.mark.parametrize(
    ("flags", "kept", "drawn"),
    [
        (["--fit=letterbox"], ("letterbox", 1, 32), ("letterbox", (124, 116, 104))),
        (["--crop_pct=0.5"], ("crop", 0.5, 64), ("crop", (0, 0, 0))),
    ],
)
def test_how_images_are_fitted(run, flags, kept, drawn):
    seen = run(*flags)
    preprocess = seen.checkpoint.meta["info"]["preprocess"]
    assert tuple(preprocess[name] for name in ("fit", "crop_pct", "resize_size")) == kept
    crop = seen.transforms[0].draw(np.random.default_rng(0), (64, 32))[0]
    assert (crop.fit, crop.fill) == drawn


def test_bad_images_are_skipped_up_to_their_number(run, root, tmp_path):
    lines = (root / "train_list.txt").read_text().splitlines()
    (tmp_path / "bad.png").write_bytes(b"no image")
    for i in range(3):
        lines[i] = f"{os.path.relpath(tmp_path / 'bad.png', root)} {i}"
    (tmp_path / "list.txt").write_text("\n".join(lines))
    flags = [f"--cls_label_path_train={tmp_path / 'list.txt'}", "--on_bad_image=skip", "--batch_size=24"]
    run(*flags, "--max_bad_images=3")
    for more, message in (
        ("--max_bad_images=2", "more than --max_bad_images 2"),
        ("--on_bad_image=error", r"bad\.png"),
    ):
        with pytest.raises(DataError, match=message):
            run(*flags, more)


# ---------------------------------------------------------------------------------------------------- random changes


def test_crops_flips_and_jitter(run):
    seen = run(*"--scale 0.25 0.5 --ratio 0.8 1.6 --hflip 0.125 --aa= --color_jitter 0.75".split())
    rng, size = np.random.default_rng(0), (2000, 1000)
    choices = [seen.transforms[0].draw(rng, size) for _ in range(2000)]
    areas = [crop.width * crop.height / (size[0] * size[1]) for crop, *_ in choices]
    ratios = [crop.width / crop.height for crop, *_ in choices]
    assert (min(areas), max(areas)) == pytest.approx((0.25, 0.5), abs=0.005)
    assert (min(ratios), max(ratios)) == pytest.approx((0.8, 1.6), abs=0.01)
    assert np.mean([is_flipped for _, is_flipped, _ in choices]) == pytest.approx(0.125, abs=0.03)
    factors = [op.value if hasattr(op, "value") else op[1] for *_, jitter in choices for op in jitter]
    assert (min(factors), max(factors)) == pytest.approx((0.25, 1.75), abs=0.01)


def test_the_policy_takes_the_place_of_jitter(run):
    transform = run(*"--aa rand-m5-n7 --color_jitter 0.75".split()).transforms[0]
    ops = [transform.draw(np.random.default_rng(i), (64, 64))[2] for i in range(200)]
    assert max(map(len, ops)) == 7 and np.mean([len(drawn) for drawn in ops]) == pytest.approx(3.5, abs=0.4)


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_erasing(run, mode):
    erasing = run(*f"--reprob 0.75 --remode {mode} --recount 3".split()).erasings[0]
    drawn = [erasing.draw_boxes(np.random.default_rng(i), 64) for i in range(1000)]
    assert np.mean([bool(boxes) for boxes in drawn]) == pytest.approx(0.75, abs=0.05)
    assert {len(boxes) for boxes in drawn} == {0, 1, 2, 3}
    num_boxes, noise = sum(map(len, drawn)), erasing.draw(0, 64, 0, range(100)).noise
    num_values = {"const": 1, "rand": 3, "pixel": 64}[mode]
    assert num_boxes and (len(noise) - 1 < 300 * num_values if mode != "pixel" else len(noise) > 900)
    assert np.any(noise) == (mode != "const")


def test_mixing(run):
    words = "--mixup 0.5 --cutmix 50 --mixup_prob 0.75 --mixup_switch_prob 0.125 --mixup_mode batch --smoothing 0.5"
    mixup = run(*words.split()).mixups[0]
    rng = np.random.default_rng(0)
    drawn = [mixup.draw(rng, 4, 32, 32) for _ in range(3000)]
    lams, boxes = np.array([mix.lam[0] for mix in drawn]), np.array([mix.boxes[0] for mix in drawn])
    is_cut = boxes.any(axis=1)
    is_blended = ~is_cut & (lams < 1)
    assert np.mean(is_cut | is_blended) == pytest.approx(0.75, abs=0.03)
    assert is_cut.sum() / (is_cut | is_blended).sum() == pytest.approx(0.125, abs=0.03)
    assert np.std(lams[is_blended]) == pytest.approx(0.354, abs=0.03)  # of beta(0.5, 0.5); of beta(50, 50) 0.05
    assert 20 <= (boxes[:, 1] - boxes[:, 0]).max() <= 27  # about the root of one half of 32
    assert all(len(set(mix.lam.tolist())) == 1 for mix in drawn), "one draw for a batch"
    whole = MixupDraw(np.ones(4, np.float32), np.zeros((4, 4), np.int64), np.ones(4, np.float32))
    _, labels = mixup.apply(np.zeros((4, 3, 32, 32), np.float32), np.arange(4), whole)
    np.testing.assert_allclose(labels, 0.125 + 0.5 * np.eye(NUM_CLASSES))


def test_the_box_of_cutmix_and_what_draws_its_own_parameters(run):
    mixup = run(*"--mixup 0 --cutmix_minmax 0.25 0.5 --mixup_mode pair".split()).mixups[0]
    rng = np.random.default_rng(0)
    boxes = np.array([mixup.draw(rng, 4, 64, 64).boxes for _ in range(1000)])
    assert {(boxes[..., 1] - boxes[..., 0]).min(), (boxes[..., 3] - boxes[..., 2]).min()} == {16}
    assert {(boxes[..., 1] - boxes[..., 0]).max(), (boxes[..., 3] - boxes[..., 2]).max()} == {32}
    assert np.array_equal(boxes, boxes[:, ::-1]) and not np.array_equal(boxes[:, 0], boxes[:, 1])


# ---------------------------------------------------------------------------------------------------- the update


def replayed(name, updates, numbers, *, clip, decays_all):
    """The weights after each update by the formulas of torch, from the recorded weights, gradients and rates."""
    wd, momentum, betas, eps, alpha = (numbers[key] for key in ("wd", "momentum", "betas", "eps", "alpha"))
    m, v = ([np.zeros_like(w, np.float64) for w, _ in updates[0][1]] for _ in range(2))
    for t, (lr, before, _) in enumerate(updates, start=1):
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for _, g in before))
        scale = 1 if clip is None else min(1, clip / norm)
        after = []
        for i, (w, g) in enumerate(before):
            w, g, decay = w.astype(np.float64), scale * g.astype(np.float64), wd if decays_all or w.ndim > 1 else 0
            if name == "adamw":
                m[i], v[i] = betas[0] * m[i] + (1 - betas[0]) * g, betas[1] * v[i] + (1 - betas[1]) * g**2
                step = m[i] / (1 - betas[0] ** t) / (np.sqrt(v[i] / (1 - betas[1] ** t)) + eps)
                after.append(w * (1 - lr * decay) - lr * step)
                continue
            g = g + decay * w
            if name == "rmsprop":
                v[i] = alpha * v[i] + (1 - alpha) * g**2
                g = g / (np.sqrt(v[i]) + eps)
            m[i] = (momentum if name != "sgd" else 0) * m[i] + g
            after.append(w - lr * m[i])
        yield after


@pytest.mark.parametrize("decays_all", [True, False])
@pytest.mark.parametrize("clip", [None, 0.03])
@pytest.mark.parametrize("name", ["adamw", "momentum", "sgd", "rmsprop"])
def test_the_update_is_that_of_the_flags(run, name, clip, decays_all):
    words = "--momentum 0.625 --weight_decay 0.375 --opt_eps 0.015625 --opt_betas 0.75 0.875 --opt_alpha 0.5"
    flags = [*words.split(), *([f"--clip_grad={clip}"] if clip else [])]
    if decays_all != (name != "adamw"):  # what is published
        flags.append("--decay_norm_and_bias" if decays_all else "--no_decay_norm_and_bias")
    seen = run(*SAME_PICTURES, f"--opt={name}", *flags, "--epochs=2", "--lr=0.0625", "--warmup_epochs=0")
    settings = {"wd": 0.375, "momentum": 0.625, "betas": (0.75, 0.875), "eps": 2**-6, "alpha": 0.5}
    expected = list(replayed(name, seen.updates, settings, clip=clip, decays_all=decays_all))
    assert len(expected) == 6
    for (_, _, after), weights in zip(seen.updates, expected, strict=True):
        for ours, theirs in zip(after, weights, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("in_epochs", [True, False])
@pytest.mark.parametrize("sched", ["cosine", "step"])
def test_the_learning_rate_of_every_step(run, sched, in_epochs):
    words = f"--sched {sched} --epochs 8 --lr 0.5 --warmup_epochs 2 --warmup_lr 0.125 --min_lr 0.03125 --decay_epochs 3"
    flags = [*words.split(), "--decay_rate=0.25", *(["--t_in_epochs"] if in_epochs else [])]
    rates = [rate for rate, *_ in run(*SAME_PICTURES, "--opt=sgd", *flags, "--save_freq=100").updates]

    def expected(epoch, step):
        t = epoch if in_epochs else epoch + step / 3
        if t < 2:
            return 0.125 + 0.375 * t / 2
        if sched == "step":
            return 0.5 * 0.25 ** (epoch // 3)
        return 0.03125 + 0.46875 * (1 + np.cos(np.pi * (t - 2) / 6)) / 2

    assert rates == pytest.approx([expected(epoch, step) for epoch in range(8) for step in range(3)], rel=1e-6)


def test_the_rate_for_512_images_and_the_first_epoch(run):
    seen = run(*"--blr 0.5 --accum_iter 3 --epochs 7 --start_epoch 5 --warmup_epochs 0 --sched step --opt sgd".split())
    assert [rate for rate, *_ in seen.updates] == pytest.approx([0.5 * 24 / 512] * 2)
    assert [line["epoch"] for line in seen.log] == [5, 6]


def test_the_moving_average(run):
    seen = run(
        *SAME_PICTURES, *"--model_ema --model_ema_decay 0.75 --model_ema_eval --lr 0.5 --warmup_epochs 0".split()
    )
    average = seen.models[0][1]["0.weight"].astype(np.float64)
    for _, _, after in seen.updates:
        average = 0.75 * average + 0.25 * after[0]
    np.testing.assert_allclose(seen.checkpoint.section("model_ema")["0.weight"], average, rtol=1e-5, atol=1e-6)
    assert "test_acc1_ema" in seen.log[0]


def test_half_precision_is_asked_for(run):
    assert "mixed precision is ignored" in run("--use_amp").out


class WatchedPrecision:
    """Precision that knows whether the code inside its context is running, and how many losses were scaled."""

    is_entered, num_scaled = False, 0

    @contextmanager
    def autocast(self):
        self.is_entered = True
        yield
        self.is_entered = False

    def scaler(self) -> paddle.amp.GradScaler:
        scaler = paddle.amp.GradScaler(enable=False)
        original = scaler.scale

        def scale(loss):
            self.num_scaled += 1
            return original(loss)

        scaler.scale = scale
        return scaler


def test_every_forward_pass_is_computed_in_the_precision_of_the_flags(run, tmp_path, monkeypatch):
    """A fake replaces a GPU. The evaluations are: of foreign weights before training, of the model, of its average."""
    precision, flags, passes = WatchedPrecision(), [], []
    monkeypatch.setattr("engine.amp.choose_precision", lambda *given: flags.append(given) or precision)
    create_model = models.create_model

    def watched_model(*arguments, **named):
        model = create_model(*arguments, **named)
        model.register_forward_pre_hook(lambda layer, _: passes.append((layer.training, precision.is_entered)))
        return model

    monkeypatch.setattr("models.create_model", watched_model)
    amp, foreign = ("--use_amp", "--amp_dtype=bfloat16"), tmp_path / "foreign.pdparams"
    paddle.save(tiny_network(NUM_CLASSES).state_dict(), str(foreign))
    run(*amp, f"--resume={foreign}", "--model_ema", "--model_ema_eval")
    assert passes == [(False, True), *[(True, True)] * 3, *[(False, True)] * 2]
    assert precision.num_scaled == 3
    passes.clear()
    run(*amp, "--eval", f"--resume={tmp_path / 'checkpoint-latest.pd'}")
    assert passes == [(False, True)]
    assert flags == [(True, "bfloat16")] * 2


# ---------------------------------------------------------------------------------------------------- fine-tuning


@pytest.fixture
def weights(tmp_path):
    """A file of weights of the tiny network."""
    paddle.seed(3)
    path = tmp_path / "weights.pdparams"
    paddle.save(tiny_network(NUM_CLASSES).state_dict(), str(path))
    return f"--finetune={path}"


def test_every_class_is_drawn_equally_often(run, monkeypatch):
    orders = []
    original = importlib.import_module("datasets.loading.sampler").balanced_order

    def balanced_order(*arguments):
        orders.append((arguments, original(*arguments)))
        return orders[-1][1]

    monkeypatch.setattr("datasets.loading.sampler.balanced_order", balanced_order)
    run("--seed=7", "--epochs=2")
    assert orders == []
    run("--seed=7", "--epochs=2", "--balanced_sampling")
    assert [(labels.tolist(), *place) for (labels, *place), _ in orders] == [
        ([0, 1, 2, 3] * 6, NUM_TRAIN, 7, epoch) for epoch in range(2)
    ]


@pytest.mark.parametrize("flags", [[], ["--balanced_sampling"]], ids=str)
def test_the_weights_of_the_classes_know_how_classes_are_drawn(run, monkeypatch, tmp_path, flags):
    data, seen = importlib.import_module("factory.data"), []

    def choose(*arguments, is_balanced=False):
        seen.append(is_balanced)

    monkeypatch.setattr(data, "choose_class_weights", choose)
    run(f"--class_weights={tmp_path / 'weights.txt'}", *flags)
    assert seen == [bool(flags)]


def test_the_loss_has_the_weights_of_the_classes_and_the_focus(run, root, tmp_path):
    """Classes 0 to 3 with 6 images each: weights 1, 2, 3, 4 of a file, divided by their mean."""
    (tmp_path / "weights.txt").write_text("".join(f"{label} {label + 1}\n" for label in range(4)))
    flags = [f"--class_weights={tmp_path / 'weights.txt'}", "--focal_gamma=1.5", "--smoothing=0.25"]
    seen = run(*SAME_PICTURES, "--seed=7", "--batch_size=24", *flags)
    labels = epoch_order(NUM_TRAIN, 7, 0) % NUM_CLASSES
    [logits] = seen.logits
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    soft = 0.75 * np.eye(NUM_CLASSES)[labels] + 0.25 / NUM_CLASSES
    losses = -(soft * (1 - np.exp(log_p)) ** 1.5 * log_p).sum(1)
    assert seen.log[0]["train_loss"] == pytest.approx((losses * (labels + 1) / 2.5).mean(), rel=1e-5)
    assert "class weights (mean over the images 1): class 3 1.6, class 2 1.2, class 1 0.8, class 0 0.4" in seen.out


@pytest.mark.parametrize(
    ("flag", "shares"),
    [
        ("--backbone_lr_mult=0.25", [0.25, 0.25, 0.25, 0.25, 1, 1]),
        ("--layer_decay=0.5", [0.25, 0.25, 0.5, 0.5, 1, 1]),
        ("--freeze=1", [1, 1, 1, 1]),
        ("--freeze=backbone", [1, 1]),
    ],
)
def test_the_rates_of_the_layers(run, weights, flag, shares):
    """Convolution, batch norm and classifier, two parameters each; a frozen layer gets no update at all."""
    words = "--opt sgd --lr 0.5 --weight_decay 0 --warmup_epochs 0".split()
    seen = run(*SAME_PICTURES, *words, weights, flag)
    for lr, before, after in seen.updates:
        assert len(before) == len(shares)
        for (old, gradient), new, share in zip(before, after, shares, strict=True):
            np.testing.assert_allclose(new, old - lr * share * gradient, rtol=1e-5, atol=1e-6)


def test_without_weights_all_layers_learn_equally(run):
    seen = run(*SAME_PICTURES, *"--opt sgd --lr 0.5 --weight_decay 0 --warmup_epochs 0 --layer_decay 0.5".split())
    for lr, before, after in seen.updates:
        for (old, gradient), new in zip(before, after, strict=True):
            np.testing.assert_allclose(new, old - lr * gradient, rtol=1e-5, atol=1e-6)


def test_how_long_a_run_is(run):
    assert len(run("--min_steps=7").log) == 3, "three steps an epoch"
    assert len(run("--epochs=9", "--lr=0", "--warmup_epochs=0", "--min_lr=0", "--patience=2", *SAME_PICTURES).log) <= 5
    seen = run("--batch_size=64")
    assert seen.trained[-1][0] == NUM_TRAIN and "--batch_size is lowered from 64 to 24" in seen.out


# ---------------------------------------------------------------------------------------------------- the run


def saved_places(monkeypatch, fails=lambda number: False) -> list:
    """(file, next epoch, next step) of each checkpoint that is written."""
    places = []

    def write(path, tensors, meta, **more):
        places.append((path.name, meta["next_epoch"], meta["next_step"]))
        if fails(len(places)):
            raise DiskError("no space left")
        write_checkpoint(path, tensors, meta, **more)

    monkeypatch.setattr("engine.saver.write_checkpoint", write)
    return places


def test_when_lines_and_checkpoints_are_written(run, tmp_path, monkeypatch):
    places = saved_places(monkeypatch)
    seen = run(*"--epochs 9 --save_freq 3 --keep_last 2 --batch_size 2 --log_every 7 --save_steps 5".split())
    lines = re.findall(r"Epoch: \[8\]  \[ ?(\d+)/12\]", seen.out)
    assert lines == ["0", "7", "11"]
    latest = [place[1:] for place in places if place[0] == "checkpoint-latest.pd"]
    assert latest[:3] == [(0, 5), (0, 10), (1, 0)] and len(latest) == 27
    assert sorted(path.name for path in tmp_path.glob("checkpoint-?.pd")) == ["checkpoint-5.pd", "checkpoint-8.pd"]


def test_how_many_failed_saves_end_a_run(run, monkeypatch, caplog):
    saved_places(monkeypatch, fails=lambda number: number > 1)
    with pytest.raises(DiskError):
        run(*"--save_steps 1 --save_attempts 4 --skip_nonfinite 6 --keep_last 7 --epochs 9".split())
    failures = [re.search(r"failure (\d) of (\d)", text) for text in caplog.messages if "no space left" in text]
    assert [found.groups() for found in failures] == [("1", "4"), ("2", "4"), ("3", "4")], "the fourth ends the run"


def test_how_many_steps_a_run_skips(run, tmp_path, caplog):
    """From finite weights whose logits are not."""
    arrays = {f"model/{name}": value.numpy() for name, value in tiny_network(NUM_CLASSES).state_dict().items()}
    signs = np.array([1, -1, 1, -1], np.float32)
    arrays |= {"model/1.weight": 1e30 * signs, "model/5.weight": 1e30 * np.outer(np.ones(4, np.float32), signs)}
    write_checkpoint(tmp_path / "weights.pd", arrays, {"next_epoch": 1, "next_step": 0, "epoch": 0})
    with pytest.raises(NonFiniteLossError):
        run(f"--finetune={tmp_path / 'weights.pd'}", *"--batch_size 2 --skip_nonfinite 6 --save_attempts 4".split())
    skipped = [text for text in caplog.messages if "is skipped" in text]
    assert len(skipped) == 6 and "(6 of 6 allowed)" in skipped[-1]


def test_the_watchdog_waits_as_long_as_it_is_told(run):
    assert run("--stall_seconds=4321").watchdogs[0]._stall_seconds == 4321


def test_where_the_weights_begin(run, tmp_path):
    """The head of the weights file is left out on demand, and the average is another file's."""
    shapes = {name: value.shape for name, value in tiny_network(NUM_CLASSES).state_dict().items()}
    meta = {"next_epoch": 1, "next_step": 0, "epoch": 0}
    for name, value in (("weights.pd", 0.5), ("average.pd", 0.25)):
        sections = {"model": value, "model_ema": value / 2}
        arrays = {
            f"{section}/{key}": np.full(shape, number, np.float32)
            for section, number in sections.items()
            for key, shape in shapes.items()
        }
        write_checkpoint(tmp_path / name, arrays, meta)
    still = ["--lr=0", "--min_lr=0", "--warmup_epochs=0", "--opt=sgd", "--model_ema", "--model_ema_decay=1"]
    files = [f"--finetune={tmp_path / 'weights.pd'}", f"--resume_ema={tmp_path / 'average.pd'}"]
    checkpoint = run(*still, *files).checkpoint
    assert set(np.unique(checkpoint.section("model")["0.weight"])) == {0.5}
    assert set(np.unique(checkpoint.section("model_ema")["0.weight"])) == {0.125}
    model = run(*still, *files, "--remove_head_from_pretained").checkpoint.section("model")
    assert set(np.unique(model["0.weight"])) == {0.5} and len(np.unique(model["5.weight"])) > 1


def test_weights_and_biases_hears_of_entity_and_project(run, monkeypatch):
    begun, sent = [], []
    fake = SimpleNamespace(
        init=lambda **named: begun.append(named) or SimpleNamespace(log=lambda numbers, step: sent.append(step))
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run("--log_wandb", "--wandb_entity=us", "--wandb_project=nets", "--epochs=2", "--lr=0.5")
    assert [(named["entity"], named["project"], named["config"]["lr"]) for named in begun] == [("us", "nets", 0.5)]
    assert sent == [0, 1]


def test_ranks_that_would_go_on_from_different_places_are_refused(run, monkeypatch):
    """As where --output_dir is a folder of each machine: the other rank says that it stands one epoch further."""

    def gather(value):
        is_place = isinstance(value, tuple) and all(isinstance(number, int) for number in value)
        return [value, (value[0] + 1, value[1])] if is_place else [value]

    monkeypatch.setattr("engine.distributed.gather_objects", gather)
    with pytest.raises(CheckpointError, match=r"different places \(epoch, step\): \[\(0, 0\), \(1, 0\)\]"):
        run("--resume=auto")
