"""The deletion limit: a listing that shrank by mistake must not empty the table, and a job must not lose a column.

A loss is a source object of the table that is no longer listed, with its rows. A changed object, another encoder or
another setting replaces rows and is not a loss. A renamed object is not a loss: its version appeared under another name.
A table (Delta Lake) writes new files for old ones with every update: of it, only rows count, those of the old files less
those of the new ones.
Rows that vanish inside objects, for example when every object turned empty, are counted before the commit. A kept column
that the job no longer keeps is a loss of every row's value.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import MassDeletionError
from sbert.refresh.job import DeletionLimitSettings
from sbert.refresh.split_selection import SplitSelection
from sbert.source.objects import SourceObject
from sbert.table.shard_layout import read_split
from sbert.table.table_shard import TableShard

__all__ = ["Losses", "check_losses", "foresee_losses"]

MAX_NAMED = 3


class Losses(BaseModel):
    """Objects and rows that a commit would remove from the table."""

    model_config = ConfigDict(frozen=True)

    num_objects: int = Field(default=0, description="Source objects of the table before.")
    num_objects_lost: int = Field(default=0, description="Objects of the table that are no longer in the source.")
    num_rows: int = Field(default=0, description="Rows of the table before.")
    num_rows_lost: int = Field(default=0, description="Rows that disappear.")
    columns_lost: tuple[str, ...] = Field(default=(), description="Columns that the table keeps and the run does not.")
    examples: list[str] = Field(default_factory=list, description="Some of the objects lost.")


def foresee_losses(
    table_uri: str, shards: Sequence[TableShard], selection: SplitSelection, objects: Sequence[SourceObject]
) -> Losses:
    """Find the table's objects that are no longer in the source, and their rows.

    Reads one small record for each split that leaves the table, and the ``source`` column of those whose objects are
    partly lost.
    """
    listed = {item.uri: item.version for item in objects}
    before = {span.object.uri for planned in selection.keep for span in planned.split.spans}
    versions: dict[str, str] = {}
    objects_of: dict[str, set[str]] = {}
    for fingerprint, record in selection.records.items():
        versions |= {span.uri: span.version for span in record.spans}
        objects_of[fingerprint] = {span.uri for span in record.spans}
    for fingerprint in selection.leaving - objects_of.keys():  # without its record, the rows name the objects
        objects_of[fingerprint] = set(_count_by_object(table_uri, shards, fingerprint))
    all_before = before.union(*objects_of.values())
    appeared = {version for uri, version in listed.items() if uri not in all_before}
    archives = tuple(f"{item.uri}/" for item in objects if item.unreadable)  # members of an unreadable archive stay
    removed = {
        uri for uri in all_before - listed.keys() if versions.get(uri) not in appeared and not uri.startswith(archives)
    }
    replaced = _files_of_tables(removed, objects)
    lost = removed.difference(*replaced.values())
    num_rows_lost = _num_rows_of(lost, objects_of, table_uri, shards)
    for source_table, uris in replaced.items():
        new = [item.num_rows for item in objects if _is_in(source_table, item) and item.uri not in all_before]
        if None not in new:  # else they are counted before the commit
            num_rows_before = _num_rows_of(uris, objects_of, table_uri, shards)
            num_rows_lost += max(0, num_rows_before - sum(number or 0 for number in new))
    return Losses(
        num_objects=len(all_before),
        num_objects_lost=len(lost),
        num_rows=sum(shard.num_rows for shard in shards),
        num_rows_lost=num_rows_lost,
        examples=sorted(lost)[:MAX_NAMED],
    )


def _num_rows_of(
    uris: set[str], objects_of: Mapping[str, set[str]], table_uri: str, shards: Sequence[TableShard]
) -> int:
    """Return how many rows of the table come from the objects `uris`; `objects_of` has the objects of each split."""
    num_rows = 0
    num_rows_of: Counter[str] = Counter()
    for rows in (rows for shard in shards for rows in shard.splits):
        num_rows_of[rows.fingerprint] += rows.num_rows
    for fingerprint, of_split in objects_of.items():
        if of_split and of_split <= uris:
            num_rows += num_rows_of[fingerprint]
        elif of_split & uris:
            counts = _count_by_object(table_uri, shards, fingerprint)
            num_rows += sum(counts.get(uri, 0) for uri in of_split & uris)
    return num_rows


def _is_in(source_table: str, item: SourceObject) -> bool:
    return item.table is not None and item.table.uri == source_table


def _files_of_tables(uris: set[str], objects: Sequence[SourceObject]) -> dict[str, set[str]]:
    """Return the `uris` that are files of a table which is still in the source, by table."""
    tables = {item.table.uri for item in objects if item.table is not None}
    files = {table: {uri for uri in uris if uri.startswith(f"{table}/")} for table in tables}
    return {table: names for table, names in files.items() if names}


def _count_by_object(table_uri: str, shards: Sequence[TableShard], fingerprint: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for rows in read_split(table_uri, shards, fingerprint, ["source"]):
        for item in pc.value_counts(rows["source"].combine_chunks()).to_pylist():
            counts[item["values"]] = counts.get(item["values"], 0) + item["counts"]
    return counts


def check_losses(table_uri: str, losses: Losses, settings: DeletionLimitSettings) -> None:
    """Stop a run that would remove too much.

    Raises:
        MassDeletionError: naming the losses, the accepted share and the option that allows more.
    """
    if losses.columns_lost and settings.max_drop_share < 1:
        raise MassDeletionError(
            f"{table_uri}: the run would drop the kept columns {', '.join(losses.columns_lost)} from every row; nothing was "
            "published. Leave keep_columns empty to keep the table's own, or run again with --allow-drop (allow_drop in "
            "the form)"
        )
    share_rows = losses.num_rows_lost / losses.num_rows if losses.num_rows else 0.0
    share_objects = losses.num_objects_lost / losses.num_objects if losses.num_objects else 0.0
    if max(share_rows, share_objects) <= settings.max_drop_share:
        return
    examples = ", ".join(losses.examples) + (", …" if losses.num_objects_lost > len(losses.examples) else "")
    raise MassDeletionError(
        f"{table_uri}: this run would drop {losses.num_objects_lost:,} of {losses.num_objects:,} source objects "
        f"({share_objects:.1%}) and {losses.num_rows_lost:,} of {losses.num_rows:,} rows ({share_rows:.1%}), above the "
        f"limit of {settings.max_drop_share:.1%}{f' (no longer listed: {examples})' if examples else ''}; nothing was "
        "published. Check the raw URI, the keys and the producer, or allow the loss with --allow-drop (allow_drop in the "
        "form, or a higher deletion_limit.max_drop_share in the settings)"
    )
