"""Prefect flows, one file per job a person starts, and the ``sbert`` command line."""
