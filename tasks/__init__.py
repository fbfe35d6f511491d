"""Prefect tasks: retries and artifacts around calls of the library, and nothing else."""
