"""The reference's side, the only place that knows PyTorch; `run.py` starts here, in a process of its own."""
