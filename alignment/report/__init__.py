"""Outputs of a verdict: lines for the terminal, a JSON file, JUnit XML and an HTML page."""
