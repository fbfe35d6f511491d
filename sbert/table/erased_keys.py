"""The rows that a person asked to erase: ids in every source, or pairs of source and id."""

from collections.abc import Iterable

import polars as pl
import pyarrow as pa

__all__ = ["DOCUMENT_ID", "ErasedKeys", "key_columns"]

DOCUMENT_ID = "document_id"
PASSAGE_MARKS = frozenset({DOCUMENT_ID, "passage", "start", "end"})
"""Columns by which a table of passages is known; another table may keep a column of one of these names."""


class ErasedKeys:
    """Keys of rows to be erased. A row matches a key that is its id alone, or its source and id."""

    def __init__(self, ids: Iterable[str] = (), pairs: Iterable[tuple[str, str]] = ()) -> None:
        """Take ids, which match rows of every source, and pairs of source and id."""
        self.ids = frozenset(ids)
        self.pairs = frozenset(pairs)
        self._ids = pl.Series(sorted(self.ids), dtype=pl.String).implode()
        self._pair_ids = pl.Series(sorted({row_id for _, row_id in self.pairs}), dtype=pl.String).implode()

    def __len__(self) -> int:
        return len(self.ids) + len(self.pairs)

    def __bool__(self) -> bool:
        return len(self) > 0

    @property
    def names(self) -> frozenset[str]:
        """The ids of all keys."""
        return self.ids | {row_id for _, row_id in self.pairs}

    def with_pairs(self, pairs: Iterable[tuple[str, str]]) -> "ErasedKeys":
        """Return these keys and further pairs, such as the passages of documents to be erased."""
        return ErasedKeys(self.ids, self.pairs.union(key for key in pairs if key[1] not in self.ids))

    def among(self, rows: Iterable[tuple[str, str]]) -> "ErasedKeys":
        """Return the keys that match a row of `rows`, pairs of source and id."""
        pairs = frozenset(rows)
        return ErasedKeys(self.ids & {row_id for _, row_id in pairs}, self.pairs & pairs)

    def without(self, others: "ErasedKeys") -> "ErasedKeys":
        """Return the keys that are not among others."""
        return ErasedKeys(self.ids - others.ids, self.pairs - others.pairs)

    def together(self, others: "ErasedKeys") -> "ErasedKeys":
        """Return these keys and others."""
        return ErasedKeys(self.ids | others.ids, self.pairs | others.pairs)

    def described(self) -> list[str]:
        """Return each key for a person, sorted: the id, or ``ID of SOURCE``."""
        return sorted([*self.ids, *(f"{row_id} of {source}" for source, row_id in self.pairs)])

    def mask(self, rows: pl.DataFrame) -> pl.Series:
        """Return, for each row, whether it matches a key. `rows` has the columns ``source`` and ``id``; null matches no key.

        With a column ``document_id`` a passage also matches a key of its document.
        """
        meant = self._meant(rows, "id")
        return meant | self._meant(rows, DOCUMENT_ID) if DOCUMENT_ID in rows.columns else meant

    def arrow_mask(self, rows: pa.Table | pa.RecordBatch, columns: list[str] | None = None) -> pl.Series:
        """Return, for each Arrow row, whether it matches a key, by `columns` of the whole table (`key_columns`)."""
        frame = pl.from_arrow(rows.select(key_columns(rows.schema) if columns is None else columns))
        assert isinstance(frame, pl.DataFrame)
        return self.mask(frame)

    def _meant(self, rows: pl.DataFrame, column: str) -> pl.Series:
        meant = rows.select(pl.col(column).is_in(self._ids).fill_null(value=False)).to_series()
        if not self.pairs:
            return meant.alias("meant")
        near = rows.select(pl.col(column).is_in(self._pair_ids).fill_null(value=False)).to_series() & ~meant
        places = near.arg_true()
        meant_places = [
            place
            for place, key in zip(places.to_list(), rows.select("source", column)[places].iter_rows(), strict=True)
            if key in self.pairs
        ]
        return (meant.scatter(meant_places, values=True) if meant_places else meant).alias("meant")


def key_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that keys are compared with: source and id, and the document's id in tables of passages."""
    return ["source", "id", *([DOCUMENT_ID] if set(schema.names) >= PASSAGE_MARKS else [])]
