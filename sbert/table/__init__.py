"""The published table: Parquet shards behind a Delta log, how they are read, committed, compacted, checked and rolled back.

Nothing in here knows raw text or encoders' settings; what a refresh does with a table stands in `sbert.refresh`.
"""
