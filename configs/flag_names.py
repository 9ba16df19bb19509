"""Suggest the flag that was meant: names that other tools use, or the nearest name."""

from collections.abc import Iterable

from common.cli import did_you_mean

# Flag of this project: names that timm, torchvision, PaddleClas, ultralytics and others give it.
NAMES_OF_OTHERS = {
    "data_path": ("data", "data_dir", "dataset", "root", "image_folder"),
    "model": ("arch", "model_name", "backbone", "net"),
    "nb_classes": ("num_classes", "class_num", "classes", "nc"),
    "resume": ("weights", "checkpoint", "ckpt", "pretrained_model", "load", "initial_checkpoint"),
    "model_file": ("weights", "model", "model_dir", "exported"),
    "input_size": ("img_size", "image_size", "imgsz", "crop_size", "size"),
    "sched": ("lr_scheduler", "scheduler", "lr_policy"),
    "lr": ("learning_rate", "lr0", "base_lr"),
    "output_dir": ("output", "out", "save_dir", "project", "work_dir"),
    "num_workers": ("workers", "j", "nw", "num_worker"),
    "batch_size": ("b", "batch", "bs", "train_batch_size"),
    "opt": ("optimizer", "optim"),
    "weight_decay": ("wd", "decay"),
    "warmup_epochs": ("warmup", "warmup_epoch"),
    "smoothing": ("label_smoothing", "ls"),
    "model_ema": ("ema",),
    "use_amp": ("amp", "fp16"),
    "aa": ("auto_augment", "aug", "augment"),
    "infer_imgs": ("source", "input", "images", "image_file", "infer_img", "img", "input_file", "data_path", "data"),
    "input_file": ("source", "input", "images", "image_file", "infer_imgs", "img", "data_path", "data"),
    "label_list": ("class_map", "class_id_map_file", "label_file"),
    "config": ("o", "c", "cfg", "opts"),
    "device": ("gpu", "gpus", "use_gpu"),
}


def suggest_flag(word: str, known: Iterable[str]) -> str:
    """`; did you mean --X?` for an unknown flag, or an empty text.

    Args:
        word: the unknown flag as it was given, with dashes, without a value.
        known: the names of all flags of the script, without dashes.
    """
    known = {*known, "config"}
    name = word.lstrip("-")
    for flag, others in NAMES_OF_OTHERS.items():
        if flag in known and name in others:
            return f"; did you mean --{flag}?"
    return did_you_mean(word, [f"--{flag}" for flag in sorted(known)], cutoff=0.75)
