"""Parallel sentences: which row of another table is the translation of each row, one to one, or none."""
