"""Erase rows for good: from a table and all its versions, from what follows it, and with a receipt that proves it."""
