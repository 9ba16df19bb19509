"""Serve exported folders over HTTP: `python -m deploy.serving EXPORTED`; see docs/serving.md."""
