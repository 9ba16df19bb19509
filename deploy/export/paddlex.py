"""What PaddleX and PaddleClas want beside a program: inference.yml in their words, and a list of class names.

Read in PaddleX's image classification predictor (inference/models/image_classification): it loads inference.json or
inference.pdmodel with inference.pdiparams, takes the program's output as probabilities, and rounds sizes of the resized
image and offsets of the crop in its own way, so a crop may lie one pixel beside ours.
"""

from pathlib import Path

import yaml

from ..card import Card

CONFIG_NAME, LABELS_NAME = "inference.yml", "label_list.txt"
TOPK = 5

# PaddleX refuses names that are not in its modules/image_classification/model_list.py; of our networks it has these
MODEL_NAMES = {
    "mobilenet_v3_small": "MobileNetV3_small_x1_0",
    "mobilenet_v3_large": "MobileNetV3_large_x1_0",
    **{
        f"mobilenet_v3_{size}_x{width}": f"MobileNetV3_{size}_x{width}"
        for size in ("small", "large")
        for width in ("0_35", "0_5", "0_75", "1_0", "1_25")
    },
}


def write_paddlex_config(folder: Path, card: Card) -> None:
    """Write inference.yml, and label_list.txt with a line `<id> <names>` for each class that has a name."""
    class_names = list(card.class_names or [f"class {label}" for label in range(card.num_classes)])
    preprocess = card.preprocess
    config = {
        "Global": {"model_name": MODEL_NAMES.get(card.model, card.architecture)},
        "PreProcess": {
            "transform_ops": [
                {
                    "ResizeImage": {
                        "resize_short": preprocess.resize_size,
                        "interpolation": preprocess.interpolation,
                        "backend": "pil",  # whatever our card says: PaddleX's "cv2" does not smooth what it shrinks
                    }
                },
                {"CropImage": {"size": preprocess.input_size}},
                {
                    "NormalizeImage": {
                        "mean": list(preprocess.mean),
                        "std": list(preprocess.std),
                        "scale": 1 / 255,
                        "order": "",
                        "channel_num": 3,
                    }
                },
                {"ToCHWImage": None},
            ]
        },
        "PostProcess": {"Topk": {"topk": min(TOPK, card.num_classes), "label_list": class_names}},
    }
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=float("inf"))
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    if card.class_names is not None:
        lines = [f"{label} {name}\n" for label, name in enumerate(card.class_names)]
        (folder / LABELS_NAME).write_text("".join(lines), encoding="utf-8")
