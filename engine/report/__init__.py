"""The report of an evaluation: numbers, tables and pictures in a folder, and one page that explains them."""
