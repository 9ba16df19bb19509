"""From indices to batches: samplers, the worker pool, and the loaders that put batches on the device."""
