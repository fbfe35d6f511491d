"""The change feed: what a copy of a table must do to follow it from one version to another."""
