"""The Paddle model of a case: build it, record its layers, train it for some steps."""
