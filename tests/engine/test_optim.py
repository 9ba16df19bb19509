"""The optimizers follow the formulas of torch, written out in float64, and their state fits any process."""

import numpy as np
import paddle
import pytest
from paddle import nn

from common.errors import CheckpointError
from configs.schema import OptimConfig
from engine.optim import OPTIMIZERS, create_optimizer, optimizer_arrays, set_optimizer_arrays
from tests.engine.tiny import arrays_of, same, tiny_net

LR, DECAY, MOMENTUM, ALPHA, BETAS = 0.05, 0.1, 0.9, 0.9, (0.8, 0.95)


def sgd(w, g, s, t):
    return w - LR * g


def momentum(w, g, s, t):
    s["v"] = MOMENTUM * s.get("v", 0) + g
    return w - LR * s["v"]


def rmsprop(w, g, s, t):
    s["square"] = ALPHA * s.get("square", 0) + (1 - ALPHA) * g**2
    s["buffer"] = MOMENTUM * s.get("buffer", 0) + g / (np.sqrt(s["square"]) + 0.03)
    return w - LR * s["buffer"]


def adamw(w, g, s, t):
    s["m"] = BETAS[0] * s.get("m", 0) + (1 - BETAS[0]) * g
    s["v"] = BETAS[1] * s.get("v", 0) + (1 - BETAS[1]) * g**2
    m, v = s["m"] / (1 - BETAS[0] ** t), s["v"] / (1 - BETAS[1] ** t)
    return w - LR * m / (np.sqrt(v) + 0.03)


REFERENCE = {"sgd": sgd, "momentum": momentum, "rmsprop": rmsprop, "adamw": adamw}


def by_formula(name, weights, gradients, *, clip, decays):
    memory = {key: {} for key in weights}
    for t, step in enumerate(gradients, start=1):
        norm = np.sqrt(sum((g**2).sum() for g in step.values()))
        scale = min(1, clip / norm) if clip else 1
        for key, w in weights.items():
            g = step[key] * scale
            if decays(key) and name == "adamw":
                w = w * (1 - LR * DECAY)
            elif decays(key):
                g = g + DECAY * w
            weights[key] = REFERENCE[name](w, g, memory[key], t)
    return weights


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("decay_all", [None, True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_five_steps_follow_the_formula(name, decay_all, clip):
    paddle.seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1D(4))
    trainable = {key: p for key, p in model.named_parameters() if not p.stop_gradient}
    assert len(trainable) == 4  # without the batch-norm statistics
    rng = np.random.default_rng(0)
    gradients = [{key: rng.standard_normal(p.shape) for key, p in trainable.items()} for _ in range(5)]
    config = OptimConfig(
        opt=name,
        momentum=MOMENTUM,
        weight_decay=DECAY,
        decay_norm_and_bias=decay_all,
        opt_eps=0.03,
        opt_betas=BETAS,
        opt_alpha=ALPHA,
        clip_grad=clip,
    )
    optimizer = create_optimizer(model, config, lr=1)
    decays_all = decay_all if decay_all is not None else name != "adamw"
    expected = by_formula(
        name,
        {key: p.numpy().astype(float) for key, p in trainable.items()},
        gradients,
        clip=clip,
        decays=lambda key: decays_all or key == "0.weight",
    )
    for step in gradients:
        loss = sum((p * paddle.to_tensor(step[key], "float32")).sum() for key, p in trainable.items())
        loss.backward()
        optimizer.set_lr(LR)
        optimizer.step()
        optimizer.clear_grad()
    for key, p in trainable.items():
        np.testing.assert_allclose(p.numpy(), expected[key], rtol=1e-5, atol=2e-6, err_msg=key)


def take_steps(model, optimizer, seed, num):
    for step in range(num):
        paddle.seed(seed + step)
        model(paddle.randn([4, 3, 8, 8])).square().mean().backward()
        optimizer.step()
        optimizer.clear_grad()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_continues_to_the_last_bit_beside_other_layers(name):
    model = tiny_net()
    optimizer = create_optimizer(model, OptimConfig(opt=name, weight_decay=0.01), lr=0.1)
    take_steps(model, optimizer, 0, 2)
    state, weights = optimizer_arrays(optimizer, model), arrays_of(model)
    assert all(array.size for array in state.values())

    nn.Linear(2, 2)  # advances the numbers in Paddle's automatic names
    other = tiny_net(seed=5)
    other.set_state_dict({key: paddle.to_tensor(array) for key, array in weights.items()})
    resumed = create_optimizer(other, OptimConfig(opt=name, weight_decay=0.01), lr=0.1)
    set_optimizer_arrays(resumed, other, state, source="a file")
    assert same(optimizer_arrays(resumed, other), state)  # also before its first step
    take_steps(model, optimizer, 9, 3)
    take_steps(other, resumed, 9, 3)
    assert same(arrays_of(other), arrays_of(model))
    assert same(optimizer_arrays(resumed, other), optimizer_arrays(optimizer, model))


def test_state_names_are_those_of_the_model():
    model = tiny_net()
    optimizer = create_optimizer(model, OptimConfig(opt="momentum"), lr=0.1)
    assert optimizer_arrays(optimizer, model) == {}
    take_steps(model, optimizer, 0, 1)
    names = ("0.weight", "0.bias", "1.weight", "1.bias", "5.weight", "5.bias")
    assert set(optimizer_arrays(optimizer, model)) == {f"{name}.velocity" for name in names}


def test_state_of_another_optimizer_is_refused():
    model = tiny_net()
    optimizer = create_optimizer(model, OptimConfig(opt="momentum"), lr=0.1)
    take_steps(model, optimizer, 0, 1)
    state = optimizer_arrays(optimizer, model)
    with pytest.raises(CheckpointError, match=r"f\.pd holds the state of another optimizer.*AdamW"):
        set_optimizer_arrays(create_optimizer(model, OptimConfig(opt="adamw"), lr=0.1), model, state, source="f.pd")
    state["0.weight.velocity"] = state["0.weight.velocity"][:1]
    with pytest.raises(CheckpointError, match=r"1 of its entries .* 0\.weight\.velocity"):
        set_optimizer_arrays(optimizer, model, state, source="f.pd")
