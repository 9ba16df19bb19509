"""Kernels of oneDNN in eager training on a CPU."""
