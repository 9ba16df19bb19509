"""The engine room: trains, evaluates and saves the objects it is given; it knows no model, dataset or flag by name."""
