"""Recorded arrays in the place of a reference: a right port matches without PyTorch, and a mistake is found and named.

The recordings are those of a perceptron that numpy computes in float32, as a reference of any framework would.
"""

from pathlib import Path

import numpy as np
import pytest

from alignment.case import read_case
from alignment.cli import main
from alignment.compat.recorded_arrays import items_of, paired_keys, recorded_checks
from alignment.compat.reprod_log import write_dictionary
from alignment.runner import run_stages
from alignment.verdict import Check, Verdict
from common.errors import CaseError, WeightsError
from engine.safetensors_io import encode

PORT = """
import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F


class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(12, 8), nn.Linear(8, 4)

    def forward(self, x):
        logits = self.out(F.relu(self.hidden(x)))
        return {"logits": logits, "energy": (logits**2).mean(1)}


def loss(output, target):
    return F.cross_entropy(output["logits"], target)


def metric(output, target):
    order = paddle.argsort(output["logits"], axis=1, descending=True)
    return [(order[:, :k] == target.unsqueeze(1)).any(1).astype("float32").mean() for k in (1, 2)]


class Data:
    def __len__(self):
        return 9

    def __getitem__(self, index):
        return np.full([2, 3], index / 8, np.float32), index % 4


def loader():
    data = Data()
    for start in (0, 4):
        items = [data[start + k] for k in range(4)]
        yield {"image": paddle.to_tensor(np.stack([i for i, _ in items])), "label": [k for _, k in items]}
"""
CASE = """
port: port.py:Net
loss: loss
metric: metric
dataset: Data
loader: loader
recorded:
  weights: weights.safetensors
  inputs: fake_data.npy
  target: fake_label.npy
  forward: forward_ref.npy
  loss: loss_ref.npy
  metric: metric_ref.npy
  backward: bp_ref.npz
  data: data_ref.npy
"""
STAGES = ("forward", "data", "metric", "loss", "backward")


@pytest.fixture
def folder(tmp_path) -> Path:
    """The files of a user who has recordings and no PyTorch."""
    rng = np.random.default_rng(0)
    w1, w2 = (rng.normal(0, 0.5, shape).astype(np.float32) for shape in ((8, 12), (4, 8)))
    b1, b2 = (rng.normal(0, 0.5, num).astype(np.float32) for num in (8, 4))
    x, labels = rng.normal(size=(6, 12)).astype(np.float32), rng.integers(0, 4, 6)
    before = x @ w1.T + b1
    hidden = np.maximum(before, 0)
    logits = hidden @ w2.T + b2
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    loss = -np.log(probabilities[np.arange(6), labels]).mean()
    of_logits = (probabilities - np.eye(4, dtype=np.float32)[labels]) / np.float32(6)
    of_before = (of_logits @ w2) * (before > 0)
    weights = {"hidden.weight": w1, "hidden.bias": b1, "out.weight": w2, "out.bias": b2}
    (tmp_path / "weights.safetensors").write_bytes(b"".join(encode(weights, {})))
    np.save(tmp_path / "fake_data.npy", x)
    np.save(tmp_path / "fake_label.npy", labels)
    energy = (logits**2).mean(1)
    write_dictionary(tmp_path / "forward_ref.npy", {"hidden": before, "logits": logits, "energy": energy})
    write_dictionary(tmp_path / "loss_ref.npy", {"loss": np.array([loss])})  # [1], the port's is []
    hits = [(np.argsort(-logits, 1)[:, :k] == labels[:, None]).any(1).mean() for k in (1, 2)]
    write_dictionary(tmp_path / "metric_ref.npy", {"acc_top1": np.array(hits[0]), "acc_top2": np.array(hits[1])})
    np.savez(
        tmp_path / "bp_ref.npz", **{"loss": loss, "out.weight.grad": of_logits.T @ hidden, "x": of_before @ w1,
                                    "hidden.weight.grad": of_before.T @ x, "hidden.bias": of_before.sum(0)}
    )  # fmt: skip
    np.savez(tmp_path / "fake_data.npz", x=x)
    batch = np.stack([np.full([2, 3], k / 8, np.float32) for k in range(4, 8)])
    data = {"length": np.array([9]), "dataset_0": np.zeros([2, 3]), "dataset_8.1": np.array(0)}
    data |= {"dataloader_1": batch, "dataloader_1.label": np.array([0, 1, 2, 3])}
    write_dictionary(tmp_path / "data_ref.npy", data)
    (tmp_path / "port.py").write_text(PORT)
    (tmp_path / "net.yaml").write_text(CASE.replace("fake_data.npy", "fake_data.npz"))
    return tmp_path


def judge(folder: Path, stages: tuple[str, ...] = STAGES) -> tuple[Verdict, dict[str, Check]]:
    verdict = run_stages(read_case(str(folder / "net.yaml")), stages, reference=None)
    return verdict, {check.name: check for stage in verdict.stages for check in stage.checks}


def test_a_right_port_matches_in_every_stage_without_torch(folder, capsys):
    verdict, checks = judge(folder)
    assert verdict.status == "pass", verdict.first_problem()
    assert set(checks) == {
        "layer: hidden", "output: logits", "output: energy", "loss: loss", "metric: acc_top1", "metric: acc_top2",
        "backward: loss", "backward: out.weight", "backward: hidden.weight", "backward: hidden.bias", "backward: x",
        "data: length", "data: dataset_0", "data: dataset_8.1", "data: dataloader_1", "data: dataloader_1.label",
    }  # fmt: skip
    assert "paired in order" in checks["metric: acc_top1"].detail
    assert main(["all", str(folder / "net.yaml"), "--python", "/nowhere/python"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "net: match"


@pytest.mark.parametrize(
    ("old", "new", "stage", "name", "words"),
    [
        ("F.relu(self.hidden(x))", "F.relu(self.hidden(x + 1e-4))", "forward", "layer: hidden", ""),
        ("F.relu(", "F.leaky_relu(", "forward", "output: logits", ""),
        ("F.relu(", "F.gelu(", "backward", "backward: hidden.weight", ""),
        ("target)\n\n\ndef metric", "target, reduction='sum')\n\n\ndef metric", "loss", "loss: loss", ""),
        ("for k in (1, 2)]\n\n", "for k in (1, 3)]\n\n", "metric", "metric: acc_top2", ""),
        ("index / 8", "index / 9", "data", "data: dataloader_1", ""),
        ("return 9", "return 10", "data", "data: length", "10, in the reference 9"),
        ("return 9", "return 8", "data", "data: dataset_8.1", "the port has no dataset_8.1; it has length, dataset_0"),
        ('"energy": (logits**2).mean(1)', '"other": logits, "a": logits', "forward", "output: energy", "has no energy"),
        (
            "(logits**2).mean(1)",
            "(logits**2).mean()",
            "forward",
            "output: energy",
            "shape [], in the reference [6]",
        ),
    ],
)
def test_a_mistake_is_found_in_its_stage(folder, old, new, stage, name, words):
    assert old in PORT
    (folder / "port.py").write_text(PORT.replace(old, new))
    verdict, checks = judge(folder, (stage,))
    assert verdict.status == "fail" and checks[name].status == "fail", checks
    assert words in checks[name].detail, checks[name].detail
    if name == "layer: hidden":
        assert verdict.first_problem().layer == "hidden"


def test_weights_of_the_port_and_one_plain_array_are_taken(folder):
    """`.npy` files without names, weights that the port has saved, and an output in place of the whole table."""
    import paddle

    from engine.safetensors_io import decode

    arrays = decode((folder / "weights.safetensors").read_bytes())[0]
    tensors = {k: paddle.to_tensor(v.T if v.ndim == 2 else v) for k, v in arrays.items()}
    paddle.save(tensors, str(folder / "w.pdparams"))
    logits = np.load(folder / "forward_ref.npy", allow_pickle=True).item()["logits"]
    np.save(folder / "logits.npy", logits)
    case = "port: port.py:Net\noutput: logits\nrecorded: {inputs: fake_data.npy, forward: logits.npy}\n"
    (folder / "net.yaml").write_text(case)
    assert main(["all", str(folder / "net.yaml"), "--weights", str(folder / "w.pdparams")]) == 0
    np.save(folder / "logits.npy", logits * np.float32(1.0001))
    assert main(["all", str(folder / "net.yaml"), "--weights", str(folder / "w.pdparams")]) == 6
    (folder / "net.yaml").write_text(case.replace("recorded: {", "recorded: {tolerance: 0.001, "))
    assert main(["all", str(folder / "net.yaml"), "--weights", str(folder / "w.pdparams")]) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("recorded:", "reference: port.py:Net\nrecorded:", "'reference' and 'recorded' are both given"),
        ("  weights: weights.safetensors\n", "", "recorded: the key 'weights' is missing"),
        ("  inputs: fake_data.npz\n", "", "recorded: the key 'inputs' is missing"),
        ("loss: loss\n", "", "loss: the function of the port is missing"),
        ("forward_ref.npy", "forwrd_ref.npy", "recorded: forward: .*forwrd_ref.npy: No such file"),
        ("forward:", "foward:", "unknown key 'foward'; did you mean forward"),
        ("fake_data.npz", "fake_label.npy", r"cannot be run on the recorded inputs, array \[6\]"),
    ],
)
def test_a_wrong_case_is_explained(folder, old, new, message):
    text = (folder / "net.yaml").read_text()
    assert old in text
    (folder / "net.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(CaseError, match=message):
        main(["all", str(folder / "net.yaml"), "--python", "/nowhere/python"])


def test_a_stage_without_a_file_and_weights_of_another_net_are_explained(folder):
    with pytest.raises(CaseError, match="recorded: the case names no file for train"):
        main(["train", str(folder / "net.yaml")])
    (folder / "weights.safetensors").write_bytes(b"".join(encode({"hidden.weight": np.zeros((8, 12), np.float32)}, {})))
    with pytest.raises(WeightsError, match=r"missing: .*out.weight|missing: hidden.bias"):
        judge(folder, ("forward",))


def test_dropout_of_a_recording_in_train_mode_proves_nothing(folder):
    (folder / "port.py").write_text(PORT.replace("F.relu(self.hidden(x))", "self.drop(F.relu(self.hidden(x)))").replace(
        "self.hidden, self.out =", "self.drop = nn.Dropout(0.5)\n        self.hidden, self.out ="))  # fmt: skip
    assert judge(folder, ("backward",))[0].status == "pass"
    (folder / "net.yaml").write_text((folder / "net.yaml").read_text() + "  train_mode: true\n")
    verdict, _ = judge(folder, ("backward",))
    assert verdict.status == "inconclusive" and "dropout drop" in verdict.first_problem().detail


def test_keys_are_paired_by_name_and_then_in_order():
    assert paired_keys(["a", "b"], ["b", "c"]) == {"b": "b", "c": "a"}
    assert paired_keys(["a", "b"], ["b"]) == {"b": "b"}
    assert paired_keys(["a"], ["b", "c"]) == {"b": "", "c": ""}
    assert items_of({"dataset_3": 0, "4.label": 0, "length": 0}) == {"dataset_3": (3, ""), "4.label": (4, "label")}


def test_the_precision_of_the_recording_sets_the_limit():
    """float32 numbers may differ by the port's rounding, float64 numbers by 1e-7, half precision by its own unit."""
    exact = np.linspace(1, 2, 7) / 3
    arrays = {"a": exact.astype(np.float32)}, {"a": exact}

    def status(recorded: np.ndarray) -> str:
        return recorded_checks("x", arrays, {"a": recorded}, rounding=6.0, tolerance=0.0)[0].status

    single = exact.astype(np.float32)
    assert status(single) == status(single * np.float32(1 + 1.2e-7)) == "pass"
    assert status(exact) == status(exact * (1 + 5e-8)) == "pass"
    assert status(single * np.float32(1 + 2e-6)) == status(exact * (1 + 2e-7)) == "fail"
    arrays[0]["a"] = arrays[0]["a"] * np.float32(1.001)  # as of other random numbers
    assert status(single) == status(exact * 1.1) == "inconclusive"
    arrays[0]["a"] = single
    assert status(exact.astype(np.float16)) == "pass" and status((exact * 1.01).astype(np.float16)) == "fail"
