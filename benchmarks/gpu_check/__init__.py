"""What a first run on a GPU must check: `python -m benchmarks.gpu_check`. See docs/gpu_checklist.md."""
