"""Formats of raw text, each a class: its endings, its columns and their types, and how it is cut, counted and read."""
