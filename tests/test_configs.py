"""Every flag is declared once, checked, overridable, written down, and read somewhere."""

import dataclasses
import io
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import yaml

from common.cli import die_of_signal, run
from common.errors import UsageError
from configs import flags_page
from configs.declare import ON_RESUME, flag_name
from configs.loader import as_dict, changed, parse, resume_rules, write_config
from configs.schema import EvalConfig, ExportConfig, InferConfig, PredictConfig, TrainConfig
from tests.config_readers import readers

ROOT = Path(__file__).parent.parent
SCRIPTS = {
    "main": TrainConfig,
    "eval": EvalConfig,
    "predict": PredictConfig,
    "export_model": ExportConfig,
    "infer": InferConfig,
}

# Names and defaults of PeleeNet-paddle's scripts. Where ours differs on purpose, the pair says what theirs is and ours.
REFERENCE_DEFAULTS = {
    "main": {
        "batch_size": 64, "epochs": 300, "accum_iter": 1, "model": ("convnext_tiny", "peleenet"), "input_size": 224,
        "model_ema": False, "model_ema_decay": 0.9999, "model_ema_eval": False, "opt": "adamw", "opt_eps": 1e-8,
        "opt_betas": None, "momentum": 0.9, "clip_grad": None, "weight_decay": 0.05, "use_amp": False, "blr": 5e-4,
        "lr": None, "warmup_lr": 0, "min_lr": 1e-6, "warmup_epochs": 5, "t_in_epochs": False, "color_jitter": None,
        "aa": "rand-m9-mstd0.5-inc1", "smoothing": 0.1, "train_interpolation": "bicubic", "reprob": 0.25,
        "remode": "pixel", "recount": 1, "resplit": False, "mixup": 0.8, "cutmix": 1.0, "cutmix_minmax": None,
        "mixup_prob": 1.0, "mixup_switch_prob": 0.5, "mixup_mode": "batch", "finetune": "",
        "remove_head_from_pretained": False, "data_path": "/datasets/imagenet/", "nb_classes": 1000,
        "cls_label_path_train": None, "cls_label_path_val": None, "output_dir": "", "seed": 0, "resume": "",
        "resume_ema": "", "start_epoch": 0, "eval": False, "dist_eval": False, "num_workers": (10, None),
        "log_to": "", "log_wandb": False, "wandb_entity": None, "wandb_project": None, "debug": False,
    },
    "eval": {
        "batch_size": 64, "model": "peleenet", "input_size": 224, "data_path": "/datasets/imagenet/",
        "nb_classes": 1000, "cls_label_path_val": None, "train_interpolation": "bicubic", "resume": "",
        "dist_eval": False, "num_workers": (10, None),
    },
    "predict": {
        "model": "peleenet", "input_size": 224, "infer_imgs": ("./demo/ILSVRC2012_val_00020010.JPEG", ()),
        "nb_classes": 1000, "train_interpolation": "bicubic", "resume": "",
    },
    "export_model": {"model": "peleenet", "input_size": 224, "nb_classes": 1000, "output_dir": "", "resume": ""},
    "infer": {
        "input_file": None, "model_file": None, "params_file": None, "batch_size": 1, "use_gpu": True,
        "precision": "fp32", "ir_optim": True, "use_tensorrt": False, "gpu_mem": 8000, "enable_benchmark": False,
        "enable_mkldnn": False, "cpu_threads": None, "train_interpolation": "bicubic",
    },
}  # fmt: skip

# Defaults of the flags that PeleeNet-paddle's scripts do not have.
# What the predecessor has a number for, and ours takes from the data or the checkpoint where it is not given.
FROM_CHECKPOINT = {"model", "nb_classes", "input_size", "train_interpolation"}
FROM_DATA = {
    "main": {"nb_classes"},
    "eval": FROM_CHECKPOINT | {"data_path"},
    "predict": FROM_CHECKPOINT,
    "export_model": FROM_CHECKPOINT,
    "infer": set(),
}

OUR_DEFAULTS = {
    "main": {
        "list_models": False, "exif_orientation": "ignore", "eval_image_backend": None, "fit": "crop", "crop_pct": None,
        "crop": "resized",
        "device": "auto", "cpu_threads": None, "onednn": True,
        "worker_type": "auto", "image_backend": "pil", "on_bad_image": "error", "max_bad_images": 100,
        "scale": [0.08, 1.0], "ratio": [3 / 4, 4 / 3], "hflip": 0.5, "decay_norm_and_bias": None, "opt_alpha": 0.99,
        "amp_dtype": "float16", "sync_bn": False, "sched": "cosine", "decay_epochs": 30, "decay_rate": 0.1,
        "log_every": 20, "save_freq": 20, "save_steps": None, "keep_last": None, "save_attempts": 3,
        "skip_nonfinite": 0, "stall_seconds": 900.0, "label_list": "", "pretrained": "", "weights_dir": "",
        "balanced_sampling": False, "class_weights": "", "focal_gamma": 0.0, "backbone_lr_mult": 1.0,
        "layer_decay": None, "freeze": "", "min_steps": 0, "patience": None,
    },
    "eval": {
        "list_models": False, "exif_orientation": None, "eval_image_backend": None, "fit": None, "crop_pct": None,
        "device": "auto", "cpu_threads": None, "eager": False,
        "worker_type": "auto", "on_bad_image": "error", "max_bad_images": 100, "use_ema": False,
        "pretrained": "", "weights_dir": "", "output_dir": "", "tta": "none", "temperature": "none", "suspects": "auto",
        "cls_label_path_train": None,
    },
    "predict": {
        "list_models": False, "exif_orientation": None, "eval_image_backend": None, "fit": None, "crop_pct": None,
        "device": "auto", "cpu_threads": None, "eager": False,
        "use_ema": False, "batch_size": 1, "label_list": "", "save_path": "", "topk": 5, "use_amp": False,
        "csv_formulas": False, "temperature": "", "print": "auto", "csv_rows": "images", "save_images": "",
        "sort_into": "", "explain": "",
        "pretrained": "", "weights_dir": "",
    },
    "export_model": {
        "list_models": False, "train_interpolation": None, "exif_orientation": None,
        "eval_image_backend": None, "fit": None, "crop_pct": None, "use_ema": False, "format": "paddle,pdmodel",
        "label_list": "", "check_images": "", "calibration_images": "", "calibration_method": "minmax",
        "num_calibration": 128, "data_path": "", "cls_label_path_val": None, "max_drop": 1.0,
        "pretrained": "", "weights_dir": "", "temperature": "", "paddlex_name": "",
    },
    "infer": {
        "engine": "paddle", "trust_program": False, "gpu_id": 0, "enable_openvino": False, "topk": 5, "threshold": 0.0,
        "save_path": "", "resume_from": "", "label_list": "", "csv_formulas": False,
        "print": "auto", "csv_rows": "images", "save_images": "", "sort_into": "",
    },
}  # fmt: skip

# The smallest and the largest value of every number, the same in all scripts; None: no bound.
BOUNDS = {
    (
        0,
        None,
    ): "num_workers max_bad_images color_jitter mixup cutmix weight_decay opt_eps clip_grad lr blr warmup_epochs "
    "warmup_lr min_lr min_steps focal_gamma start_epoch skip_nonfinite stall_seconds max_drop gpu_id",
    (0, 1): "scale hflip reprob smoothing cutmix_minmax mixup_prob mixup_switch_prob momentum opt_betas opt_alpha "
    "model_ema_decay decay_rate threshold backbone_lr_mult layer_decay crop_pct",
    (
        1,
        None,
    ): "nb_classes input_size batch_size recount accum_iter epochs decay_epochs log_every save_freq save_steps "
    "patience keep_last save_attempts topk num_calibration gpu_mem cpu_threads",
    (0.01, None): "ratio",
    (0, 2**64 - 1): "seed",
}

# What a resumed run does where a flag of the training changed; the others warn that the numbers will be others.
RULES = {
    "refuse": "model nb_classes opt freeze",
    "refuse_inside_epoch": "seed balanced_sampling",
    "ignore": "list_models device cpu_threads onednn data_path cls_label_path_train label_list resplit num_workers "
    "worker_type dist_eval resume resume_ema finetune pretrained weights_dir remove_head_from_pretained start_epoch "
    "output_dir log_every save_freq save_steps keep_last save_attempts log_to log_wandb wandb_entity "
    "wandb_project eval debug min_steps skip_nonfinite stall_seconds",
}


def flags(config_class):
    """The fields of all branches, each with its branch class."""
    return [
        (branch.type, field) for branch in dataclasses.fields(config_class) for field in dataclasses.fields(branch.type)
    ]


@pytest.mark.parametrize("script", SCRIPTS)
def test_reference_flags_and_defaults(script):
    config = as_dict(parse(SCRIPTS[script], [], prog=script))
    for name, default in REFERENCE_DEFAULTS[script].items():
        if name in FROM_DATA[script]:
            assert config[name] is None, name
            continue
        if isinstance(default, tuple):
            default = default[1]
        got = tuple(config[name]) if isinstance(config[name], list) else config[name]
        assert got == default, name


@pytest.mark.parametrize("script", SCRIPTS)
def test_our_own_defaults(script):
    config = as_dict(parse(SCRIPTS[script], [], prog=script))
    ours = {name: value for name, value in config.items() if name not in REFERENCE_DEFAULTS[script]}
    assert ours == OUR_DEFAULTS[script]


def test_the_betas_of_adamw_that_none_stands_for():
    assert parse(TrainConfig, [], prog="main.py").optim.betas == (0.9, 0.999)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_default_has_the_type_of_its_flag(script):
    """0 == 0.0 == False for the tests above, but not in a written config."""
    for _, field in flags(SCRIPTS[script]):
        kinds = [kind.split("[")[0].strip() for kind in str(getattr(field.type, "__name__", field.type)).split("|")]
        assert type(field.default).__name__.removesuffix("Type") in kinds, field.name


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_bounds_of_every_number(script):
    expected = {name: bounds for bounds, names in BOUNDS.items() for name in names.split()}
    for _, field in flags(SCRIPTS[script]):
        bounds = (field.metadata["low"], field.metadata["high"])
        assert bounds == expected.get(field.name, (None, None)), field.name


@pytest.fixture(scope="module")
def read_in():
    """Files by the (branch class, field) that they read."""
    return readers()


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_is_read(script, read_in):
    for branch, field in flags(SCRIPTS[script]):
        if field.metadata["compat"]:
            assert field.metadata["meaning"].startswith("accepted")
        else:
            assert read_in.get((branch.__name__, field.name)), f"nothing reads --{flag_name(field)} of {script}.py"


def test_every_flag_of_the_training_says_what_a_resumed_run_does():
    rules = resume_rules(TrainConfig)
    assert list(rules) == list(as_dict(parse(TrainConfig, [], prog="main.py")))
    by_rule = {rule: {name for name in rules if rules[name] == rule} for rule in ON_RESUME}
    del by_rule["warn"]
    assert by_rule == {rule: set(names.split()) for rule, names in RULES.items()}


def test_the_page_of_flags_is_that_of_the_schema():
    page = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")
    assert page == flags_page.page(), "run: python -m configs.flags_page > docs/flags.md"
    row = "| `--batch_size` | whole number, at least 1 | `64` | images per batch on each device | warning |\n"
    assert row in page
    assert page.count("\n| `--") == sum(len(flags(config_class)) for config_class in SCRIPTS.values())


def test_flags_win_over_the_recipe_which_wins_over_defaults(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("lr: 1e-3\nepochs: 7\nmodel_ema: true\ncutmix_minmax: [0.2, 0.8]\n")
    config = parse(TrainConfig, ["--config", str(recipe), "--epochs", "9", "--no_model_ema"], prog="main.py")
    assert (config.schedule.lr, config.schedule.epochs, config.ema.model_ema) == (1e-3, 9, False)
    assert config.mix.cutmix_minmax == (0.2, 0.8)
    assert config.loader.batch_size == 64


def test_help_tells_how_to_turn_off_what_a_recipe_turned_on(capsys):
    with pytest.raises(SystemExit):
        parse(TrainConfig, ["--help_all"], prog="main.py")
    words = " ".join(capsys.readouterr().out.split())
    for _, field in flags(TrainConfig):
        assert (f"--no_{field.name} turns it off" in words) == (field.metadata["style"] == "pair")


def test_a_written_config_makes_the_same_run(tmp_path):
    config = parse(TrainConfig, ["--lr", "0.18", "--aa", "", "--opt-betas", "0.8", "0.9"], prog="main.py")
    write_config(config, tmp_path / "config.yaml")
    assert parse(TrainConfig, ["--config", str(tmp_path / "config.yaml")], prog="main.py") == config


def test_a_full_disk_leaves_the_older_config(tmp_path, monkeypatch):
    config = parse(TrainConfig, [], prog="main.py")
    write_config(config, tmp_path / "config.yaml")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    monkeypatch.setattr("yaml.safe_dump", lambda *_, **__: "")  # all that was written
    with pytest.raises(OSError):
        write_config(config, tmp_path / "config.yaml")
    assert parse(TrainConfig, ["--config", str(tmp_path / "config.yaml")], prog="main.py") == config


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_takes_the_recipe_of_a_training(script, tmp_path):
    config = parse(TrainConfig, ["--train_interpolation", "bilinear", "--batch_size", "7"], prog="main.py")
    write_config(config, tmp_path / "config.yaml")
    taken = as_dict(parse(SCRIPTS[script], ["--config", str(tmp_path / "config.yaml")], prog=script))
    assert taken["train_interpolation"] == "bilinear"
    (tmp_path / "typo.yaml").write_text("modell: alexnet\n")
    with pytest.raises(UsageError, match="unknown key 'modell'"):
        parse(SCRIPTS[script], ["--config", str(tmp_path / "typo.yaml")], prog=script)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"epochs: 3\nepocis: 4\n", b"epochs: {", b"epochs: many"])
def test_a_damaged_config_of_an_earlier_run_is_set_aside(tmp_path, content, caplog):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    for _ in range(2):  # the second time it is good
        write_config(parse(TrainConfig, [], prog="main.py"), path)
    assert parse(TrainConfig, ["--config", str(path)], prog="main.py") == parse(TrainConfig, [], prog="main.py")
    assert (tmp_path / "config.yaml.damaged").read_bytes() == content
    [message] = caplog.messages
    assert f"{path}" in message and f"it is now {path}.damaged, and a new {path} is written" in message


@pytest.mark.parametrize("script", ["eval", "predict", "export_model"])
def test_auto_names_no_weights(script):
    """As the config.yaml of a run that was resumed does."""
    with pytest.raises(UsageError, match=r"--resume auto is for main.py alone; name the file of weights"):
        parse(SCRIPTS[script], ["--resume", "auto"], prog=script)


@pytest.mark.parametrize(
    ("word", "message"),
    [("--batch_size=''", "--batch_size: expected int, got ''"), ("--opt=''", "--opt: unknown value ''")],
)
def test_two_quotes_are_an_empty_word_which_is_checked_too(word, message):
    with pytest.raises(UsageError, match=message):
        parse(TrainConfig, [word], prog="main.py")


@pytest.mark.parametrize("argv", [["--aa", ""], ["--aa="], ["--aa=''"]])
def test_an_empty_text_is_off(argv):
    assert parse(TrainConfig, argv, prog="main.py").augment.aa == ""


@pytest.mark.parametrize(
    ("text", "value"), [("True", True), ("t", True), ("1", True), ("False", False), ("yes", False), ("", False)]
)
def test_text_booleans_follow_the_predecessor(text, value):
    assert parse(InferConfig, [f"--use_gpu={text}"], prog="infer.py").engine.use_gpu is value


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        ([], ""),
        (["--pretrained"], "auto"),
        (["--pretrained", "--epochs", "3"], "auto"),
        (["--pretrained", "alexnet.paddleclas"], "alexnet.paddleclas"),
        (["--pretrained="], ""),
    ],
)
def test_a_flag_whose_value_may_be_left_out(argv, value):
    assert parse(TrainConfig, argv, prog="main.py").resume.pretrained == value


@pytest.mark.parametrize(
    ("text", "value"), [("true", "auto"), ("false", ""), ("peleenet.official", "peleenet.official")]
)
def test_a_recipe_may_switch_such_a_flag_on(tmp_path, text, value):
    (tmp_path / "r.yaml").write_text(f"pretrained: {text}\n")
    assert parse(TrainConfig, ["--config", str(tmp_path / "r.yaml")], prog="main.py").resume.pretrained == value


def test_output_is_output_dir():
    assert parse(ExportConfig, ["--output=./x"], prog="export_model.py").export.output_dir == "./x"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epoch", "3"], "unknown flag --epoch; did you mean --epochs?"),
        (["--opt", "adam"], "--opt: unknown value 'adam'; did you mean adamw?; known: adamw, momentum, sgd, rmsprop"),
        (["--epochs", "0"], "--epochs: expected at least 1, got 0"),
        (["--batch_size", "2.5"], "--batch_size: expected int, got '2.5'"),
        (["--lr", "x"], "--lr: expected float, got 'x'"),
        (["--lr", "nan"], "--lr: expected a finite number, got nan"),
        (["--stall_seconds", "inf"], "--stall_seconds: expected a finite number, got inf"),
        (["--clip_grad", "0"], "--clip_grad 0 would make every gradient 0"),
        (["--crop_pct", "0"], "--crop_pct 0: expected a number above 0 and at most 1"),
        (["--crop_pct", "1.5"], "--crop_pct: expected between 0 and 1, got 1.5"),
        (["--fit", "pad"], "--fit: unknown value 'pad'"),
        (["--fit", "squash", "--crop_pct", "0.9"], "--crop_pct 0.9 is for --fit crop; squash cuts nothing off"),
        (["--opt_betas", "0.9", "1"], "--opt_betas 0.9 1.0: expected numbers below 1"),
        (["--seed", "99999999999999999999"], "--seed: expected between 0 and 18446744073709551615"),
        (["--lr", "-1"], "--lr: expected at least 0, got -1.0"),
        (["--reprob", "1.5"], "--reprob: expected between 0 and 1, got 1.5"),
        (["--cutmix_minmax", "0.5"], "--cutmix_minmax takes two values, got 1"),
        (["--cutmix_minmax", "0.8", "0.2"], "the smaller value comes first"),
        (["--cutmix_minmax", "0.5", "0.4"], "the smaller value comes first"),
        (["--scale", "0.5", "1", "2"], "--scale: expected between 0 and 1, got 2"),
        (["--model_ema_eval"], "--model_ema_eval needs --model_ema"),
        (["--resume_ema", "c.pd"], "--resume_ema needs --model_ema"),
        (["--eval"], "--eval needs weights, random ones are never evaluated; give them with --resume"),
        (["--pretrained", "--finetune", "a"], "--finetune and --pretrained both name weights to start from"),
        (
            ["--backbone_lr_mult", "0"],
            "--backbone_lr_mult 0 would train the classifier alone; that is --freeze backbone",
        ),
        (["--layer_decay", "0"], "--layer_decay 0 would train the classifier alone"),
        (["--layer_decay", "0.8", "--backbone_lr_mult", "0.1"], "both set the learning rates of layers; leave one out"),
        (["--freeze", "head"], "--freeze: expected backbone or a number of layers, at least 1, got 'head'"),
        (["--freeze", "0", "--pretrained"], "--freeze: expected backbone or a number of layers, at least 1, got '0'"),
        (["--freeze", "3"], "--freeze needs weights to start from, frozen random ones would never learn"),
        (["--freeze", "backbone", "--layer_decay", "0.5", "--pretrained"], "--freeze backbone leaves no layer for"),
        (["--freeze", "2", "--sync_bn", "--pretrained"], "--freeze and --sync_bn cannot be combined"),
        (["--class_weights", "balanced", "--balanced_sampling"], "would correct the rare classes twice; leave one out"),
        (["--device", "tpu"], "--device: unknown device 'tpu'; known: auto, cpu, gpu, gpu:N"),
        (["--device", "cuda"], "unknown device 'cuda'; did you mean gpu? known: auto"),
        (["--device", "cuda:1"], "unknown device 'cuda:1'; did you mean gpu:1? known: auto"),
        (["--device", "cpu:1"], "unknown device"),
        (["--device", "gpu:x"], "unknown device"),
        (["--seed"], "expected one argument"),
        (["--config", "none.yaml"], "--config none.yaml: cannot be read as a YAML recipe"),
        (["stray"], "unexpected word 'stray'"),
        (["--use_amp", "True"], "unexpected word 'True': switches such as --use_amp take no value"),
    ],
)
def test_wrong_flags_are_errors_that_name_the_fix(argv, message):
    with pytest.raises(UsageError) as error:
        parse(TrainConfig, argv, prog="main.py")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate: 1", "unknown key 'lerning_rate'"),
        ("epoch: 3", "did you mean epochs?"),
        ("lr: 1\nepochs: 2\nlr: 3", "lr stands there 2 times"),
        ("use_amp: maybe", "expected true or false, got 'maybe'"),
        ("aa: 3", "expected text, got 3"),
        ("- a", "expected `flag: value` lines"),
        ("a: [", "cannot be read as a YAML recipe"),
        ("[" * 500, "cannot be read as a YAML recipe"),
        ("lr: 2026-13-41", "cannot be read as a YAML recipe"),
        ("betas: &a [0.9]\nopt: [*a, *a]", "it holds an alias, *a"),
        ("opt: !!python/object/apply:os.system [true]", "cannot be read as a YAML recipe"),
    ],
)
def test_wrong_recipes_are_errors_that_name_the_place(tmp_path, text, message):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)):
        parse(TrainConfig, ["--config", str(recipe)], prog="main.py")


@pytest.mark.parametrize("recipe", sorted((ROOT / "configs" / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_parse_and_hold_only_what_differs(recipe):
    config = parse(TrainConfig, ["--config", str(recipe)], prog="main.py")
    assert config.model.name
    text = recipe.read_text(encoding="utf-8")
    assert "main.py" in text.split("model:")[0], "a recipe opens with its command"
    defaults = as_dict(parse(TrainConfig, [], prog="main.py"))
    same = [key for key, value in yaml.safe_load(text).items() if defaults[key] == value and key != "model"]
    assert same == [], "these are the defaults"


def test_the_recipe_for_own_pictures_turns_photographs_of_telephones():
    recipe = ROOT / "configs" / "recipes" / "finetune_own_pictures.yaml"
    assert parse(TrainConfig, ["--config", str(recipe)], prog="main.py").preprocess.exif_orientation == "apply"


@pytest.mark.parametrize(("error", "code"), [(UsageError("no"), 2), (FileNotFoundError("a bug of ours"), None)])
def test_errors_become_exit_codes_and_bugs_stay_loud(error, code, capsys):
    def script(argv):
        raise error

    with pytest.raises(SystemExit if code else FileNotFoundError) as caught:
        run(script)
    if code:
        assert caught.value.code == code
        assert capsys.readouterr().err == "error: no\n"


@pytest.mark.parametrize(("module", "package"), [("numpy", "numpy"), ("PIL.Image", "Pillow"), ("yaml", "PyYAML")])
def test_a_package_that_is_not_installed_is_named_with_its_requirements_file(module, package, capsys):
    def script(argv):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    with pytest.raises(SystemExit) as caught:
        run(script)
    assert caught.value.code == 7
    start = f"error: {package} is not installed: python -m pip install -r requirements.txt"
    assert capsys.readouterr().err.startswith(start)


def test_a_module_of_ours_that_is_missing_stays_loud():
    def script(argv):
        raise ModuleNotFoundError("No module named 'engine.nothing'", name="engine.nothing")

    with pytest.raises(ModuleNotFoundError):
        run(script)


def test_a_file_that_cannot_be_written_has_the_exit_code_of_the_disk(capsys):
    def script(argv):
        raise PermissionError(13, "Permission denied", "/kept/log.txt")

    with pytest.raises(SystemExit) as caught:
        run(script)
    assert caught.value.code == 74
    assert capsys.readouterr().err == "error: /kept/log.txt: Permission denied\n"


def test_ctrl_c_and_a_closed_pipe_end_a_script_by_their_signal_without_a_traceback(monkeypatch):
    """As `predict.py | head -1`; a pipe that breaks elsewhere, to a worker, stays loud."""
    read_end, write_end = os.pipe()
    ended_by = []
    monkeypatch.setattr("common.cli.die_of_signal", lambda number: ended_by.append(number) or sys.exit(1))
    for error, loud in ((KeyboardInterrupt(), False), (BrokenPipeError(), True), (BrokenPipeError(), False)):

        def script(argv, error=error):
            raise error

        with open(os.dup(write_end), "w") as stdout, monkeypatch.context() as patch:
            patch.setattr("sys.stdout", stdout)
            with pytest.raises(type(error) if loud else SystemExit):
                run(script)
        if loud:
            os.close(read_end)
    os.close(write_end)
    assert ended_by == [signal.SIGINT, signal.SIGPIPE]


def test_what_was_printed_before_ctrl_c_is_kept(monkeypatch):
    stdout, at_the_end = io.TextIOWrapper(io.BytesIO()), []
    monkeypatch.setattr("sys.stdout", stdout)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("os.kill", lambda *_: at_the_end.append(stdout.buffer.getvalue()))
    print("an hour of results")
    die_of_signal(signal.SIGINT)
    assert at_the_end == [b"an hour of results\n"]


def test_a_name_that_the_terminal_cannot_show_does_not_end_a_script(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stdout)
    with pytest.raises(SystemExit):
        run(lambda argv: print("猫.png", flush=True))
    assert stdout.buffer.getvalue() == b"\\u732b.png\n"


@pytest.mark.parametrize(
    ("script", "given", "meant"),
    [
        ("main", "--data", "--data_path"),
        ("main", "--lr_scheduler=cosine", "--sched"),
        ("main", "-o", "--config"),
        ("main", "--num-classes", "--nb_classes"),
        ("eval", "--weights", "--resume"),
        ("infer", "--weights", "--model_file"),
        ("infer", "--infer_imgs", "--input_file"),
        ("predict", "--source", "--infer_imgs"),
        ("predict", "--inputsize", "--input_size"),
    ],
)
def test_names_of_other_tools_lead_to_ours(script, given, meant):
    with pytest.raises(UsageError, match=rf"unknown flag .*; did you mean {meant}\?"):
        parse(SCRIPTS[script], [given, "x"], prog=script)


def test_a_home_folder_that_no_shell_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    config = parse(SCRIPTS["main"], ["--data_path=~/images", "--label_list", "a~/b"], prog="main.py")
    assert (config.data.data_path, config.data.label_list) == ("/home/someone/images", "a~/b")


def test_changed_has_what_differs_from_the_defaults():
    config = parse(TrainConfig, ["--lr", "0.18", "--scale", "0.08", "1.0", "--seed", "0"], prog="main.py")
    assert changed(config) == {"lr": 0.18}
