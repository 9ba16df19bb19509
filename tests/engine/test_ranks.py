"""Two processes on a CPU (gloo) compute the same as each other and as one process."""

import json
import os

import pytest

from tests.forked_python import start_ranks
from tests.source import ROOT


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[int, list[dict]]:
    """Results of each rank, by the number of ranks; the runs of one and of two ranks run at the same time."""
    outs = {world: tmp_path_factory.mktemp("ranks") / "result" for world in (1, 2)}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PADDLE_") and k != "CUDA_VISIBLE_DEVICES"}
    environment = {**clean, "OMP_NUM_THREADS": "1"}
    words = ["-m", "tests.engine.ranks_program"]
    running = [start_ranks([*words, out], world, cwd=ROOT, env=environment) for world, out in outs.items()]
    for ranks in running:
        ends = [rank.wait() for rank in ranks]
        assert [end.returncode for end in ends] == [0] * len(ends), "\n".join(end.stdout + end.stderr for end in ends)
    return {w: [json.loads(out.with_suffix(f".{rank}").read_text()) for rank in range(w)] for w, out in outs.items()}


@pytest.fixture(scope="module")
def one(results):
    return results[1][0]


@pytest.fixture(scope="module")
def two(results):
    return results[2]


def test_numbers_of_the_ranks(one, two):
    assert one["ranks"] == [0, 1]
    assert [rank["ranks"] for rank in two] == [[0, 2], [1, 2]]


def test_evaluation_of_33_images_on_2_ranks_equals_that_on_1_exactly(one, two):
    assert one["evaluation"][0]["scores"][0] == 33 and one["evaluation"][0]["order"] == list(range(33))
    assert two[0]["evaluation"] == one["evaluation"]
    assert [part["logits"] for part in two[1]["evaluation"]] == [None] * 3, "rank 0 alone needs the memory"
    assert [part | {"logits": None} for part in one["evaluation"]] == two[1]["evaluation"]


def test_two_ranks_and_accumulation_equal_a_large_batch(one, two):
    assert two[0]["large batch"] == two[1]["large batch"]
    assert two[0]["large batch"] == pytest.approx(one["large batch"], rel=1e-5, abs=1e-6)


def test_gradients_are_exchanged_once_a_step(two):
    assert [rank["gradients stay"] for rank in two] == [[False, True]] * 2


def test_a_signal_on_one_rank_stops_both_and_one_file_resumes_both_exactly(two):
    for rank in two:
        place = "before epoch 0, step 2 (counted from 0)"
        error = f"Preempted 75 stopped by a signal {place}; saved: continue with --resume auto"
        assert rank["resumed"] == {"error": error, "equal": [True] * 3, "loss": True}


def test_a_loss_that_is_not_finite_on_rank_1_stops_both_with_one_message(two):
    message = two[0]["nan"]
    assert two[1]["nan"] == message
    for part in ("NonFiniteLossError 5", "epoch 0, step 2,", "on rank 1", "\n36.jpg, 37.jpg", "44.jpg"):
        assert part in message


def test_a_full_disk_on_rank_0_stops_both(two):
    assert two[0]["disk"].startswith("DiskError 74 cannot write")
    assert two[1]["disk"].startswith("DiskError 74 rank 0 could not write")


def test_all_ranks_continue_from_the_same_place(two):
    for rank in two:
        assert rank["same place"] == "nothing"
        assert rank["other place"].startswith("CheckpointError 4 the ranks found checkpoints of different places")


def test_the_ranks_exchange_messages_while_rank_0_works(two):
    assert [rank["long work"] for rank in two] == ["nothing"] * 2
    assert [rank["members"].startswith("all ranks live") for rank in two] == [True] * 2


def test_small_messages(one, two):
    assert one["any"] == [False, False] and one["sum"] == [[2.0**52, 1], [0.1, 0]]
    for rank in two:
        assert rank["any"] == [True, False]
        assert rank["sum"] == [[2.0**53, 2], [0.2, 1]]
        assert rank["objects"] == [["file of rank 0"], ["file of rank 1"]]
