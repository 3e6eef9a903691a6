"""Experiments: which models are trained on what, tested on what, and what the page of results says."""
