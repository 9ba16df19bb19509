"""From files to batches; imports nothing, because serving needs `preprocess` without Paddle."""
