"""The model registry: immutable versions in a folder of object storage, and the log that says which one is production."""
