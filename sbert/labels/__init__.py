"""Labels in object storage: read, check and split them so that nothing leaks, and notice new ones."""
