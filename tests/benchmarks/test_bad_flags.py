"""Wrong flags of a benchmark are refused at once, with a message instead of a traceback."""

import re

import pytest

from benchmarks import backend_accuracy, latency, loader, throughput
from common.errors import DataError, UsageError
from datasets.preprocess import Preprocess
from deploy.card import Card, Program, write_card


@pytest.mark.parametrize(
    ("program", "flags", "message"),
    [
        (
            throughput,
            "--model_dir=x --images=x --num_images=0",
            "--num_images: expected a whole number of at",
        ),
        (
            throughput,
            "--model_dir=x --images=x --results=/nowhere/r",
            "--results: cannot write /nowhere/r: No such file",
        ),
        (latency, "--models=alexnett", "--models: invalid choice: 'alexnett'"),
        (latency, "--batch_sizes=0", "--batch_sizes: expected a whole number of at least 1"),
        (loader, "--images=x --num_images=100", "--num_images 100 is less than two batches of 64"),
        (backend_accuracy, f"--output_dir={__file__}", "--output_dir: cannot write into .*: File exists"),
    ],
)
def test_wrong_flags(program, flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        program.main(flags.split())
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("side", "error", "message"),
    [(32, UsageError, "--input_size 224, .* got paddle for 32"), (224, DataError, "nowhere: no such file or folder")],
)
def test_throughput_compares_only_what_its_peer_runs_too(side, error, message, tmp_path):
    programs = {"paddle": Program(("model.json", "model.pdiparams"), "x", "y")}
    write_card(tmp_path, Card("peleenet", "PeleeNet", 1000, Preprocess(side), None, programs))
    with pytest.raises(error, match=message):
        throughput.main([f"--model_dir={tmp_path}", "--images=nowhere", f"--results={tmp_path}/r.jsonl"])
