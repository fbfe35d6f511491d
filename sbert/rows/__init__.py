"""Rows before they are embedded: cleaning, counts that add up, and reasons for rejection."""
