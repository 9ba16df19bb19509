"""Trains a few steps on random images, eagerly or through to_static; the losses must be equal in both modes.

python -m test_tipc.dy2static --model=peleenet --to_static=True
"""

import argparse

from common.cli import positive_int
from common.cli import run as run_program


def main(argv: list[str]) -> None:
    """Train and print the lines `step N loss X`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--input_size", type=positive_int, default=64)
    parser.add_argument("--batch_size", type=positive_int, default=4)
    parser.add_argument("--steps", type=positive_int, default=5)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--to_static", choices=("True", "False"), default="False")
    flags = parser.parse_args(argv)

    import paddle

    from models import check_input_size, create_model

    check_input_size(flags.model, flags.input_size)
    paddle.seed(0)
    model = create_model(flags.model, num_classes=10)
    switch_dropout_off(model)
    model.train()
    optimizer = paddle.optimizer.Momentum(flags.lr, parameters=model.parameters())
    forward = paddle.jit.to_static(model, full_graph=True) if flags.to_static == "True" else model
    images = paddle.randn([flags.batch_size, 3, flags.input_size, flags.input_size])
    labels = paddle.arange(flags.batch_size) % 10
    for step in range(flags.steps):
        loss = paddle.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        print(f"step {step} loss {loss.item():.6f}", flush=True)


def switch_dropout_off(model) -> None:
    """Set the probability of every dropout to 0: eager and static programs draw different masks from one seed."""
    import paddle

    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.Dropout):
            layer.p = 0.0


if __name__ == "__main__":
    run_program(main)
