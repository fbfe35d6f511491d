"""``sbert compact``."""

from typing import Annotated, Any

import typer

from flows.cli.app import Panel, command
from flows.cli.options import Json, TableUri
from flows.cli.output import answering, out
from sbert.counted import counted


@command(Panel.UPKEEP, example="sbert compact s3://bucket/table")
def compact(
    table_uri: TableUri,
    shard_rows: Annotated[
        int, typer.Option(min=2, metavar="ROWS", help="Rows that a merged shard holds at most.")
    ] = 131_072,
    as_json: Json = False,
) -> None:
    """Merge small shards of TABLE into larger ones; nothing is encoded and rows stay as they are."""
    with answering(as_json=as_json) as answer:
        from sbert.table.compaction import compact_table
        from sbert.table.shards import ShardSettings

        done = compact_table(table_uri, ShardSettings(shard_rows=shard_rows))
        answer.print(done.model_dump(mode="json"), _show_compaction)


def _show_compaction(done: dict[str, Any]) -> None:
    out.print(
        f"{done['table_uri']} version {done['version']}: {counted(done['num_shards_before'], 'shard')} became "
        f"{done['num_shards']:,} ({done['num_shards_merged']:,} merged, {counted(done['num_rows_moved'], 'row')} moved)",
        markup=False,
    )
