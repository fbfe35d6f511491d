"""A column of reasons beside the pairs of rows that a job names: why each pair is near, and what its vectors overlook.

A reason costs a pass of the encoder in float32 for each of the two texts. So a run takes over the reasons of the output
that is there. They are found by a hash of both texts, which stands in the reason.

The column is a list of records with ``source`` and ``id``, as are the other lists of derived tables that name rows. So
`sbert erase` takes a reason out when the row that it names is erased.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sbert.derived.derived_table import DerivedTable, find_derived
from sbert.derived.earlier_output import fingerprints_now, rows_before
from sbert.derived.job import SplitInput
from sbert.errors import ModelError
from sbert.explanation.explain import Explainer
from sbert.explanation.reasons import Reason, explain_pairs
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard

__all__ = ["EXPLANATION", "REASONS", "KnownReasons", "ReasonColumn", "RowPair", "SplitReasons", "reasons_of_shards"]

EXPLANATION = "explanation"
"""Name of the column."""
REASON = pa.struct(
    [
        pa.field("source", pa.string()),
        pa.field("id", pa.string()),
        pa.field("cosine", pa.float32()),
        pa.field("pairs", pa.list_(pa.struct([("left", pa.string()), ("right", pa.string()), ("part", pa.float32())]))),
        pa.field("warnings", pa.list_(pa.string())),
        pa.field("texts_hash", pa.binary()),
    ]
)
REASONS = pa.list_(REASON)
"""Type of the column: no reason, or one. `source` and `id` name the right row; the left one is the row of the output."""
REASONS_VERSION = 1
"""Raise it when the same texts get other reasons."""
DIGITS = 5
"""Decimal places of parts: what lies beyond depends on the texts that were encoded in one batch."""
KEPT_REASONS = 10_000
"""Reasons of a run that are kept for pairs that come again: those that were made last."""


class RowPair(NamedTuple):
    """A row of the output and another row, with their cleaned texts."""

    source: str
    """Of the right row."""
    id: str
    left: str
    right: str


@dataclass(frozen=True)
class KnownReasons:
    """Reasons of an output, each by the hash of its texts."""

    places: dict[bytes, int]
    reasons: pa.Table

    @classmethod
    def of(cls, columns: Iterable[pa.Array | pa.ChunkedArray]) -> "KnownReasons":
        """Gather the distinct reasons of columns of the type `REASONS`."""
        places: dict[bytes, int] = {}
        tables = [pa.table({"reason": pa.array([], REASON)})]
        for column in columns:
            reasons = pa.table({"reason": pc.list_flatten(column)})
            hashes = pc.struct_field(reasons["reason"], "texts_hash").to_pylist()
            new = {key: place for place, key in enumerate(hashes) if key not in places}
            places |= {key: len(places) + number for number, key in enumerate(new)}
            tables.append(reasons.take(pa.array(list(new.values()), pa.int64())))
        return cls(places, pa.concat_tables(tables))

    def find(self, wanted: Collection[bytes]) -> dict[bytes, dict[str, Any]]:
        """Return the reasons of some hashes that are there."""
        present = [key for key in wanted if key in self.places]
        rows = self.reasons["reason"].take(pa.array([self.places[key] for key in present], pa.int64())).to_pylist()
        return dict(zip(present, rows, strict=True))


class ReasonColumn:
    """Makes the column, a block of rows at a time; the encoder is loaded when a pair is not known. Threads may share it."""

    def __init__(self, left: Table, right: Table | None = None) -> None:
        """Name the tables of both sides.

        Args:
            left: the table that the output is of.
            right: the table of the other rows, with vectors of the same model; by default the same table.
        """
        other = right or left
        self._left = left
        self._prompts = (left.encoder.prompt, other.encoder.prompt)
        self._own = f"{REASONS_VERSION}|{left.encoder.fingerprint}|{other.encoder.fingerprint}".encode()
        self._explainer: Explainer | None = None
        self._made: dict[bytes, dict[str, Any]] = {}
        self._lock = Lock()

    def make(self, pairs: Sequence[RowPair | None], earlier: KnownReasons) -> pa.ListArray:
        """Return the column for a block of rows.

        Args:
            pairs: one for each row; None, and a pair with an empty text, have no reason.
            known: reasons that are taken over.

        Raises:
            ModelError: the encoder cannot be loaded, or its vectors are no weighted sums of token vectors.
            EncoderMismatchError: the model of that name is no longer the same encoder.
        """
        named = [pair if pair is not None and pair.left.strip() and pair.right.strip() else None for pair in pairs]
        hashes = [b"" if pair is None else self._hash(pair) for pair in named]
        wanted = {key: pair for key, pair in zip(hashes, named, strict=True) if pair is not None}
        reasons = earlier.find(wanted)
        missing = {key: pair for key, pair in wanted.items() if key not in reasons}
        if missing:
            with self._lock:
                reasons |= self._explained(missing)
        rows = [
            [] if pair is None else [{**reasons[key], "source": pair.source, "id": pair.id}]
            for key, pair in zip(hashes, named, strict=True)
        ]
        return pa.array(rows, REASONS)

    def _hash(self, pair: RowPair) -> bytes:
        digest = hashlib.blake2b(self._own, digest_size=16)
        for text in (pair.left, pair.right):
            content = text.encode("utf-8", "surrogatepass")
            digest.update(f"|{len(content)}|".encode() + content)
        return digest.digest()

    def _explained(self, missing: dict[bytes, RowPair]) -> dict[bytes, dict[str, Any]]:
        new = {key: pair for key, pair in missing.items() if key not in self._made}
        if new:
            try:
                self._explainer = self._explainer or Explainer.of_table(self._left)
                texts = [(pair.left, pair.right) for pair in new.values()]
                made = explain_pairs(self._explainer, texts, prompts=self._prompts)
            except ModelError as error:
                raise ModelError(f"reasons cannot be given ({error}): run the job without explain") from error
            self._made |= {key: _record(key, reason) for key, reason in zip(new, made, strict=True)}
        reasons = {key: self._made[key] for key in missing}
        for key in list(self._made)[:-KEPT_REASONS]:
            del self._made[key]
        return reasons


class SplitReasons:
    """The column of a job that goes split by split, and the reasons of its output before."""

    def __init__(self, column: ReasonColumn, job: str, table: Table, out_uri: str) -> None:
        """Read the reasons of the splits that left; the reasons of a split that stayed are read with it.

        Args:
            column: makes reasons.
            job: name of the job whose output is taken over.
            table: the version that is worked on.
            out_uri: the output.
        """
        self._column = column
        before = find_derived(out_uri)
        is_usable = before is not None and before.info.job == job and EXPLANATION in before.schema.names
        self._before = before if is_usable else None
        self._removed = KnownReasons.of([])
        if self._before is not None:
            self._removed = reasons_of_shards(self._before, fingerprints_now(table, self._before.info.job_fingerprint))

    def earlier(self, split: SplitInput) -> KnownReasons:
        """Return the reasons that rows of a split may have had before."""
        if self._before is None:
            return self._removed
        stayed = KnownReasons.of(batch.column(0) for batch in rows_before(self._before, split, [EXPLANATION]))
        return stayed if stayed.places else self._removed

    def make(self, pairs: Sequence[RowPair | None], earlier: KnownReasons) -> pa.ListArray:
        """Return the column for a block of rows; see `ReasonColumn.make`."""
        return self._column.make(pairs, earlier)


def reasons_of_shards(output: DerivedTable, but: Collection[str]) -> KnownReasons:
    """Read the reasons of an output, but for shards with these fingerprints; none if the output has no such column."""
    if EXPLANATION not in output.schema.names:
        return KnownReasons.of([])

    def columns() -> Iterable[pa.ChunkedArray]:
        for shard in output.shards():
            if shard.num_rows and shard.fingerprint not in but:
                with open_shard(output.shard_uri(shard.name)) as parquet:
                    yield parquet.read(columns=[EXPLANATION])[EXPLANATION]

    return KnownReasons.of(columns())


def _record(key: bytes, reason: Reason) -> dict[str, Any]:
    return {
        "cosine": round(reason.cosine, DIGITS),
        "pairs": [{**pair.model_dump(), "part": round(pair.part, DIGITS)} for pair in reason.pairs],
        "warnings": [warning.message for warning in reason.warnings],
        "texts_hash": key,
    }
