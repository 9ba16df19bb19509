"""Inputs of the C++ tests: a tiny exported folder, images, parts of PNG files."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from datasets.preprocess import Preprocess
from deploy.card import Card, Program, add_checksum_line, file_record, write_card


def write_folder(folder: Path, preprocess: Preprocess, num_classes: int = 4) -> Path:
    """Write an exported folder whose network is the mean of each channel times a matrix."""
    onnx = pytest.importorskip("onnx")
    side = preprocess.input_size
    weights = np.random.default_rng(0).normal(0, 3, (3, num_classes)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
            onnx.helper.make_node("MatMul", ["means", "weights"], ["logits"]),
        ],
        "means",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["batch", 3, side, side])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", num_classes])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    write_card(
        folder,
        Card(
            model="means",
            architecture="Means",
            num_classes=num_classes,
            preprocess=preprocess,
            class_names=None,
            programs={"onnx": Program(("model.onnx",), "images", "logits")},
            files={"model.onnx": file_record(folder / "model.onnx")},
        ),
    )
    return folder


def edit(folder: Path, change) -> None:
    path = folder / "card.yaml"
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(fields)
    path.write_bytes(add_checksum_line(yaml.safe_dump(fields, allow_unicode=True).encode()))


def make_image(width: int, height: int) -> Image.Image:
    """Make an image of coarse colours with noise, so that smooth and sharp parts are resampled."""
    rng = np.random.default_rng([width, height])
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.integers(-40, 41, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, bits: int, color: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
