"""The whole tool on the toy models: right ports pass, wrong ones are found and named, files are safe."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:When training, we now always track"),
]
pytest.importorskip("torch")

from alignment.__main__ import main, run  # noqa: E402
from alignment.auto_diff import auto_diff  # noqa: E402
from alignment.case import Case, Training, read_case  # noqa: E402
from alignment.port import Port  # noqa: E402
from alignment.reference import Reference  # noqa: E402
from alignment.selftest.cli import judge, run_clean  # noqa: E402
from alignment.selftest.mutations import MUTATIONS  # noqa: E402
from alignment.selftest.toy_models import FunctionalLadder, Ladder  # noqa: E402
from alignment.weights import convert, load_torch_weights, read_for_port  # noqa: E402
from alignment.weights import main as weights_main  # noqa: E402
from common.errors import ReferenceFailedError, WeightsError  # noqa: E402

TORCH_SIDE = Path(__file__).parents[2] / "alignment" / "torch_side"
LADDER = f"{TORCH_SIDE / 'toy_models.py'}:Ladder"


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    with Reference(recordings=tmp_path_factory.mktemp("recordings")) as reference:
        yield reference


@pytest.mark.parametrize("name", ["ladder", "fork", "other_tree"])
def test_right_ports_pass_every_stage(name, reference):
    names = ("weights", "forward", "metric", "loss", "backward", "train")
    verdict = run(read_case(name), names, reference)
    assert verdict.status == "pass", verdict.first_problem()


def test_no_false_alarm_with_other_seeds(reference):
    assert {run_clean(seed, reference).status for seed in range(100, 104)} == {"pass"}


def test_data_stage_passes(reference):
    assert run(read_case("ladder"), ("data",), reference).status == "pass"


def test_forty_mutations_and_more():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 40


@pytest.mark.parametrize("net", ["ladder", pytest.param("fork", marks=pytest.mark.slow)])
@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if "data" not in m.stages], ids=lambda m: m.name)
def test_every_mutation_is_found_and_named(mutation, net, reference):
    outcome = judge(mutation, net, reference)
    assert outcome.is_found and outcome.is_named in (True, None), outcome.said


def test_a_difference_between_other_trees_is_one_layer(reference):
    case = read_case("other_tree")
    verdict = run(case, ("forward",), reference, port=Port(lambda: FunctionalLadder(slope=0.01)))
    problem = verdict.first_problem()
    assert (problem.name, problem.layer) == ("first difference", "logits")
    assert "after hidden" in problem.detail and any("LeakyReLU" in hint for hint in problem.hints)


def test_a_forgotten_transpose_is_recognised(reference):
    case = replace(read_case("ladder"), transpose=("head.logits.weight",))
    problem = run(case, ("forward",), reference, port=Port.of(case)).first_problem()
    assert problem.layer == "head.hidden" and "transposed" in problem.hints[0]


def test_answers_are_recorded_and_replayed_without_torch(tmp_path):
    case = read_case("ladder")
    with Reference(recordings=tmp_path) as reference:
        first = run(case, ("weights", "forward"), reference)
    with Reference(python="/nowhere/python", recordings=tmp_path) as offline:
        again = run(case, ("weights", "forward"), offline)
    assert [c.value for r in again.stages for c in r.checks] == [c.value for r in first.stages for c in r.checks]


NET = """
{imports}
class Net(nn.{base}):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 4)
        self.body = nn.{conv}(3, 8, 3)

    def forward(self, x):
        return self.head({values}.mean((2, 3)))
"""


@pytest.mark.parametrize(
    ("values", "status"), [("self.body(x)", "pass"), ("(self.body(x) - 99).sqrt()", "inconclusive")]
)
def test_a_small_net_whose_head_comes_first(values, status, tmp_path, reference):
    words = {"torch": ("Module", "Conv2d"), "paddle": ("Layer", "Conv2D")}
    for package, (base, conv) in words.items():
        text = NET.format(imports=f"from {package} import nn", base=base, conv=conv, values=values)
        (tmp_path / f"{package}_net.py").write_text(text)
    train = Training(shape=(4, 3, 8, 8), steps=3, curve_side=0)
    case = Case("net", tmp_path, "paddle_net.py:Net", "torch_net.py:Net", shape=(2, 3, 8, 8), train=train,
                transpose=("head.weight",))  # fmt: skip
    verdict = run(case, ("forward", "metric", "loss", "backward", "train"), reference)
    assert {stage.name: stage.status for stage in verdict.stages} == {
        "forward": status, "metric": "pass", "loss": "pass", "backward": status, "train": status
    }  # fmt: skip


DOCS = TORCH_SIDE.parents[1] / "docs"
BUGS = (  # of the page, in the order of their turns, and one more: what mends them
    ("net.yaml", "reference:", "transpose: [head.weight]\nreference:"),
    ("port.py", "AvgPool2D(3, ", "AvgPool2D(3, exclusive=False, "),
    ("port.py", "momentum=0.1", "momentum=0.9"),
)


def test_the_new_port_of_the_docs(tmp_path, reference):
    """The files as they are printed; the tool says what the page says, until the bugs are mended."""
    page, chinese = ((DOCS / name).read_text(encoding="utf-8") for name in ("alignment.md", "alignment_ch.md"))
    blocks = page[page.index("```python") :].split("```")[1::2]
    assert all(block in chinese for block in (*blocks[:2], *blocks[3:6]))
    for name, block in zip(("reference.py", "port.py", "net.yaml"), blocks, strict=False):
        (tmp_path / name).write_text(block.partition("\n")[2], encoding="utf-8")
    for (name, old, new), said in zip(BUGS, blocks[3:6], strict=True):
        answer = run_all(tmp_path / "net.yaml", reference)
        for line in said.split("!")[1].splitlines():
            assert " ".join(line.split()) in answer
        (tmp_path / name).write_text((tmp_path / name).read_text().replace(old, new))
    answer = run_all(tmp_path / "net.yaml", reference)
    assert answer.endswith("net: match") and "> 1e-10" not in answer

    right = "self.pool(F.relu(self.norm(self.conv(x))))"
    port = (tmp_path / "port.py").read_text().replace(right, "F.relu(self.norm(self.pool(self.conv(x))))")
    (tmp_path / "port.py").write_text(port)
    assert "the reference calls norm before pool, the port after it" in run_all(tmp_path / "net.yaml", reference)


def run_all(case: Path, reference: Reference) -> str:
    """What `python -m alignment all` prints, but for the stages that do not look at the model; single blanks."""
    said = []
    run(read_case(str(case)), ("weights", "forward", "backward", "train"), reference, report_progress=said.append)
    return " ".join("\n".join(said).replace(f"{case.parent.resolve()}/", "").split())


def test_an_error_of_the_reference_is_told(reference):
    with pytest.raises(ReferenceFailedError, match="no_such_model"):
        reference.ask("inventory", reference={"callable": "torchvision.models:no_such_model", "arguments": {}})


def test_auto_diff_has_padiffs_options():
    images = np.random.default_rng(0).uniform(-2, 2, (4, 3, 32, 32)).astype("float32")

    def wrong():
        model = Ladder()
        model.norm1._epsilon = 1e-3
        return model

    assert auto_diff(Ladder, LADDER, images, steps=3, print_report=False)
    assert not auto_diff(wrong, LADDER, images, single_step=True, auto_init=False, print_report=False)
    assert auto_diff(wrong, LADDER, images, diff_phase="forward", atol=10.0, print_report=False)


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("ran_code",)


def test_no_file_of_weights_runs_code(tmp_path, monkeypatch, reference):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": RunsCode()}, "new.pth")
    torch.save({"state_dict": RunsCode()}, "old.pth.tar", _use_new_zipfile_serialization=False)
    Path("paddle.pdparams").write_bytes(pickle.dumps({"a": RunsCode()}, protocol=4))
    for name in ("new.pth", "old.pth.tar", "paddle.pdparams"):
        with pytest.raises(Exception, match="refused") as caught:
            convert(Path(name), Path("out.pdparams"), read_case("ladder"), "paddle", reference, None)
        assert caught.value.exit_code == 4
    assert not Path("ran_code").exists() and not Path("out.pdparams").exists()


def test_files_convert_both_ways_and_bad_ones_are_named(tmp_path, reference, capsys):
    case = read_case("ladder")
    state = {name: value.numpy() for name, value in Port.of(case).build().state_dict().items()}
    theirs = case.rules("torch").from_port(state)
    wrapped = reference.put({f"module.{name}": array for name, array in theirs.items()})
    reference.do("save_file", inputs=wrapped, path=str(tmp_path / "a.pth"))
    assert weights_main(["convert", str(tmp_path / "a.pth"), str(tmp_path / "b.pdparams"), "--case", "ladder"]) == 0
    assert "case ladder: 23 entries read (layout torch), 21 of the port, 2 counters dropped" in capsys.readouterr().out
    convert(tmp_path / "b.pdparams", tmp_path / "c.pth", case, "torch", reference, None)
    convert(tmp_path / "c.pth", tmp_path / "d.safetensors", case, "safetensors", reference, None)
    with pytest.raises(WeightsError, match="cannot write"):
        convert(tmp_path / "c.pth", tmp_path / "c.pth" / "x.safetensors", case, "safetensors", reference, None)
    arrays, used = load_torch_weights(tmp_path / "c.pth", "ladder")
    assert used == "ladder" and all(arrays[name].tobytes() == state[name].tobytes() for name in state)
    found = read_for_port(tmp_path / "d.safetensors", case, reference)
    assert found.layout == "paddle" and all(found.arrays[name].tobytes() == state[name].tobytes() for name in state)
    bad = {**theirs, "extra.weight": np.zeros(2, np.float32), "conv1.bias": np.zeros(9, np.float32)}
    del bad["norm1.weight"]
    reference.do("save_file", inputs=reference.put(bad), path=str(tmp_path / "bad.pth"))
    with pytest.raises(WeightsError) as caught:
        read_for_port(tmp_path / "bad.pth", case, reference)
    for text in ("missing: norm1.weight [8]", "extra: extra.weight [2]", "wrong shape: conv1.bias is [9]"):
        assert text in str(caught.value)


def test_the_command_writes_its_files(tmp_path, capsys):
    files = {name: tmp_path / f"out.{name}" for name in ("json", "junit", "report")}
    flags = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    assert main(["forward", "ladder", *flags]) == 0
    assert all(path.stat().st_size > 300 for path in files.values())
    assert "ladder: match" in capsys.readouterr().out


@pytest.mark.slow
def test_the_dropout_of_paddle_visions_alexnet_is_named():
    with Reference() as reference:
        problem = run(read_case("paddle_vision_alexnet"), ("forward",), reference).first_problem()
    assert problem.layer == "_drop1" and "downscale_in_infer" in problem.hints[0]
