"""The files that PaddleX and PaddleClas expect: inference.yml, label_list.txt, a pipeline, a check of inference.json.

Source: the image classification predictor of PaddleX (inference/models/image_classification). PaddleX loads
inference.json or inference.pdmodel with inference.pdiparams, takes the output of the program as probabilities, and
rounds sizes of the resized image and offsets of the crop differently, so its crop can lie one pixel beside ours.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from common.errors import ParityError, UsageError
from datasets.reading.pixels import image_to_input

from ..card import Card
from ..engines import EngineOptions, create_engine
from ..topk import softmax
from .parity import allowed_difference

CONFIG_NAME, LABELS_NAME = "inference.yml", "label_list.txt"
PIPELINE_NAME = "image_classification.yaml"
TOPK = 5

# PaddleX refuses names that are not in its modules/image_classification/model_list.py, which has these of our networks.
MODEL_NAMES = {
    "mobilenet_v3_small": "MobileNetV3_small_x1_0",
    "mobilenet_v3_large": "MobileNetV3_large_x1_0",
    **{
        f"mobilenet_v3_{size}_x{width}": f"MobileNetV3_{size}_x{width}"
        for size in ("small", "large")
        for width in ("0_35", "0_5", "0_75", "1_0", "1_25")
    },
}


def why_not_paddlex(card: Card) -> str:
    """Say why PaddleX cannot feed the program as the card says; "" if it can."""
    if card.preprocess.fit != "letterbox":
        return ""
    return (
        "PaddleX cannot fit images by letterbox: its image classification resizes and crops, and has no border; train "
        "with --fit squash or --fit crop for it"
    )


def paddlex_name_of(card: Card, name: str = "") -> str:
    """Return the name of the model for PaddleX: `name`, or the one that PaddleX knows, or else the network's own."""
    return name or MODEL_NAMES.get(card.model, card.architecture)


def remark_on_name(card: Card, name: str) -> str:
    """Say what the name of the model in the files for PaddleX means; "" if it is the network's own and PaddleX has it.

    PaddleX takes from the name no more than that the model classifies images: program, classes and preprocessing are
    those of the exported folder.
    """
    own = MODEL_NAMES.get(card.model)
    if name and name != own:
        return f"{CONFIG_NAME} calls the model {name}: for PaddleX this means any image classifier, not that network"
    if name or own:
        return ""
    return (
        f"PaddleX refuses the name {card.architecture}, which is not in its list of models; for PaddleX export again "
        "with a name of its list, for example --paddlex_name ResNet50, which means any image classifier"
    )


def write_pipeline(folder: Path, card: Card, name: str = "") -> None:
    """Write image_classification.yaml, the pipeline of PaddleX for the program in its own folder."""
    module = {
        "module_name": "image_classification",
        "model_name": paddlex_name_of(card, name),
        "model_dir": ".",  # PaddleX takes it from the folder in which it is started
        "batch_size": 1,
        "topk": min(TOPK, card.num_classes),
    }
    pipeline = {"pipeline_name": "image_classification", "SubModules": {"ImageClassification": module}}
    (folder / PIPELINE_NAME).write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")


def write_paddlex_config(folder: Path, card: Card, name: str = "") -> None:
    """Write inference.yml, and label_list.txt with one line `<id> <names>` per class if the classes have names.

    Raises:
        UsageError: PaddleX cannot feed the program as the card says.
    """
    if reason := why_not_paddlex(card):
        raise UsageError(reason)
    class_names = list(card.class_names or [f"class {label}" for label in range(card.num_classes)])
    preprocess = card.preprocess
    size = {"size": preprocess.input_size} if preprocess.fit == "squash" else {"resize_short": preprocess.resize_size}
    config = {
        "Global": {"model_name": paddlex_name_of(card, name)},
        "PreProcess": {
            "transform_ops": [
                {
                    "ResizeImage": {
                        **size,
                        "interpolation": preprocess.interpolation,
                        "backend": "pil",  # whatever our card says: "cv2" of PaddleX does not smooth when it shrinks
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


def check_paddlex_program(folder: Path, card: Card, images: Sequence[Image.Image], expected_logits: np.ndarray) -> None:
    """Compare inference.json, whose output are probabilities by the temperature of the card, with the eager model.

    Args:
        folder: holds inference.json and inference.pdiparams.
        card: preprocessing of the images, and temperature.
        images: RGB images.
        expected_logits: [B, C], of `images` by the eager model.

    Raises:
        ParityError: a probability differs by more than `allowed_difference`.
    """
    engine = create_engine("paddle", [folder / "inference.json", folder / "inference.pdiparams"], EngineOptions())
    probabilities = engine.run(np.stack([image_to_input(image, card.preprocess) for image in images]))
    difference = np.abs(probabilities - softmax(expected_logits, card.temperature)).max()
    if not difference <= allowed_difference(expected_logits / card.temperature):
        raise ParityError(
            f"inference.json disagrees with the eager model: probabilities differ by {difference:.1e}; nothing was "
            "written"
        )
