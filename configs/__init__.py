"""Every flag of the five scripts (schema.py), and how a recipe and flags become a frozen config (loader.py)."""
