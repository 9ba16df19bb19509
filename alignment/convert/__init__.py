"""From a PyTorch project to a Paddle port that is compared with it: `python -m alignment convert`."""
