"""What a run tells while it works: log lines, the live line of a terminal, log.txt, metrics.jsonl, curves, trackers."""
