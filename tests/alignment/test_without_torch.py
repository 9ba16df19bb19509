"""What alignment does before, beside and after the reference: rules, cases, comparison, pairing, verdicts, files."""

import json
import os
import sys
import time
from argparse import Namespace
from dataclasses import asdict
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.__main__ import main, run, write_files
from alignment.case import Case, list_cases, read_case
from alignment.compare import compare, compare_sketches
from alignment.exchange import DropoutMasks, sketch
from alignment.hints import setting_hints, update_hints, value_hints
from alignment.pairing import pair
from alignment.port import Port
from alignment.reference import File, Reference
from alignment.report import as_html
from alignment.reprod import compare_dictionaries, read_dictionary, write_dictionary
from alignment.reprod import main as compare_main
from alignment.rules import BATCH_NORM, COUNTERS, Rules, unaccounted
from alignment.verdict import Check, StageResult, Verdict, as_json, within, write_junit
from alignment.weights import read_for_port
from common.errors import CaseError, DataError, DiskError, MissingDependencyError, WeightsError

TORCH_RULES = Rules((("a.*.b", "x.*.y"),), BATCH_NORM, ("fc.weight",), COUNTERS, prefix="module.")


def arrays():
    rng = np.random.default_rng(0)
    return {
        "a.0.b": rng.normal(size=(2, 3)),
        "norm.running_mean": rng.normal(size=4),
        "norm.running_var": rng.normal(size=4),
        "norm.num_batches_tracked": np.array(0),
        "fc.weight": rng.normal(size=(5, 5)),
    }


def test_rules_rename_transpose_drop_and_undo_themselves():
    port = TORCH_RULES.to_port(arrays())
    assert set(port) == {"x.0.y", "norm._mean", "norm._variance", "fc.weight"}
    assert np.array_equal(port["fc.weight"], arrays()["fc.weight"].T)
    back = TORCH_RULES.from_port(port)
    assert {name: array.tobytes() for name, array in back.items()} == {n: a.tobytes() for n, a in arrays().items()}


def test_a_prefix_is_removed_whole_and_only_if_all_have_it():
    wrapped = {f"module.{name}": array for name, array in arrays().items()}
    assert set(TORCH_RULES.to_port(wrapped)) == set(TORCH_RULES.to_port(arrays()))
    assert "module.a" in Rules(prefix="module.").to_port({"module.a": np.zeros(1), "b": np.zeros(1)})


def test_rules_that_lose_a_name_are_refused():
    lossy = Rules((("a.*", "c.*"), ("b.*", "c.*")))
    with pytest.raises(WeightsError, match=r"lose a name: b\.w -> c\.w -> a\.w"):
        lossy.to_port({"a.w": np.zeros(1), "b.w": np.zeros(1)})


def test_only_matrices_are_transposed():
    with pytest.raises(WeightsError, match="only matrices"):
        Rules(transpose=("w",)).to_port({"w": np.zeros((2, 2, 1))})


def test_a_transpose_of_nothing_is_told():
    assert Rules(transpose=("fc1.weight", "*.head", "fc2.wieght")).idle(["fc1.weight", "a.head", "fc2.weight"]) == [
        "transpose: the port has no fc2.wieght"
    ]


def test_every_entry_is_accounted_for_by_name():
    found = unaccounted(
        {"a": np.zeros(3), "b": np.zeros((2, 3)), "d": np.zeros(1, int)}, {"b": (3, 2), "c": (1,), "d": (1,)}
    )
    assert [line.split(" is ")[0] for line in found] == [
        "missing: c [1]", "extra: a [3]", "wrong shape: b", "wrong type: d"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["peleenet", "mobilenet_v3_small", "mobilenet_v3_large", "alexnet"])
def test_weights_go_to_torch_and_back_bit_for_bit(name):
    from alignment.port import build

    case = read_case(name)
    state = {key: value.numpy() for key, value in build(case).state_dict().items()}
    rules = case.rules("torch")
    there = rules.from_port(state)
    assert sum(key.endswith("num_batches_tracked") for key in there) == sum(key.endswith("._mean") for key in state)
    back = rules.to_port(there)
    assert list(back) == list(state) and not rules.idle(state)
    assert all(back[key].dtype == state[key].dtype and back[key].tobytes() == state[key].tobytes() for key in state)


def test_fine_tuned_weights_convert_with_the_classes_they_have(tmp_path):
    from safetensors.numpy import save_file

    from models import create_model

    case, path = read_case("mobilenet_v3_small"), tmp_path / "three.safetensors"
    state = {key: value.numpy() for key, value in create_model(case.name, num_classes=3).state_dict().items()}
    save_file(state, path)
    found = read_for_port(path, case, None, any_classes=True)
    assert found.layout == "paddle" and found.arrays["classifier.3.weight"].shape == (1024, 3)
    save_file(state | {"classifier.0.bias": np.zeros(5, np.float32)}, path)
    with pytest.raises(WeightsError, match=r"\(layout paddle\):\n  wrong shape: classifier.0.bias is \[5\]"):
        read_for_port(path, case, None, any_classes=True)


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["all", "none.yaml"], 2, "none.yaml: no such file"),
        (["all", "peleent"], 2, "did you mean 'peleenet'"),
        (["forward", "peleenet", "--images", "/none"], 3, "/none: no such file or folder"),
    ],
)
def test_a_wrong_question_is_answered_before_anything_is_computed(argv, code, message):
    with pytest.raises((CaseError, DataError), match=message) as caught:
        main(argv)
    assert caught.value.exit_code == code


def test_a_report_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    options = Namespace(json=tmp_path / "file" / "v.json", junit=None, report=None)
    with pytest.raises(DiskError, match=r"cannot write .*file/v\.json") as caught:
        write_files(Verdict("case", []), options)
    assert caught.value.exit_code == 74


@pytest.mark.slow
def test_paddleclas_alexnet_becomes_ours():
    """paddle.vision's AlexNet has PaddleClas's names and its dropouts, which halve in evaluation."""
    import paddle

    from alignment.port import build, set_state

    case = read_case("alexnet")
    theirs = paddle.vision.models.alexnet().eval()
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    rules = case.rules("paddleclas")
    ours = set_state(build(case), rules.to_port(state), "PaddleClas").eval()
    images = paddle.to_tensor(np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype("float32"))
    assert np.abs(ours(images).numpy() - theirs(images).numpy()).max() < 1e-6
    back = rules.from_port(rules.to_port(state))
    assert all(back[name].tobytes() == state[name].tobytes() for name in state)


def test_shipped_cases_can_be_read():
    assert {"peleenet", "mobilenet_v3_small", "mobilenet_v3_large", "alexnet", "ladder", "fork"} <= set(list_cases())
    assert all(read_case(name).reference for name in list_cases())


def test_a_case_that_says_nothing_is_held_to_the_documented_tolerances(tmp_path):
    """docs/alignment.md states them, and the verdicts that are shipped were found with them."""
    (tmp_path / "case.yaml").write_text("port: a\nreference: b\n")
    case = read_case(str(tmp_path / "case.yaml"))
    assert asdict(case.tolerances) == {
        "float64": 1e-10, "float32": 1e-5, "gradient": 1e-7, "step": 1e-6, "curve": 3.0, "absolute": 0.0,
        "amplification": 30.0,
    }  # fmt: skip
    assert asdict(case.train) == {
        "shape": (8, 3, 64, 64), "steps": 20, "optimizer": "momentum", "lr": 2**-6, "momentum": 0.875,
        "weight_decay": 2**-13, "smoothing": 0.125, "curve_side": 32, "curve_lr": 0.02,
    }  # fmt: skip
    assert (case.shape, case.input_range, case.seed) == ((1, 3, 224, 224), (-2.0, 2.0), 0)


@pytest.mark.parametrize("name", list_cases())
def test_no_shipped_case_is_held_to_looser_tolerances(name, tmp_path):
    (tmp_path / "case.yaml").write_text("port: a\nreference: b\n")
    default, shipped = asdict(read_case(str(tmp_path / "case.yaml")).tolerances), asdict(read_case(name).tolerances)
    assert {key: value for key, value in shipped.items() if value > default[key]} == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: a\nreferense: b", "unknown key 'referense'; did you mean 'reference'"),
        ("port: a", "the key 'reference' is missing"),
        ("port: a\nreference: b\ntrain: {step: 3}", "unknown key 'step'; did you mean 'steps'"),
        ("port: a\nreference: b\ntolerances: {float64: much}", "expected a number, got 'much'"),
        ("port: a\nreference: b\nlayouts: {x: {renam: {a: b}}}", "unknown key 'renam'; did you mean 'rename'"),
        ("port: a\nreference: b\nfolder: /", "unknown key 'folder'"),
        ("port: a\nreference: b\n1: 2", "unknown key '1'"),
        ("port: a\nreference: b\nshape: many", "shape: expected a list, got 'many'"),
        ("port: a\nreference: b\nshape: [1, 3, x]", "shape: expected a whole number, got 'x'"),
        ("port: a\nreference: b\ninput_range: [1]", "input_range: expected 2 values"),
        ("port: a\nreference: b\ntranspose: head.weight", "transpose: expected a list, got 'head.weight'"),
        ("port: a\nreference: b\nrename: {a: 1}", "rename: a: expected a text, got 1"),
        ("port: a\nreference: b\ntrain: {curve_side: 20}", "train: .* curve_side a multiple of 8; got 20 and 20"),
        ("port: a\nreference: b\ntrain: 5", "train: expected a table"),
        ("- a", "expected a table"),
        ("a: [", "is not YAML"),
        ("a: 2026-13-41", "is not YAML"),
    ],
)
def test_a_wrong_case_is_named(tmp_path, text, message):
    (tmp_path / "case.yaml").write_text(text)
    with pytest.raises(CaseError, match=message):
        read_case(str(tmp_path / "case.yaml"))


def test_an_unknown_case_is_named():
    with pytest.raises(CaseError, match="did you mean 'peleenet'"):
        read_case("peleent")


@pytest.mark.parametrize(
    ("ours", "theirs", "status"),
    [
        ([1.0, 2.0], [1.0, 2.0], "pass"),
        ([1.0, 2.1], [1.0, 2.0], "fail"),
        ([[1.0], [2.0]], [1.0, 2.0], "fail"),  # numpy would broadcast
        ([[1.0, 2.0, 3.0]], [[1.0], [2.0], [3.0]], "fail"),  # reprod_log would transpose
        ([np.nan, 1.0], [0.0, 1.0], "fail"),  # nan > threshold is False
        ([np.nan, 1.0], [np.nan, 1.0], "inconclusive"),
        ([np.inf, 1.0], [np.inf, 1.0], "inconclusive"),
        ([3.0, 3.0], [3.0, 3.0], "inconclusive"),
        ([0.0, 1.0], [0.0, 0.0], "fail"),  # relative to nothing
        ([True, False], [True, True], "fail"),
        ([], [], "inconclusive"),
    ],
)
def test_comparison_is_strict(ours, theirs, status):
    assert within("x", compare(np.array(ours), np.array(theirs)), 1e-6).status == status
    if status == "fail" and np.shape(ours) == np.shape(theirs):
        assert within("x", compare_sketches(sketch(np.array(ours)), sketch(np.array(theirs))), 1e-6).status == "fail"


@pytest.mark.parametrize("judge", [compare, lambda ours, theirs: compare_sketches(sketch(ours), sketch(theirs))])
@pytest.mark.parametrize(("ours", "theirs", "relative"), [(5.0, 4.0, 0.25), (4.0, 5.0, 0.2), (4.0, 0.5, 7.0)])
def test_the_scale_is_the_references_and_not_the_ports(judge, ours, theirs, relative):
    difference = judge(np.array([0.0, ours]), np.array([0.0, theirs]))
    assert (difference.relative, difference.scale) == (relative, theirs)
    assert difference.max_abs == abs(ours - theirs)


def test_a_comparison_forgives_the_absolute_error_and_judges_by_no_smaller_scale():
    ours, theirs = np.array([0.0, 1.5]), np.array([0.0, 1.0])
    assert compare(ours, theirs, absolute=0.25).relative == 0.25
    assert compare(ours, theirs, absolute=0.75).relative == 0.0
    assert compare(ours, theirs, least_scale=4.0).relative == 0.125
    assert compare_sketches(ours, theirs, least_scale=4.0).relative == 0.125
    assert compare(ours, theirs, least_scale=0.5).relative == 0.5, "the larger scale counts"


@settings(deadline=None)
@given(st.integers(4097, 20000), st.data())
def test_no_element_hides_in_a_sketch(size, data):
    index = data.draw(st.integers(0, size - 1))
    a = np.random.default_rng(size).normal(size=size)
    b = a.copy()
    b[index] += 1.0
    assert np.linalg.norm(sketch(b) - sketch(a)) == pytest.approx(1.0)
    assert sketch(a).shape == (4096,)


def test_dropout_masks_are_a_function_of_step_and_call():
    first, second = DropoutMasks(3), DropoutMasks(3)
    first.keeps((4, 4), 0.5)
    again = first.keeps((4, 4), 0.5)
    second.start_step(0, call=1)
    assert np.array_equal(second.keeps((4, 4), 0.5), again)
    second.start_step(1, call=1)
    assert not np.array_equal(second.keeps((4, 4), 0.5), again)


def node(path, kind, outputs, parameters=0):
    return {"path": path, "class": kind, "inputs": [], "outputs": outputs, "num_parameters": parameters}


def test_different_trees_are_paired_by_values_then_by_shape():
    rng = np.random.default_rng(0)
    values = {f"v{k}": rng.normal(size=(2, 3)) for k in range(4)}
    theirs = [node("a", "Conv2d", ["v0"], 9), node("b", "ReLU", ["v1"]), node("c", "Conv2d", ["v2"], 9)]
    ours = [node("x", "Conv2D", ["v0"], 9), node("y.z", "Conv2D", ["v3"], 9)]
    found = pair(ours, values, theirs, values, {})
    assert [(p.port, p.reference, p.by) for p in found.pairs] == [(0, 0, "values"), (1, 2, "shape")]
    assert found.only_reference == [1]


@pytest.mark.parametrize(("apart", "by"), [(0.0, "values"), (1e-9, "values"), (1e-6, "shape"), (1e-4, "shape")])
def test_equal_values_are_those_that_differ_by_rounding(apart, by):
    """What differs by 1e-6 has the same job perhaps, but something in it is another number."""
    values = np.random.default_rng(0).uniform(1, 2, size=(8, 8))
    ours, theirs = [node("x", "Conv2D", ["v0"], 9)], [node("a", "Conv2d", ["v0"], 9)]
    found = pair(ours, {"v0": values * (1 + apart)}, theirs, {"v0": values}, {})
    assert [p.by for p in found.pairs] == [by]


def test_paths_are_renamed_before_they_are_paired():
    values = {"v0": np.zeros((1, 2))}
    ours, theirs = [node("body.0", "ReLU", ["v0"])], [node("features.0", "ReLU", ["v0"])]
    assert pair(ours, values, theirs, values, {"features.*": "body.*"}).pairs[0].by == "path"


def test_hints_name_the_usual_suspects():
    momentum = setting_hints({"new_batch_share": 0.9}, {"new_batch_share": 0.1})
    assert "momentum is 0.1 (Paddle), in the reference 0.1 (torch), which is 0.9 in Paddle" in momentum[0]
    image = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    assert "times 0.5" in value_hints(image / 2, image)[0]
    assert "reverse order" in value_hints(image[:, ::-1], image)[0]
    assert "another order" in value_hints(image[:, [1, 0, 2]], image)[0]
    assert value_hints(image, image) == []


def verdict():
    checks = [
        Check("good", "pass", 1e-12, 1e-10),
        Check("<bad>", "fail", float("inf"), 1e-10, "why", "a.b", ["a hint"]),
    ]
    return Verdict("net", [StageResult("forward", checks), StageResult("loss", [Check("nothing", "inconclusive")])])


def test_a_verdict_is_no_success_unless_all_pass(tmp_path):
    assert verdict().exit_code == 6
    assert Verdict("net", [StageResult("loss", [Check("x", "inconclusive")])]).exit_code == 6
    assert Verdict("net", []).exit_code == 6
    assert Verdict("net", [StageResult("loss", [Check("x", "pass")])]).exit_code == 0
    assert verdict().first_problem().layer == "a.b"
    write_junit(verdict(), tmp_path / "junit.xml")
    tests = ElementTree.parse(tmp_path / "junit.xml").findall(".//testcase")
    assert [[child.tag for child in test] for test in tests] == [[], ["failure"], ["error"]]
    assert json.loads(json.dumps(as_json(verdict())))["stages"]["forward"]["checks"][1]["value"] == "infinite"


def test_the_report_is_one_file_and_escapes(tmp_path):
    page = as_html(verdict())
    assert "&lt;bad&gt;" in page and "<bad>" not in page and "a hint" in page
    assert "http" not in page and "src=" not in page
    diverged = StageResult("train", [Check("losses", "fail")], curves={"loss of the port": [float("nan")] * 3})
    assert "Loss, 3 steps" in as_html(Verdict("net", [diverged]))


def test_reprod_log_files_are_read_strictly_and_safely(tmp_path):
    ours = {"logits": np.arange(6, dtype=np.float32).reshape(2, 3), "loss": np.array(1.5)}
    write_dictionary(tmp_path / "a.npy", ours)
    back = read_dictionary(tmp_path / "a.npy")
    assert all(np.array_equal(back[key], ours[key]) and back[key].dtype == ours[key].dtype for key in ours)
    write_dictionary(tmp_path / "b.npy", {"logits": ours["logits"] * 1.001})
    assert [check.status for check in compare_dictionaries(back, read_dictionary(tmp_path / "b.npy"), 1e-5)] == [
        "fail"
    ] * 2
    assert compare_main([str(tmp_path / "a.npy"), str(tmp_path / "a.npy")]) == 0
    assert compare_main([str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]) == 6


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("ran_code",)


def test_a_crafted_reprod_log_file_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("evil.npy", {"logits": RunsCode()})
    np.save("plain.npy", np.zeros(3))
    (tmp_path / "text.npy").write_text("no")
    (tmp_path / "open.npy").write_bytes((tmp_path / "plain.npy").read_bytes().replace(b"}", b" "))
    for name in ("evil.npy", "plain.npy", "text.npy", "absent.npy", "open.npy"):
        with pytest.raises(WeightsError):
            read_dictionary(name)
    assert not (tmp_path / "ran_code").exists()


def stub_python(tmp_path, code):
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable} -S\nimport json, sys, time\n{code}\n")
    script.chmod(0o755)
    return str(script)


ECHO = """for line in sys.stdin: print(json.dumps({"answer": json.loads(line)}), flush=True)"""


def test_an_answer_nobody_waited_for_is_not_the_next_one(tmp_path):
    with Reference(stub_python(tmp_path, ECHO)) as reference:
        reference.begin("record_trace")  # and the port fails before it asks for the answer
        assert reference.ask("rates")["operation"] == "rates"


def test_a_reference_at_work_does_not_hold_up_the_end(tmp_path):
    start = time.monotonic()
    with Reference(stub_python(tmp_path, "time.sleep(20)")) as reference:
        reference.begin("train_steps")
    assert time.monotonic() - start < 10


def test_recordings_know_files_by_their_content(tmp_path):
    recordings = tmp_path / "recordings"
    with Reference(stub_python(tmp_path, ECHO), recordings) as reference:
        for number, (place, content) in enumerate([("here", "a"), ("there", "a"), ("there", "b")]):
            (tmp_path / place).mkdir(exist_ok=True)
            (tmp_path / place / "net.py").write_text(content)
            case = Case("net", tmp_path / place, port="", reference="net.py:Net")
            reference.ask("replay", reference=case.reference_spec, paths=[File.at(tmp_path / place / "net.py")])
            assert len(list(recordings.iterdir())) == (1, 1, 2)[number]


def test_a_missing_reference_is_no_bug_of_the_port():
    port = Port(lambda: None)
    with Reference("/nowhere/python") as reference, pytest.raises(MissingDependencyError):
        run(read_case("ladder"), ("metric",), reference, port=port)


def fake_stages(monkeypatch, **outcomes):
    """The stages give these results, or raise these errors."""

    def outcome(result):
        def run_stage(session, images=None):
            if isinstance(result, Exception):
                raise result
            return result

        return run_stage

    for name, result in outcomes.items():
        monkeypatch.setattr(f"alignment.stages.{name}.run", outcome(result))


PASSED = StageResult("weights", [Check("names", "pass")])
FAILED = StageResult("weights", [Check("names", "fail")])


@pytest.mark.parametrize("error", [WeightsError("of another shape"), ValueError("a bug of the port")])
def test_a_stage_that_breaks_is_a_failed_check_and_the_stages_after_it_are_tried(error, monkeypatch):
    fake_stages(monkeypatch, weights=PASSED, forward=error, loss=StageResult("loss", [Check("x", "pass")]))
    with Reference("/nowhere/python") as reference:
        verdict = run(read_case("ladder"), ("weights", "forward", "loss"), reference, port=Port(lambda: None))
    assert [(stage.name, stage.status) for stage in verdict.stages] == [
        ("weights", "pass"), ("forward", "fail"), ("loss", "pass")
    ]  # fmt: skip
    assert str(error) in verdict.first_problem().detail and verdict.exit_code == 6


def test_a_weights_error_of_the_first_stage_asked_for_is_no_empty_verdict(monkeypatch):
    fake_stages(monkeypatch, forward=WeightsError("of another shape"))
    with Reference("/nowhere/python") as reference:
        verdict = run(read_case("ladder"), ("forward",), reference, port=Port(lambda: None))
        assert [stage.status for stage in verdict.stages] == ["fail"]
        with pytest.raises(WeightsError):  # of the command line: the weights given cannot be used
            run(read_case("ladder"), ("forward",), reference)


def test_what_the_weights_stage_has_said_is_not_said_by_each_stage_above(monkeypatch):
    fake_stages(monkeypatch, weights=FAILED, forward=WeightsError("of another shape"))
    for port in (None, Port(lambda: None)):
        with Reference("/nowhere/python") as reference:
            verdict = run(read_case("ladder"), ("weights", "forward", "loss"), reference, port=port)
        assert verdict.stages == [FAILED]


def test_images_that_are_not_there_are_no_difference(tmp_path):
    with Reference("/nowhere/python") as reference, pytest.raises(DataError):
        run(read_case("ladder"), ("data",), reference, images=tmp_path / "absent")


def test_a_selftest_of_nothing_is_refused():
    with pytest.raises(CaseError, match="--only no such bug"):
        main(["selftest", "--only", "no such bug", "--clean", "0", "--no_peers"])


def test_no_update_is_fitted_to_what_is_not_finite():
    records = {f"{kind}/w": np.full((3, 4), np.nan) for kind in ("gradient", "weight")}
    assert update_hints(records, records, [0.1] * 3) == []


def test_missing_torch_names_the_install_command(tmp_path):
    code = """sys.exit("ModuleNotFoundError: No module named 'torch'")"""
    with Reference(stub_python(tmp_path, code)) as reference:
        with pytest.raises(MissingDependencyError, match="pip install torch") as caught:
            reference.ask("versions")
        assert caught.value.exit_code == 7
    with Reference(str(tmp_path / "absent")) as reference, pytest.raises(MissingDependencyError, match="cannot start"):
        reference.ask("versions")


def test_usage_errors_come_before_torch(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["run", "peleenet"])
    assert caught.value.code == 2
    with pytest.raises(CaseError):
        main(["all", "peleent"])
