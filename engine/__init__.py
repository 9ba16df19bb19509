"""Training, evaluation and checkpoints of the objects that the scripts create; no model or data set is named here."""
