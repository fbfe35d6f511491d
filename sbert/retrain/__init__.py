"""Retraining: learn from labels, measure the candidate on held-out rows, promote it only when it is better."""
