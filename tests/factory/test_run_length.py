"""Flags that the number of images decides, and the warnings about runs that are too short."""

import numpy as np
import pytest

from configs.loader import given_flags, parse
from configs.schema import TrainConfig
from datasets.classes import Classes
from engine.checkpoint import write_checkpoint
from factory.data import TrainingData
from factory.public_weights import with_public_weights
from factory.run_length import with_run_length


def with_images(num_images: int, *flags: str):
    """The config and what is said of it, for a number of training images."""
    config = parse(TrainConfig, ["--epochs=40", "--warmup_epochs=1", *flags], prog="main.py")
    data = TrainingData(np.zeros(num_images), None, Classes(2), None, ("a",), ("b",))
    config, data = with_run_length(config, data)
    assert data.notes[0] == "a" and data.remarks[0] == "b"
    return config, [*data.notes[1:], *data.remarks[1:]]


def test_nothing_changes_where_the_flags_fit():
    config, said = with_images(640, "--backbone_lr_mult=0.1", "--finetune=w.pd", "--min_steps=400")
    assert said == [] and config.schedule.epochs == 40 and config.loader.batch_size == 64
    assert config.optim.backbone_lr_mult == 0.1


@pytest.mark.parametrize(("num_images", "accum", "world", "expected"), [(40, 1, 1, 40), (40, 2, 1, 20), (41, 1, 2, 20)])
def test_a_step_is_never_larger_than_the_set(num_images, accum, world, expected, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", str(world))
    config, [said] = with_images(num_images, f"--accum_iter={accum}")
    assert config.loader.batch_size == expected
    assert f"a step of {64 * accum * world} images holds more than the {num_images} training images" in said
    assert f"--batch_size is lowered from 64 to {expected}" in said


def test_a_set_without_one_image_for_each_part_is_left_to_the_sampler():
    config, _ = with_images(3, "--accum_iter=4")
    assert config.loader.batch_size == 64


@pytest.mark.parametrize(("num_images", "epochs"), [(320, 40), (64, 200), (100, 200), (129, 100)])
def test_epochs_by_the_number_of_images(num_images, epochs):
    config, said = with_images(num_images, "--min_steps=200")
    assert config.schedule.epochs == epochs
    steps = num_images // 64
    raised = f"--min_steps 200: {epochs} epochs of {steps} steps, not 40; --min_steps 0 keeps --epochs 40"
    assert said == ([raised] if epochs > 40 else [])


@pytest.mark.parametrize(("warmup", "is_long"), [(13, False), (14, True)])
def test_a_long_warm_up(warmup, is_long):
    _, said = with_images(640, f"--warmup_epochs={warmup}")
    assert (said != []) == is_long
    if is_long:
        assert "takes 14 of 40 epochs, more than a third; lower --warmup_epochs to 4" in said[0]


def test_a_warm_up_without_end():
    _, [said] = with_images(640, "--warmup_epochs=40")
    assert "more than a third, and its peak is never reached; lower" in said


def test_too_few_steps():
    _, [said] = with_images(64, "--epochs=19")
    assert "the whole run has 19 steps (updates of the weights): too few to learn from; raise --epochs to 200" in said
    assert with_images(64, "--epochs=20")[1] == []
    assert "raise --epochs to 100 or more" in with_images(128, "--epochs=9")[1][0]


@pytest.mark.parametrize("flag", ["--backbone_lr_mult=0.1", "--layer_decay=0.5"])
def test_layers_of_a_new_network_learn_at_one_rate(flag):
    config, [said] = with_images(640, flag)
    assert (config.optim.backbone_lr_mult, config.optim.layer_decay) == (1, None)
    assert f"no weights to start from: {flag.replace('=', ' ')} is left out" in said
    assert "640 images are few for a network that starts at random, and --pretrained needs far fewer" in said
    for start in ("--finetune=w.pd", "--pretrained", "--resume=c.pd"):
        config, said = with_images(640, flag, start)
        assert said == [] and config.optim.backbone_lr_mult * (config.optim.layer_decay or 1) < 1
    assert "few" not in with_images(20_000, flag)[1][0]


@pytest.mark.parametrize(("began_with", "expected"), [(1.0, 1.0), (0.3, 0.1)])
@pytest.mark.parametrize("resume", ["auto", "checkpoint-latest.pd"])
def test_a_run_that_began_at_random_goes_on_with_equal_rates(resume, began_with, expected, tmp_path):
    """The same command continues it, and its recipe still names the rates for trained weights."""
    info = {"args": {"backbone_lr_mult": began_with, "layer_decay": None}}
    meta = {"next_epoch": 1, "next_step": 0, "epoch": 0, "info": info}
    write_checkpoint(tmp_path / "checkpoint-latest.pd", {"model/w": np.zeros(2, np.float32)}, meta)
    path = resume if resume == "auto" else str(tmp_path / resume)
    config, said = with_images(640, "--backbone_lr_mult=0.1", f"--resume={path}", f"--output_dir={tmp_path}")
    assert config.optim.backbone_lr_mult == expected
    assert [remark.endswith("learn at the same rate, and so they go on") for remark in said] == [True] * (expected == 1)


@pytest.mark.parametrize(("num_images", "epochs"), [(30, 400), (100, 67), (320, 20), (3_000, 20), (30_000, 20)])
def test_the_recipe_for_own_pictures_fits_the_number_of_pictures(num_images, epochs):
    recipe = ["--config=configs/recipes/finetune_own_pictures.yaml"]
    data = TrainingData(np.zeros(num_images), None, Classes(6), None, (), ())
    config, said = with_run_length(parse(TrainConfig, [*recipe, "--pretrained"], prog="main.py"), data)
    assert config.schedule.epochs == epochs and said.remarks == ()
    assert config.optim.backbone_lr_mult < 1
    config, said = with_run_length(parse(TrainConfig, recipe, prog="main.py"), data)
    assert config.optim.backbone_lr_mult == 1 and len(said.remarks) == 1
    assert ("few for a network that starts at random" in said.remarks[0]) == (num_images < 10_000)


@pytest.mark.parametrize(("flags", "side"), [([], 224), (["--input_size=96"], 96)])
def test_the_recipe_for_own_pictures_takes_the_public_weights_of_its_network(flags, side):
    argv = ["--config=configs/recipes/finetune_own_pictures.yaml", "--pretrained", *flags]
    given = given_flags(TrainConfig, argv, prog="main.py")
    config, published = with_public_weights(parse(TrainConfig, argv, prog="main.py"), given)
    assert (config.model.name, config.resume.pretrained) == ("peleenet", "peleenet.official")
    assert config.preprocess.input_size == side and published["interpolation"] == "bilinear"
