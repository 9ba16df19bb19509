"""Rules turn names and layouts into those of the port and back without loss, and account for every entry."""

import numpy as np
import pytest

from alignment.case import read_case
from alignment.rules import BATCH_NORM, COUNTERS, Rules, unaccounted
from common.errors import WeightsError

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


def test_rules_rename_transpose_and_drop_and_undo_it():
    port = TORCH_RULES.to_port(arrays())
    assert set(port) == {"x.0.y", "norm._mean", "norm._variance", "fc.weight"}
    assert np.array_equal(port["fc.weight"], arrays()["fc.weight"].T)
    back = TORCH_RULES.from_port(port)
    assert {name: array.tobytes() for name, array in back.items()} == {n: a.tobytes() for n, a in arrays().items()}


def test_a_prefix_is_removed_only_if_all_names_have_it():
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


def test_a_transpose_that_fits_no_name_is_reported():
    rules = Rules(transpose=("fc1.weight", "*.head", "fc2.wieght"))
    assert rules.unused_transposes(["fc1.weight", "a.head", "fc2.weight"]) == ["transpose: the port has no fc2.wieght"]


def test_every_entry_is_accounted_for_by_name():
    found = unaccounted(
        {"a": np.zeros(3), "b": np.zeros((2, 3)), "d": np.zeros(1, int)}, {"b": (3, 2), "c": (1,), "d": (1,)}
    )
    assert [line.split(" is ")[0] for line in found] == [
        "missing: c [1]", "extra: a [3]", "wrong shape: b", "wrong type: d"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["peleenet", "mobilenet_v3_small", "mobilenet_v3_large", "alexnet"])
def test_weights_of_our_models_become_torch_weights_and_back_bit_for_bit(name):
    from alignment.paddle_side.port import build, state_arrays

    case = read_case(name)
    state = state_arrays(build(case))
    rules = case.rules("torch")
    source = rules.from_port(state)
    assert sum(key.endswith("num_batches_tracked") for key in source) == sum(key.endswith("._mean") for key in state)
    back = rules.to_port(source)
    assert list(back) == list(state) and not rules.unused_transposes(state)
    assert all(back[key].dtype == state[key].dtype and back[key].tobytes() == state[key].tobytes() for key in state)


@pytest.mark.slow
def test_paddleclas_alexnet_becomes_our_alexnet():
    """paddle.vision's AlexNet has the names of PaddleClas and its dropouts, which halve in evaluation."""
    import paddle

    from alignment.paddle_side.port import build, set_state, state_arrays

    case = read_case("alexnet")
    other = paddle.vision.models.alexnet().eval()
    state = state_arrays(other)
    rules = case.rules("paddleclas")
    model = set_state(build(case), rules.to_port(state), "PaddleClas").eval()
    images = paddle.to_tensor(np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype("float32"))
    assert np.abs(model(images).numpy() - other(images).numpy()).max() < 1e-6
    back = rules.from_port(rules.to_port(state))
    assert all(back[name].tobytes() == state[name].tobytes() for name in state)


def test_a_scale_is_undone():
    rules, source = Rules(scale={"w": 0.5}), {"w": np.array([3.0, 4.0])}
    assert rules.to_port(source)["w"].tolist() == [1.5, 2]
    assert rules.from_port(rules.to_port(source))["w"].tolist() == [3, 4]
