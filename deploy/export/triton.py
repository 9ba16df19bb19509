"""The model repository of NVIDIA Triton: <folder>/triton/<model>/ with config.pbtxt, labels.txt and 1/model.onnx.

Source: ModelConfig in protobuf/model_config.proto of triton-inference-server/common. The model takes preprocessed
tensors, so a client preprocesses by the card.yaml in the same folder (`deploy.serving.triton_client`).
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from common.errors import UsageError

from ..card import Card, write_card

REPOSITORY_NAME = "triton"  # the folder inside an exported folder
CONFIG_NAME, LABELS_NAME, PROGRAM = "config.pbtxt", "labels.txt", "1/model.onnx"
MADE_HERE = "# Written by export_model.py --format triton; an export replaces the whole folder."
MAX_BATCH_SIZE = 32
MAX_DELAY_MICROSECONDS = 2000  # how long the first request of a batch waits for others

CONFIG = """{made_here}
name: "{name}"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: {max_batch_size}
input [
  {{
    name: "{input_name}"
    data_type: TYPE_FP32
    format: FORMAT_NCHW
    dims: [ 3, {side}, {side} ]
  }}
]
output [
  {{
    name: "{output_name}"
    data_type: TYPE_FP32
    dims: [ {num_classes} ]{label_filename}
  }}
]
dynamic_batching {{
  max_queue_delay_microseconds: {delay}
}}
model_warmup [
  {{
    name: "zeros"
    batch_size: 1
    inputs {{
      key: "{input_name}"
      value {{
        data_type: TYPE_FP32
        dims: [ 3, {side}, {side} ]
        zero_data: true
      }}
    }}
  }}
]
"""


def check_repository(folder: str | Path) -> None:
    """Refuse a folder `triton` inside the exported folder that no export wrote: it would be replaced.

    Raises:
        UsageError: the folder holds something else.
    """
    repository = Path(folder) / REPOSITORY_NAME
    if repository.exists() and not _is_made_here(repository):
        raise UsageError(
            f"{repository}: is not a model repository that an export wrote; move it away, or export to another folder"
        )


def write_repository(work: Path, card: Card) -> Path:
    """Write the model repository of `work`/model.onnx to `work`/triton.

    Args:
        work: holds the program "onnx" of the card.
        card: written into the repository too, for clients: preprocessing, class names and temperature.
    """
    program, model = card.programs["onnx"], work / REPOSITORY_NAME / card.model
    (model / PROGRAM).parent.mkdir(parents=True)
    label_filename = ""
    if card.class_names is not None:  # one line per class, whatever characters a name has
        (model / LABELS_NAME).write_text("".join(f"{' '.join(n.split())}\n" for n in card.class_names), "utf-8")
        label_filename = f'\n    label_filename: "{LABELS_NAME}"'
    config = CONFIG.format(
        made_here=MADE_HERE,
        name=card.model,
        max_batch_size=MAX_BATCH_SIZE,
        input_name=program.input_name,
        output_name=program.output_name,
        side=card.preprocess.input_size,
        num_classes=card.num_classes,
        label_filename=label_filename,
        delay=MAX_DELAY_MICROSECONDS,
    )
    (model / CONFIG_NAME).write_text(config, "utf-8")
    shutil.copyfile(work / program.files[0], model / PROGRAM)
    write_card(model, replace(card, programs={}, files={}))
    return model


def place_repository(work: Path, folder: Path) -> None:
    """Replace the model repository of an older export in `folder` by that in `work`, or remove it if there is none.

    Called before the exchange of the exports: killed in between, a folder holds a whole repository or none.
    """
    target = folder / REPOSITORY_NAME
    if _is_made_here(target):
        shutil.rmtree(target)
    if (work / REPOSITORY_NAME).exists():
        os.replace(work / REPOSITORY_NAME, target)


def _is_made_here(repository: Path) -> bool:
    models = list(repository.iterdir()) if repository.is_dir() else []
    return bool(models) and all(
        (model / CONFIG_NAME).is_file() and (model / CONFIG_NAME).read_text("utf-8", "replace").startswith(MADE_HERE)
        for model in models
    )
