"""Holds the table of public weights to its facts, its names to their meaning, and the documents to the table."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import CheckpointError, UsageError
from datasets.constants import IMAGENET_MEAN, IMAGENET_STD
from models import MODELS, create_model, pretrained
from models.pretrained import AUTO, DEFAULTS, WEIGHTS, find_weights, main
from models.weights_cache import OFFLINE
from models.weights_table import UNVERIFIED_CH, as_markdown, as_text

ROOT = Path(__file__).parent.parent.parent
GOLDEN = json.loads((ROOT / "tests" / "golden_models.json").read_text(encoding="utf-8"))
DIGITS = {"sha256": 64, "md5": 32, "git": 40}


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_row_is_sound(name):
    row = WEIGHTS[name]
    assert set(row.models) <= set(MODELS)
    assert name == f"{row.models[0]}.{name.partition('.')[2]}"
    assert re.fullmatch(r"https://[a-z0-9.-]+(/[A-Za-z0-9_.-]+)+", row.url)
    assert {GOLDEN[model]["trainable_parameters"] for model in row.models} == {row.num_parameters}
    assert len({GOLDEN[model]["names_and_shapes_sha256"] for model in row.models}) == 1
    kind, _, digits = row.checksum.partition(":")
    assert row.checksum == "" or (re.fullmatch(r"[0-9a-f]+", digits) and len(digits) == DIGITS[kind])
    assert 50 < row.top1_percent < 80 and (row.top5_percent is None or row.top1_percent < row.top5_percent < 95)
    assert row.file.least_bytes <= (row.num_bytes or row.file.max_bytes)
    assert row.input_size <= row.resize_size and row.num_classes == 1000
    assert row.licence in ("Apache-2.0", "BSD-3-Clause") and row.layout in ("torchvision", "paddleclas", "official")
    assert ("size" in row.unverified) == (row.num_bytes is None)
    assert set(row.unverified) <= set(UNVERIFIED_CH)


def test_the_names_of_the_files_tell_them_apart():
    assert len({row.file.name for row in WEIGHTS.values()}) == len(WEIGHTS)


def test_every_network_of_the_table_has_a_default_that_fits():
    assert set(DEFAULTS) == {model for row in WEIGHTS.values() for model in row.models}
    for model, name in DEFAULTS.items():
        assert model in WEIGHTS[name].models


def test_the_checksums_of_torchvision_begin_as_the_names_of_its_files_end():
    rows = [row for row in WEIGHTS.values() if row.layout == "torchvision"]
    assert len(rows) == 4
    for row in rows:
        assert row.checksum.startswith("sha256:" + re.search(r"-([0-9a-f]{8})\.pth$", row.url)[1])


def test_alexnet_of_paddleclas_is_what_paddle_itself_downloads():
    from paddle.vision.models.alexnet import model_urls

    row = WEIGHTS["alexnet.paddleclas"]
    assert (row.url, row.checksum) == (model_urls["alexnet"][0], f"md5:{model_urls['alexnet'][1]}")


TORCHVISION_FACTS = """
import json
from alignment.torch_side import shim
from torchvision.models import AlexNet_Weights, MobileNet_V3_Large_Weights, MobileNet_V3_Small_Weights
facts = {}
for enum in (AlexNet_Weights, MobileNet_V3_Large_Weights, MobileNet_V3_Small_Weights):
    for weights in enum:
        transform, scores = weights.transforms(), weights.meta["_metrics"]["ImageNet-1K"]
        facts[weights.url] = [
            scores["acc@1"], scores["acc@5"], weights.meta["num_params"], weights.meta["_file_size"],
            transform.crop_size[0], transform.resize_size[0], transform.interpolation.value,
            len(weights.meta["categories"]), list(transform.mean), list(transform.std),
        ]
print(json.dumps(facts))
"""


@pytest.mark.torch
def test_the_facts_of_torchvision_are_its_own():
    pytest.importorskip("torch")
    program = [sys.executable, "-W", "ignore", "-c", TORCHVISION_FACTS]
    facts = json.loads(subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    ours = {
        row.url: [
            row.top1_percent,
            row.top5_percent,
            row.num_parameters,
            round(row.num_bytes / 2**20, 3),
            row.input_size,
            row.resize_size,
            row.interpolation,
            row.num_classes,
            list(IMAGENET_MEAN),
            list(IMAGENET_STD),
        ]
        for row in WEIGHTS.values()
        if row.layout == "torchvision"
    }
    assert ours == facts


def test_paddleclas_networks_load_a_state_by_their_own_names():
    """No name of PaddleClas has to be translated: its files fit as they are."""
    names = set(create_model("mobilenet_v3_small_x0_35_paddleclas", num_classes=3).state_dict())
    assert {"conv.conv.weight", "blocks.0.mid_se.conv1.bias", "last_second_conv.bn._mean", "fc.weight"} <= names


# --- Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model", "expected"),
    [
        (AUTO, "peleenet", "peleenet.official"),
        (AUTO, "mobilenet_v3_large_x1_0", "mobilenet_v3_large.torchvision_v2"),
        ("paddleclas", "peleenet", "peleenet.paddleclas"),
        ("torchvision_v1", "mobilenet_v3_large_x1_0", "mobilenet_v3_large.torchvision_v1"),
        ("alexnet.paddleclas", "alexnet", "alexnet.paddleclas"),
        ("alexnet.paddleclas", None, "alexnet.paddleclas"),
        ("alexnet", None, "alexnet.torchvision_v1"),
        ("alexnet", "alexnet", "alexnet.torchvision_v1"),
    ],
)
def test_what_a_name_means(name, model, expected):
    assert find_weights(name, model) == (expected, WEIGHTS[expected])


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("alexnet.paddleclass", None, r"called 'alexnet.paddleclass'; did you mean alexnet.paddleclas\?\n.* lists all"),
        ("paddleclas", None, "no public weights are called 'paddleclas'"),
        (
            "alexnet.paddleclas",
            "peleenet",
            "alexnet.paddleclas are of alexnet, not of peleenet; "
            "for peleenet there are: peleenet.official, peleenet.paddleclas",
        ),
        ("alexnet", "peleenet", "no public weights are called 'alexnet'"),
        (
            AUTO,
            "mobilenet_v3_small_x0_35",
            "for mobilenet_v3_small_x0_35 there are no public weights; PaddleClas's of this width are of another "
            "network: --model mobilenet_v3_small_x0_35_paddleclas --pretrained",
        ),
        ("mobilenet_v3_small_x0_35", None, "for mobilenet_v3_small_x0_35 there are no public weights"),
    ],
)
def test_what_a_name_cannot_mean(name, model, message):
    with pytest.raises(UsageError, match=message):
        find_weights(name, model)


def test_which_network_is_meant_where_nothing_names_it():
    assert find_weights(AUTO, default_model="alexnet")[0] == "alexnet.torchvision_v1"
    assert find_weights("paddleclas", default_model="peleenet")[0] == "peleenet.paddleclas"
    assert find_weights("alexnet.paddleclas", default_model="peleenet")[0] == "alexnet.paddleclas"


# --- python -m models.pretrained -------------------------------------------------------------------------------------


def test_the_program_lists_without_paddle():
    program = (
        "import runpy, sys; sys.modules['paddle'] = None; runpy.run_module('models.pretrained', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(WEIGHTS) + 2
    assert lines[1].split() == ["peleenet.official", "*", ">", "11.2", "72.08", "git", "(SHA-1)", "Apache-2.0"]
    assert done.stdout == as_text(WEIGHTS, DEFAULTS) + "\n"


def test_the_program_fetches_what_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(OFFLINE, str(tmp_path))
    content = b"12345678"
    row = WEIGHTS["peleenet.official"]._replace(checksum="", num_parameters=2)
    monkeypatch.setitem(pretrained.WEIGHTS, "peleenet.official", row)
    (tmp_path / "peleenet_acc7208.pth.tar").write_bytes(content)
    main(["peleenet", "peleenet.official"])
    assert capsys.readouterr().out == f"{tmp_path}/peleenet_acc7208.pth.tar\n" * 2
    (tmp_path / "PeleeNet_pretrained.pdparams").write_bytes(content)
    with pytest.raises(CheckpointError, match="expected at least 11,208,992 bytes, found 8"):
        main(["peleenet.paddleclas"])
    with pytest.raises(UsageError, match="no public weights are called 'peleent'"):
        main(["peleent"])


@pytest.mark.parametrize(("document", "language"), [("pretrained.md", "en"), ("pretrained_ch.md", "ch")])
def test_the_document_has_the_table(document, language, capsys):
    main(["--markdown", language])
    printed = capsys.readouterr().out.strip()
    assert printed == as_markdown(WEIGHTS, DEFAULTS, language)
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    assert printed in text, f"docs/{document}: put in what `python -m models.pretrained --markdown {language}` prints"
    for name in (OFFLINE, "PELEENET_WEIGHTS_MIRROR", "--weights_dir", "--pretrained"):
        assert name in text
