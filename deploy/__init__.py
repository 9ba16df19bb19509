"""An exported folder and what runs it: card, engines, predictor, benchmark report."""
