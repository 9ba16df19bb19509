"""Compare a Paddle port with its PyTorch reference and find the first difference. See docs/alignment.md."""
