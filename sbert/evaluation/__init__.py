"""Measure what an encoder can do, with intervals: the same code on the same frozen rows for every encoder."""
