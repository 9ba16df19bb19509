"""Demonstration: the whole chain on 1,797 scanned digits, and a table that compares its results."""
