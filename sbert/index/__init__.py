"""Nearest neighbours of a text in a table."""
