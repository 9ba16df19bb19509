"""main.py --eval: which flags replace what the weights say, and which weights are meant."""

import pytest

from configs.loader import given_flags, parse
from configs.schema import TrainConfig
from factory.evaluation import remarks_on_average, trained_configs, weights_to_evaluate


def configs_of(*flags: str):
    config = parse(TrainConfig, [*flags], prog="main.py")
    return trained_configs(config, given_flags(TrainConfig, [*flags], prog="main.py"))


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [
        ("--input_size=64", "input_size", 64),
        ("--train_interpolation=bilinear", "train_interpolation", "bilinear"),
        ("--exif_orientation=apply", "exif_orientation", "apply"),
        ("--eval_image_backend=cv2", "eval_image_backend", "cv2"),
        ("--fit=squash", "fit", "squash"),
        ("--crop_pct=0.9", "crop_pct", 0.9),
    ],
)
def test_only_given_flags_replace_the_preprocessing_of_the_weights(flag, name, value):
    assert getattr(configs_of(flag)[1], name) == value
    assert getattr(configs_of("--epochs=3")[1], name) is None


def test_only_given_flags_replace_the_model_of_the_weights():
    model, _ = configs_of("--epochs=3")
    assert model.name is None and model.nb_classes is None
    model, _ = configs_of("--model=alexnet", "--nb_classes=7")
    assert (model.name, model.nb_classes) == ("alexnet", 7)


def test_averaged_weights_that_are_not_evaluated_are_said():
    for flags, number in ([[], 0], [["--resume_ema=w.pd", "--model_ema"], 1], [["--model_ema", "--model_ema_eval"], 1]):
        config = parse(TrainConfig, ["--eval", "--resume=w.pd", *flags], prog="main.py")
        assert len(remarks_on_average(config)) == number


@pytest.mark.parametrize("flag", ["--resume", "--finetune"])
def test_the_weights_are_those_that_a_training_would_start_from(flag, tmp_path):
    config = parse(TrainConfig, ["--eval", f"{flag}={tmp_path / 'w.pd'}"], prog="main.py")
    assert weights_to_evaluate(config).resume == str(tmp_path / "w.pd")
