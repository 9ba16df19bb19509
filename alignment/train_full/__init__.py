"""A whole training on both sides: the same batches, the same initial weights, the same schedule; two accuracies."""
