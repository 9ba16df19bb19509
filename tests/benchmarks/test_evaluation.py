"""The benchmark of eval.py and predict.py: commands that run, ways in rotation, ratios within a round."""

import json
import subprocess
from types import SimpleNamespace

import pytest

import eval as evaluate_script
from benchmarks import evaluation
from benchmarks.pictures import draw_pictures
from common.errors import ProjectError


def test_ratios_are_to_one_thread_in_the_same_round():
    seconds = {evaluation.ONE_THREAD: [8.0, 4.0, 2.0], evaluation.EAGER: [4.0, 2.0, 2.0], evaluation.DEFAULT: [2, 2, 2]}
    results = {result.way: result for result in evaluation.summarize("eval.py", "peleenet", seconds, 16)}
    assert [result.ratio for result in results.values()] == [1.0, 2.0, 2.0]
    assert results[evaluation.DEFAULT].images_per_second == 8.0


def test_the_program_runs_every_way_of_both_scripts_and_records(tmp_path, monkeypatch, capsys):
    started = []

    def run(command, **settings):
        started.append((command[1], tuple(word for word in command if word in ("--eager=True", "--cpu_threads=1"))))
        assert "OMP_NUM_THREADS" not in settings["env"]
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(evaluation.subprocess, "run", run)
    monkeypatch.setattr(evaluation, "write_random_weights", lambda name, path: None)
    file = tmp_path / "results.jsonl"
    evaluation.main(["--models=peleenet", "--num_images=4", "--num_rounds=2", f"--results={file}"])
    assert {way for script, way in started if script == "eval.py"} == {
        ("--eager=True", "--cpu_threads=1"), ("--eager=True",), ()
    }  # fmt: skip
    assert len(started) == 2 * 3 * 3, "a round that is not counted, and two"
    assert "predict.py, peleenet: images/s" in capsys.readouterr().out
    assert len(json.loads(file.read_text())["results"]) == 6


def test_the_command_of_eval_takes_the_drawn_pictures(tmp_path, capfd):
    draw_pictures(tmp_path / "val", 4)
    evaluation.write_list(tmp_path)
    evaluation.write_random_weights("mobilenet_v3_small", tmp_path / "mobilenet_v3_small.pd")
    _, script, *flags = evaluation.commands(tmp_path, "mobilenet_v3_small")["eval.py"]
    assert script == "eval.py"
    evaluate_script.main([*flags, "--input_size=32", "--num_workers=0"])
    assert "on the 4 test images" in capfd.readouterr().out


def test_a_script_that_fails_ends_the_benchmark(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=3, stderr="no images"))
    with pytest.raises(ProjectError, match=r"eval.py failed:\nno images"):
        evaluation.measure(["python", "eval.py"], 1)
