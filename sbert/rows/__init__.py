"""Rows before they are encoded: cleaning, counts that add up, and reasons for rejection."""
