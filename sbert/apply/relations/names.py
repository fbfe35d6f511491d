"""The texts and names of a table's rows: from an output of `sbert entities`, or from a column that marks them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from sbert.apply.relations.labels import Name
from sbert.derived.content_job import ContentBlock
from sbert.derived.derived_table import DerivedTable
from sbert.derived.job import KEY_COLUMNS, SplitInput, derived_fingerprint
from sbert.errors import ColumnError, SettingsError, TableError
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shard_layout import locate_splits

__all__ = ["NamedText", "check_same_rows", "names_of_column", "names_of_entities", "parse_content"]

NAMES = TypeAdapter(list[Name])


@dataclass(frozen=True)
class NamedText:
    """A text and the names in it."""

    text: str
    names: tuple[Name, ...]


def parse_content(content: str) -> NamedText:
    """Return the text and the names of a content of the job."""
    text, names = json.loads(content)
    return NamedText(text, tuple(Name(start=start, end=end, type=kind) for start, end, kind in names))


def check_same_rows(table: Table, entities: DerivedTable) -> None:
    """Check that an output of entities is of the splits that the table has now.

    Raises:
        SettingsError: it is behind the table, or of another table.
    """
    info = entities.info
    if info.table_id != table.table_id:
        raise SettingsError(
            f"{entities.uri}: these are the entities of {info.table_uri}, not of {table.uri}: name those of this table"
        )
    have = {shard.fingerprint for shard in entities.shards()}
    missing = [
        name
        for name, rows in _splits(table).items()
        if derived_fingerprint(name, rows, info.job_fingerprint) not in have
    ]
    if missing:
        raise SettingsError(
            f"{entities.uri}: it was made from version {info.table_version} of {table.uri}, but the newest is "
            f"{table.version}: run `sbert entities` first"
        )


def names_of_entities(entities: DerivedTable, text_column: str) -> Callable[[SplitInput], Iterator[ContentBlock]]:
    """Return the function that reads the contents of a split, with names from an output of entities."""
    shards_of: dict[str, list[str]] = {}
    for shard in entities.shards():
        shards_of.setdefault(shard.fingerprint, []).append(shard.name)

    def entities_of_rows(split: SplitInput) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
        name = derived_fingerprint(split.fingerprint, split.num_rows, entities.info.job_fingerprint)
        for shard in shards_of.get(name, []):
            with open_shard(entities.shard_uri(shard)) as parquet:
                for batch in parquet.iter_batches(columns=["source", "id", "entities"]):
                    keys = zip(batch["source"].to_pylist(), batch["id"].to_pylist(), strict=True)
                    yield from zip(keys, batch["entities"].to_pylist(), strict=True)

    def read(split: SplitInput) -> Iterator[ContentBlock]:
        names = entities_of_rows(split)
        for rows in _blocks(split, text_column):
            contents = []
            for source, row_id, text in _columns(rows, "source", "id", text_column):
                key, spans = next(names)
                if key != (source, row_id):
                    raise TableError(
                        f"{entities.uri}: expected the entities of row {row_id} of {source}, but found those of row "
                        f"{key[1]} of {key[0]}: run `sbert verify` on both tables"
                    )
                contents.append(_content(text, [(span["start"], span["end"], span["type"]) for span in spans]))
            yield rows, contents

    return read


def names_of_column(table: Table, column: str, text_column: str) -> Callable[[SplitInput], Iterator[ContentBlock]]:
    """Return the function that reads the contents of a split, with names from a kept column of JSON.

    Raises:
        ColumnError: no such column is kept.
    """
    if column not in table.kept_schema:
        kept = ", ".join(table.kept_schema) or "none"
        raise ColumnError(
            f"{table.uri}: no kept column {column!r} (kept: {kept}): keep it with `sbert refresh --keep-columns`"
        )

    def read(split: SplitInput) -> Iterator[ContentBlock]:
        for rows in _blocks(split, text_column, column):
            contents = []
            for row_id, text, marks in _columns(rows, "id", text_column, column):
                where = f"{table.uri}: row {row_id}: column {column!r}"
                try:
                    names = NAMES.validate_json(marks) if marks else []
                except ValidationError as error:
                    fault = error.errors(include_url=False)[0]["msg"]
                    raise TableError(f"{where}: {fault}: write a JSON list of start, end, type") from error
                outside = next((name for name in names if not name.start < name.end <= len(text or "")), None)
                if outside is not None:
                    raise TableError(
                        f"{where}: a name goes from {outside.start} to {outside.end}, but the text has {len(text or '')} "
                        "characters: correct start and end in the source"
                    )
                contents.append(_content(text, [(name.start, name.end, name.type) for name in names]))
            yield rows, contents

    return read


def _blocks(split: SplitInput, *columns: str) -> Iterator[pa.Table]:
    yield from split.rows(list(dict.fromkeys([*KEY_COLUMNS, *columns])))


def _columns(rows: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in names), strict=True)


def _content(text: str | None, names: list[tuple[int, int, str | None]]) -> str:
    """Return text and names as one text; fewer than two names have no relation, so they are left out."""
    return json.dumps([text or "", sorted(names) if len(names) > 1 else []], ensure_ascii=False)


def _splits(table: Table) -> dict[str, int]:
    rows: dict[str, int] = {}
    for shard in locate_splits(table.uri, table.shards()):
        for split in shard.splits:
            rows[split.fingerprint] = rows.get(split.fingerprint, 0) + split.num_rows
    return rows
