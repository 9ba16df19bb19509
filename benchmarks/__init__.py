"""Benchmarks that measure the project beside its peers in one run; the results are JSON lines and plots."""
