"""`python -m datasets.split`: divide a plain folder of classes into training and validation images."""
