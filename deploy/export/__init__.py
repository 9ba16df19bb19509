"""Write an exported folder: its programs, its card, and the parity gate."""
