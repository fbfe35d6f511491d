"""Texts of a table that say the same: groups with a representative, kept up to date at the cost of what changed."""
