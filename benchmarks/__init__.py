"""Side by side with peers in one run: each file is a program, its results are JSON lines and a plot."""
