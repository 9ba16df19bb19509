"""Every knob of the five scripts (schema.py), and how a recipe and flags become a frozen Config (loader.py)."""
