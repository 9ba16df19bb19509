"""Layer by layer: which layers of the two models belong together, how far they differ, and what probably went wrong."""
