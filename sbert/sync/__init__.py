"""The change feed: the upserts and deletes by which a copy of a table follows it from one version to another."""
