"""The published table: Parquet shards behind a Delta log, how they are read, committed, compacted, checked and rolled back.

Nothing in here knows of raw text or of a refresh, which stands in `sbert.refresh` and uses this.
"""
