"""Run exported folders: card, engines, predictor and benchmark report; `export` writes the folders."""
