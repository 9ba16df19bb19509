"""The one-screen `--help` of each script: what it does, an example, and the flags that most users need."""

import dataclasses
import textwrap
from dataclasses import dataclass

from .declare import default_text, flag_name, value_type
from .schema import EvalConfig, ExportConfig, InferConfig, PredictConfig, TrainConfig

WIDTH = 80
FLAG_WIDTH = 30


@dataclass(frozen=True)
class Screen:
    """What `--help` of one script shows.

    Attributes:
        does: what the script does, one sentence.
        example: a command that can be typed, one line for each line on the screen.
        groups: names of flags by title, in the order of the work.
    """

    does: str
    example: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]


OWN_WEIGHTS = "--resume output/own/checkpoint-best.pd"
SCREENS = {
    TrainConfig: Screen(
        "Train an image classifier on folders or lists of pictures.",
        (
            "python main.py --config configs/recipes/finetune_own_pictures.yaml \\",
            '    --data_path "My Pictures" --pretrained --output_dir output/own',
        ),
        {
            "Data": ("data_path", "cls_label_path_train", "cls_label_path_val", "batch_size", "num_workers"),
            "Model": ("model", "pretrained", "finetune", "input_size"),
            "Training": ("epochs", "lr", "opt", "weight_decay", "warmup_epochs", "device"),
            "Augmentation": ("aa", "smoothing", "mixup", "cutmix", "reprob"),
            "Output": ("output_dir", "resume", "save_freq", "seed"),
        },
    ),
    EvalConfig: Screen(
        "Evaluate trained weights: accuracy and loss, exact on any number of processes.",
        (f"python eval.py {OWN_WEIGHTS} \\", "    --output_dir output/own/report"),
        {
            "Weights": ("resume", "pretrained", "use_ema"),
            "Data": ("data_path", "cls_label_path_val", "on_bad_image"),
            "Report": ("output_dir", "temperature", "suspects", "tta"),
            "Speed": ("batch_size", "num_workers", "device"),
        },
    ),
    PredictConfig: Screen(
        "Predict the classes of pictures with trained weights.",
        (f"python predict.py {OWN_WEIGHTS} \\", "    --infer_imgs new_pictures"),
        {
            "Weights": ("resume", "pretrained", "use_ema"),
            "Pictures": ("infer_imgs", "batch_size", "device"),
            "Predictions": ("topk", "print", "save_path", "save_images", "sort_into", "explain"),
        },
    ),
    ExportConfig: Screen(
        "Export trained weights as a folder for inference without the training code.",
        (f"python export_model.py {OWN_WEIGHTS} \\", "    --output_dir output/own/exported"),
        {
            "Weights": ("resume", "pretrained", "use_ema"),
            "Exported folder": ("output_dir", "format", "label_list", "check_images"),
            "INT8": ("calibration_images", "data_path", "max_drop"),
        },
    ),
    InferConfig: Screen(
        "Predict the classes of pictures with an exported model.",
        ("python infer.py --model_file output/own/exported --input_file new_pictures",),
        {
            "Model": ("model_file", "engine", "cpu_threads", "use_gpu"),
            "Pictures": ("input_file", "batch_size"),
            "Predictions": ("topk", "threshold", "print", "save_path", "save_images", "sort_into"),
        },
    ),
}


def help_screen(config_class: type, prog: str) -> str:
    """The text of `--help`, at most 80 columns wide; every line of the meaning is the first clause of the schema's."""
    screen = SCREENS[config_class]
    flags = {flag_name(field): field for branch in dataclasses.fields(config_class) for field in _fields(branch)}
    lines = [f"usage: python {prog} [flags]", "", screen.does, "", *(f"  {line}" for line in screen.example), ""]
    for title, names in screen.groups.items():
        lines += [f"{title}:", *(line for name in names for line in _flag_lines(flags[name]))]
    num_shown = sum(map(len, screen.groups.values()))
    lines += [
        "Also:",
        *_row("--config RECIPE", "YAML file of flags; the command line wins over it"),
        *_row("--help_all", f"all {len(flags)} flags of {prog} ({num_shown} stand here); also in docs/flags.md"),
    ]
    return "\n".join(lines) + "\n"


def _fields(branch: dataclasses.Field) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(branch.type)


def _flag_lines(field: dataclasses.Field) -> list[str]:
    meta, (kind, takes_many) = field.metadata, value_type(field)
    value = "" if meta["style"] in ("flag", "pair") else {int: "N", float: "X", str: "TEXT", bool: "True"}[kind]
    if meta["style"] == "optional":
        value = f"[{value}]"
    default = default_text(field)
    # The first clause: what follows a semicolon is for who wants to know more.
    meaning = meta["meaning"].split("; ")[0] + (f" (default: {default})" if default not in ("", "''") else "")
    if meta["choices"]:
        meaning = f"{meaning.replace(' (default', ' (' + ', '.join(meta['choices']) + '; default')}"
    return _row(f"--{flag_name(field)} {value}{' ...' if takes_many else ''}".rstrip(), meaning)


def _row(flag: str, meaning: str) -> list[str]:
    text = textwrap.wrap(meaning, WIDTH - FLAG_WIDTH)
    return [f"  {flag:{FLAG_WIDTH - 2}}{text[0]}", *(" " * FLAG_WIDTH + line for line in text[1:])]
