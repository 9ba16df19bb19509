"""The user's own pipeline around the model: data, loss, optimizer, schedule, metric and training step on both sides."""
