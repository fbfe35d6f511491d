"""Texts to token ids, a block at a time."""
