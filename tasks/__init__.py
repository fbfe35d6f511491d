"""Prefect tasks: retries, tags and artifacts around calls of the library, and nothing else."""
