"""References by short names of packages: made without weights, and a wrong or missing name is explained."""

from pathlib import Path

import pytest
import yaml

from alignment.cli import main
from alignment.mapping.init import main as init
from common.errors import CaseError, MissingDependencyError, ReferenceFailedError

pytestmark = pytest.mark.torch
# What the tool uses of the two packages, which are not installed for the tests, as timm 1.0 and transformers 5 have it.
TIMM = """
from torch import nn

def is_model(name):
    return name.partition(".")[0] in list_models()

def list_models():
    return ["vit_tiny", "vit_small", "resnet18"]

def create_model(name, pretrained=False, num_classes=4):
    assert is_model(name) and not pretrained
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""
TRANSFORMERS = """
from types import SimpleNamespace
from torch import nn

class NetConfig:
    hidden_size = 8

    def __init__(self, **settings):
        vars(self).update(settings)

    def to_dict(self):
        return {"hidden_size": 8, "num_labels": 2}

    num_labels = 2

class NetForImages(nn.Module):
    config_class = NetConfig

    def __init__(self, config):
        super().__init__()
        self.head = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, pixels, labels=None):
        return {"logits": self.head(pixels)}

class AutoModel:
    from_config = NetForImages

models = SimpleNamespace(auto=SimpleNamespace(configuration_auto=SimpleNamespace(CONFIG_MAPPING={"net": NetConfig})))
"""
PORT = """
from paddle import nn

def net(num_classes=4):
    return nn.Sequential(nn.Conv2D(3, 8, 3), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(8, num_classes))

def linear(num_labels=2):
    return nn.Linear(8, num_labels)

def number():
    return 3
"""


@pytest.fixture
def packages(tmp_path, monkeypatch) -> Path:
    """A folder with a port, in which the process of the reference finds small packages in place of the large ones."""
    for name, text in (("timm", TIMM), ("transformers", TRANSFORMERS)):
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "__init__.py").write_text(text)
    (tmp_path / "port.py").write_text(PORT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("port", "model", "shape"),
    [
        ("port.py:net", "timm:vit_tiny", "2,3,8,8"),
        ("port.py:net(num_classes=6)", "timm:vit_tiny.in1k(num_classes=6)", "2,3,8,8"),
        ("port.py:linear(num_labels=3)", "transformers:NetForImages(num_labels=3)", "2,8"),
        ("port.py:linear", "transformers:net", "2,8"),
    ],
)
def test_a_short_name_is_a_reference_on_the_command_line_and_in_a_case(port, model, shape, packages):
    assert init([port, model, "--shape", shape, "--output", "net.yaml"]) == 0
    assert yaml.safe_load(Path("net.yaml").read_text())["reference"] == model.partition("(")[0]
    assert main(["forward", "net.yaml"]) == 0
    assert main(["forward", port, model, "--shape", shape]) == 0


@pytest.mark.parametrize(
    ("port", "model", "message"),
    [
        ("port.py:net", "timm:vit_tny", "timm has no model vit_tny; the nearest names: vit_tiny"),
        ("port.py:net", "torchvision:resnet_18", "torchvision has no model resnet_18; the nearest names: resnet18"),
        ("port.py:linear", "transformers:NetForImage", "no model NetForImage; the nearest names: .*NetForImages"),
        ("port.py:linear", "transformers:NetConfig", "transformers has no model NetConfig"),
        ("port.py:linear", "transformers:net(num_label=3)", "NetConfig of .* has no setting num_label;.*num_labels"),
        ("port.py:net", "timm:vit_tiny(depth=3)", "timm:vit_tiny: TypeError: .*depth"),
        ("port.py:net", "resnet18", "resnet18: expected path/file.py:name or package:name"),
        ("paddle.vision:resnet_18", "timm:vit_tiny", "paddle.vision has no resnet_18; did you mean resnet18"),
        ("paddle.vision:resnet18(depths=3)", "timm:vit_tiny", "paddle.vision:resnet18: TypeError: .*depths"),
        ("timm:vit_tiny", "paddle.vision:resnet18", "timm:vit_tiny is a model of PyTorch; the port is the Paddle"),
        ("port.py:net", "paddle.vision:resnet18", "reference: paddle.vision:resnet18 is a model of Paddle"),
        ("port.py:number", "timm:vit_tiny", "port.py:number makes an object of int, not a paddle.nn.Layer"),
        ("port.py:net", "number.py:number", "number makes an object of int, not a torch.nn.Module"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_explained(port, model, message, packages):
    (packages / "number.py").write_text("def number():\n    return 3\n")
    with pytest.raises((CaseError, ReferenceFailedError), match=message) as caught:
        main(["weights", port, model, "--shape", "2,8" if "linear" in port else "2,3,8,8"])
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["timm", "transformers"])
def test_a_missing_package_is_named_with_its_command(name, packages):
    (packages / "packages" / name / "__init__.py").write_text(
        f"raise ModuleNotFoundError(\"No module named '{name}'\")"
    )
    with pytest.raises(MissingDependencyError, match=f"pip install {name}==") as caught:
        main(["weights", "port.py:net", f"{name}:net", "--shape", "2,3,8,8"])
    assert caught.value.exit_code == 7


def test_a_model_of_torchvision_is_made_without_weights(reference):
    spec = {"callable": "torchvision:squeezenet1_1", "arguments": {"num_classes": 3}, "package": "torchvision"}
    entries = {entry["name"]: entry["shape"] for entry in reference.ask("inventory", reference=spec)["entries"]}
    assert entries["classifier.1.weight"] == [3, 512, 1, 1]
