"""Find which weights and layers of two models belong together, and write it down as rules of a case."""
