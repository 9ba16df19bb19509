"""Writing exported folders: Paddle and ONNX programs, INT8 quantisation, PaddleX, and the parity gate."""
