"""Does a Paddle port match its PyTorch reference, and if not, where does it differ first? See docs/alignment.md."""
