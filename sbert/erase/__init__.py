"""Erase rows for good from a table, from all its versions and from everything that follows it, with a receipt that proves
it."""
