"""`python -m datasets.check`: find damaged, duplicate and wrongly labelled images before a training does."""
