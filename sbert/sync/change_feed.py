"""Write the upserts and deletes by which a vector index follows a table from one version to another."""

from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from sbert.sync.feed_writers import open_feed
from sbert.sync.version_changes import VersionChanges
from sbert.table.delta import Table

__all__ = ["FeedSummary", "write_changes"]


class FeedSummary(BaseModel):
    """Counts of a change feed."""

    model_config = ConfigDict(frozen=True)

    table_uri: str
    from_version: int
    to_version: int
    num_upserts: int = Field(description="Rows to insert, or to replace by their key (source, id).")
    num_deletes: int = Field(description="Keys (source, id) to remove.")
    num_shards_read: int
    encoder_changed: bool = Field(description="Whether the vectors are of another encoder: every row is an upsert.")
    output: str | None = None


def write_changes(table_uri: str, from_version: int, to_version: int | None, output: str | None) -> FeedSummary:
    """Write the changes from one version of a table to another (also backwards); by default to the newest.

    Args:
        table_uri: the table.
        from_version: the version a copy of the table shows.
        to_version: the version it is to show.
        output: a .parquet or .jsonl file, local or s3://; None to count only.

    Raises:
        SettingsError: `output` has another ending.
        NotATableError: there is no such version.
        TableError: shards that are needed were vacuumed.
    """
    before, after = Table.open(table_uri, from_version), Table.open(table_uri, to_version)
    schema = pa.schema([pa.field("change", pa.string()), *after.arrow_schema])
    with VersionChanges(before, after) as changes, open_feed(output, schema) as feed:
        if output is not None:
            for rows in changes.upserts():
                feed.write(_as_changes(rows, "upsert", schema))
            for rows in changes.deletes():
                feed.write(_as_changes(rows, "delete", schema))
        return FeedSummary(
            table_uri=after.uri,
            from_version=before.version,
            to_version=after.version,
            num_upserts=changes.num_upserts,
            num_deletes=changes.num_deletes,
            num_shards_read=changes.num_shards_read,
            encoder_changed=changes.encoder_changed,
            output=output,
        )


def _as_changes(rows: pa.Table, change: Literal["upsert", "delete"], schema: pa.Schema) -> pa.Table:
    """Return rows with the feed's columns; columns that a delete does not have are null."""
    columns = {
        field.name: rows[field.name].cast(field.type)
        if field.name in rows.schema.names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    }
    columns["change"] = pa.array([change] * rows.num_rows, pa.string())
    return pa.table(columns, schema=schema)
