"""`AlignmentJob`: the translation of every row of a table in another table, as a derived table of the left one.

The partner of a row depends on all rows of both tables, so the fingerprint hashes the splits of both. When either changes,
all is computed again: two times N x M products, about 5 s for 10,000 and 10,000 rows of 384 values on two cores. An
incremental run could not be proven equal at a lower cost: a new row may take the partner of another, whose next choice
takes that of a third, and so on.
"""

import hashlib
import logging
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from pydantic import Field

from sbert.apply.alignment.mining import align_vectors
from sbert.apply.alignment.sides import SideRows
from sbert.derived.job import KEY_COLUMNS, DerivedJob, SplitFunction, SplitInput
from sbert.errors import SettingsError
from sbert.index.top_k import NO_ROW
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table

__all__ = ["AlignmentJob"]

log = logging.getLogger(__name__)

MATCH = pa.struct([("source", pa.string()), ("id", pa.string())])


class AlignmentJob(DerivedJob):
    """The row of another table that says the same in another language, one to one."""

    name: ClassVar[str] = "align"

    right_uri: str = Field(min_length=1, description="The other embeddings table, made with the same encoder.")
    right_version: int = Field(ge=0, description="Its version.")
    k: int = Field(default=16, ge=1, le=64, description="Nearest rows that a pair is compared with (rows).")
    min_margin: float = Field(
        default=1.0, ge=0, le=10, description="Least ratio of a pair's cosine to that of the nearest rows (ratio)."
    )
    max_length_ratio: float = Field(
        default=2.5, ge=1, le=100, description="Factor by which one text of a pair may be longer than usual (ratio)."
    )

    @classmethod
    def of_newest(cls, right_uri: str, **settings: Any) -> Self:
        """Return a job that reads the newest version of the other table.

        Raises:
            NotATableError: there is none.
        """
        right = Table.open(right_uri)
        return cls.model_validate({"right_uri": right.uri, "right_version": right.version, **settings})

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return the key of the partner, cosine and margin of the pair, and the reason of a row without partner."""
        return pa.schema(
            [("match", MATCH), ("cosine", pa.float32()), ("margin", pa.float32()), ("reason", pa.string())]
        )

    def check(self, table: Table) -> None:
        """Check also that both tables are of one encoder, and are two."""
        super().check(table)
        right = self._right()
        if normalize_uri(table.uri) == normalize_uri(right.uri):
            raise SettingsError(f"{table.uri}: both sides are this table: name the table of the other language")
        ours, theirs = table.encoder, right.encoder
        if (ours.model_fingerprint, ours.dim) != (theirs.model_fingerprint, theirs.dim):
            raise SettingsError(
                f"{table.uri} has vectors of {ours.model} (dim {ours.dim}), {right.uri} of {theirs.model} (dim "
                f"{theirs.dim}): make both tables with one multilingual encoder"
            )

    def fingerprint(self, table: Table) -> str:
        """Hash every split of both tables, but not the version of the other: compaction changes nothing."""
        parts = [
            self.name,
            str(self.code_version),
            self.model_dump_json(exclude={"right_version"}),
            *(f"{side.table.encoder.fingerprint} {side.splits}" for side in (SideRows(table), SideRows(self._right()))),
        ]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def open(self, table: Table, out_uri: str) -> SplitFunction:  # noqa: ARG002
        """Align both tables; each worker process does it once."""
        left, right = SideRows(table), SideRows(self._right())
        for side in (left, right):
            if side.text_column is None:
                log.warning("%s: no text is kept, so lengths, numbers and languages are not checked", side.table.uri)
        alignment = align_vectors(
            left.vectors,
            right.vectors,
            (left.sentence_facts(), right.sentence_facts()),
            (left.ranks, right.ranks),
            k=self.k,
            min_margin=self.min_margin,
            max_length_ratio=self.max_length_ratio,
        )

        def derive(split: SplitInput) -> Iterator[pa.Table]:
            first = left.first_row(split.fingerprint)
            for rows in split.rows(list(KEY_COLUMNS)):
                places = slice(first, first + len(rows))
                first += len(rows)
                partner = alignment.partner_N[places]
                columns = [
                    *(rows[name] for name in KEY_COLUMNS),
                    _partners(right.keys, partner),
                    pa.array(alignment.cosine_N[places]),
                    pa.array(alignment.margin_N[places]),
                    pa.array(alignment.reason_N[places].tolist(), pa.string()),
                ]
                yield pa.Table.from_arrays(columns, names=[*KEY_COLUMNS, "match", "cosine", "margin", "reason"])

        return derive

    def _right(self) -> Table:
        return Table.open(self.right_uri, self.right_version)


def _partners(keys: pa.Table, partner_N: np.ndarray[Any, np.dtype[np.int64]]) -> pa.Array:
    """Return the keys of partners; null for a row without one."""
    is_none = partner_N == NO_ROW
    partners = keys.take(pa.array(np.where(is_none, 0, partner_N), mask=is_none)).combine_chunks()
    fields = [
        partners[name].combine_chunks() if partners.num_rows else pa.array([], pa.string()) for name in ("source", "id")
    ]
    return pa.StructArray.from_arrays(fields, fields=list(MATCH), mask=pa.array(is_none))
