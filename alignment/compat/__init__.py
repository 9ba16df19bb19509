"""Replacements of other tools: PaDiff's `auto_diff`, and the files and the comparison of reprod_log."""
