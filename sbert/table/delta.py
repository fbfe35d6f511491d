"""A version of the published table, opened for reading: Parquet shards plus a Delta Lake log.

A version of the table is a set of shards, and a commit (`sbert.table.commit`) adds and removes shards in one atomic
step. Facts about the encoder are metadata of the ``embedding`` column in the Delta schema, so that they change in the
same commit as the shards they describe.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from sbert.errors import DerivedTableError, EncoderMismatchError, MissingError, NotATableError
from sbert.storage.errors import translate_errors
from sbert.storage.files import delta_retry_options, delta_storage_options, join, list_names, normalize_uri
from sbert.storage.retry import try_again
from sbert.table.commit_record import METADATA_KEY, RECORDED_SETTINGS, commit_info, recorded_at, recorded_in
from sbert.table.encoder_info import EncoderInfo
from sbert.table.refused_versions import check_not_refused
from sbert.table.shards import fingerprint_of_shard
from sbert.table.table_shard import SplitRows, TableShard

if TYPE_CHECKING:  # readers of the log do not import torch
    from sbert.encoder.sentence_encoder import SentenceEncoder

__all__ = ["DERIVED_NAME", "SETTINGS_KEY", "Table", "find_table", "is_embeddings_table"]

SETTINGS_KEY = "sbert_settings"
"""Metadata of the ``embedding`` column: the table's settings when its schema was last written."""
DERIVED_NAME = "sbert "
"""Begins the name, in the Delta log, of a table that a job derived; the job's name follows."""
SETTINGS_COMMITS = 100
"""Newest commits among which one of this library is looked for."""
ACTION_COLUMNS = ("path", "size_bytes", "num_records")
BASE_COLUMNS = frozenset({"id", "source", "text_hash", "embedding", "scale", "num_tokens", "truncated"})


class Table:
    """One version of a table of embeddings, for reading."""

    def __init__(self, uri: str, delta: DeltaTable) -> None:
        """Use `Table.open`."""
        self.uri = uri
        self._delta = delta
        self.encoder = _encoder_of(uri, delta)

    @classmethod
    def open(cls, uri: str, version: int | None = None) -> Self:
        """Open the newest version of the table at `uri`, or version `version`.

        Raises:
            NotATableError: when there is no table at `uri`, or one that this library did not make, or no such version.
            TableError: when rows of the version were erased.
            StorageError: when storage refuses.
        """
        uri = normalize_uri(uri)
        _check_not_a_file(uri)
        try:
            delta = try_again(uri, lambda: _open_delta(uri, version))
        except (TableNotFoundError, MissingError) as error:
            list_names(uri)  # storage that refuses, or has no such bucket, is another matter
            raise NotATableError(
                f"{uri}: there is no table here (no _delta_log): name a table, or make one with `sbert refresh`"
            ) from error
        except DeltaError as error:
            wanted = "" if version is None else f" at version {version}"
            raise NotATableError(f"{uri}: the table cannot be opened{wanted}: {error}") from error
        if version is not None:
            check_not_refused(uri, version)
        return cls(uri, delta)

    @property
    def version(self) -> int:
        """The Delta version that this object shows."""
        return int(self._delta.version())

    @property
    def table_id(self) -> str:
        """The id in the Delta log: a table that was deleted and made anew at the same URI has another one."""
        return str(self._delta.metadata().id)

    @property
    def kept_schema(self) -> dict[str, pl.DataType]:
        """Types of the source columns that the table keeps."""
        fields = pa.schema(self._delta.schema().to_arrow())
        kept = pa.schema([_plain(field) for field in fields if field.name not in BASE_COLUMNS])
        frame = pl.from_arrow(kept.empty_table())
        assert isinstance(frame, pl.DataFrame)
        return dict(frame.schema)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns and their Arrow types."""
        return pa.schema([_plain(field) for field in pa.schema(self._delta.schema().to_arrow())])

    @property
    def recorded_settings(self) -> dict[str, Any] | None:
        """Settings that decide the table's rows, as its newest commit recorded them; None when it recorded none.

        Releases before 2026-12 recorded none. Commits of other writers are passed over.
        """
        for version in range(self.version, max(self.version - SETTINGS_COMMITS, -1), -1):
            info = commit_info(self.uri, version)
            if info is None:
                break  # the log was cleaned up to here
            if METADATA_KEY in info:
                return recorded_in(info).get(RECORDED_SETTINGS)
        written = _embedding_metadata(self._delta).get(SETTINGS_KEY)
        return None if written is None else dict(json.loads(written))

    def shards(self) -> list[TableShard]:
        """Return the shards of this version, ordered by name, from the log alone."""
        return list(self._shards)

    @cached_property
    def _shards(self) -> list[TableShard]:
        actions = pl.DataFrame(self._delta.get_add_actions(flatten=True))  # pyarrow would import pandas for this
        bounds = [name for name in actions.columns if name.startswith(("min.", "max.", "null_count."))]
        has_bounds = pl.any_horizontal(pl.lit(False), *(pl.col(name).is_not_null() for name in bounds))
        return sorted(
            (_shard_of(action) for action in actions.select(*ACTION_COLUMNS, has_bounds=has_bounds).to_dicts()),
            key=lambda shard: shard.name,
        )

    def shards_with_bounds(self) -> list[TableShard]:
        """Return the shards whose statistics in the log make filters go wrong; the next commit mends them."""
        return [shard for shard in self.shards() if shard.has_bounds]

    def shard_uri(self, name: str) -> str:
        """Return the location of a shard."""
        return join(self.uri, name)

    @property
    def num_rows(self) -> int:
        """Rows of this version, from the log alone."""
        return sum(shard.num_rows for shard in self.shards())

    def last_commit(self) -> dict[str, Any]:
        """Return the run id and counts that the newest commit recorded; empty when it was not made by this library."""
        return recorded_at(self.uri, self.version)

    def history(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the commits, newest first: version, timestamp (ms), operation and the record of this library."""
        with translate_errors(self.uri):
            return [dict(entry) for entry in self._delta.history(limit)]

    def scan(self) -> pl.LazyFrame:
        """Return this version as a lazy Polars frame; ``embedding`` is ``list[f32]``, or ``list[i8]`` beside ``scale``."""
        shards = [self.shard_uri(shard.name) for shard in self.shards()]
        if not shards:
            empty = pl.from_arrow(self.arrow_schema.empty_table())
            assert isinstance(empty, pl.DataFrame)
            return empty.lazy()
        # Not scan_delta, which does not find shards in folders whose names hold blanks or letters beyond ASCII.
        return pl.scan_parquet(shards, glob=False, storage_options=delta_storage_options(self.uri) or None)

    def check_model(self, encoder: "SentenceEncoder") -> None:
        """Check that a loaded model is the one that made this table's vectors.

        Raises:
            EncoderMismatchError: when it has changed since.
        """
        if encoder.fingerprint != self.encoder.model_fingerprint:
            raise EncoderMismatchError(
                f"{self.uri}: the model {self.encoder.model} has fingerprint {encoder.fingerprint[:12]}, but the table "
                f"was made with {self.encoder.model_fingerprint[:12]}: restore the model, or run `sbert refresh` with "
                "--model to re-embed the table with the new one"
            )

    def check_encoder(self, fingerprint: str, dim: int) -> None:
        """Check that vectors of an encoder belong into this table.

        Raises:
            EncoderMismatchError: when the fingerprints differ.
        """
        if dim != self.encoder.dim:
            raise EncoderMismatchError(
                f"{self.uri}: the table has dim {self.encoder.dim}, but the encoder gives {dim}: "
                "choose the table's encoder or a new table"
            )
        if fingerprint != self.encoder.fingerprint:
            raise EncoderMismatchError(
                f"{self.uri}: the table's encoder is {self.encoder.model} ({self.encoder.fingerprint[:12]}), "
                f"these vectors are of an encoder with fingerprint {fingerprint[:12]}: choose the table's encoder "
                "or a new table"
            )


def _open_delta(uri: str, version: int | None) -> DeltaTable:
    options = delta_storage_options(uri) | delta_retry_options(uri)
    if not DeltaTable.is_deltatable(uri, options):
        raise TableNotFoundError(uri)
    return DeltaTable(uri, version=version, storage_options=options)


def _shard_of(action: dict[str, Any]) -> TableShard:
    name, num_rows = action["path"], action["num_records"] or 0
    fingerprint = fingerprint_of_shard(name)
    return TableShard(
        name=name,
        fingerprint=fingerprint,
        num_rows=num_rows,
        num_bytes=action["size_bytes"],
        splits=(SplitRows(fingerprint=fingerprint, first_row=0, num_rows=num_rows),),
        has_bounds=action["has_bounds"],
    )


def _plain(field: pa.Field) -> pa.Field:
    """Replace view types, which delta-rs may report, by the types the shards have."""
    kind = field.type
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        kind = pa.string()
    elif pa.types.is_binary_view(kind) or pa.types.is_large_binary(kind):
        kind = pa.binary()
    return pa.field(field.name, kind)


def _encoder_of(uri: str, delta: DeltaTable) -> EncoderInfo:
    written = _embedding_metadata(delta).get(METADATA_KEY)
    if written is not None:
        return EncoderInfo.model_validate_json(written)
    name = delta.metadata().name or ""
    if name.startswith(DERIVED_NAME):
        raise DerivedTableError(
            f"{uri}: this table is derived, by the job {name.removeprefix(DERIVED_NAME)}: name the embeddings table that "
            "it was computed from"
        )
    raise NotATableError(
        f"{uri}: this Delta table was not made by sbert (its `embedding` column names no encoder): choose a new folder"
    )


def is_embeddings_table(delta: DeltaTable) -> bool:
    """Return whether a Delta table is an embeddings table of this library."""
    return METADATA_KEY in _embedding_metadata(delta)


def _embedding_metadata(delta: DeltaTable) -> dict[str, str]:
    """Return the metadata of the ``embedding`` column; empty when the table has no such column."""
    fields = (field for field in delta.schema().fields if field.name == "embedding")
    return {key: str(value) for field in fields for key, value in field.metadata.items()}


def _check_not_a_file(uri: str) -> None:
    if "://" not in uri and Path(uri).is_file():
        raise NotATableError(f"{uri}: this is a file, but a table is a folder: name a folder")


def find_table(uri: str) -> Table | None:
    """Open the table at `uri`, or return None where a table can be made.

    Raises:
        NotATableError: when the folder holds other things than a table, or than the beginnings of one.
    """
    _check_not_a_file(normalize_uri(uri))
    try:
        return Table.open(uri)
    except DerivedTableError:
        raise
    except NotATableError:
        names = list_names(normalize_uri(uri))
        strangers = sorted(
            name for name in names if not name.startswith(("part-", "_", ".")) or name.startswith("_delta_log")
        )
        if strangers:
            shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
            raise NotATableError(
                f"{uri}: this folder is not a table and is not empty ({len(strangers)} entries: {shown}): "
                "name an empty or new folder for the table"
            ) from None
        return None
