"""The texts of rows that are named by their keys, as the table's cleaning leaves them."""

from collections.abc import Collection
from threading import Lock

import polars as pl

from sbert.apply.nearest_rows import Key
from sbert.apply.text_vectors import table_texts
from sbert.table.delta import Table

__all__ = ["RowTexts"]

KEPT_TEXTS = 50_000
"""Texts that are kept for keys that come again: those that were read last."""


class RowTexts:
    """Reads texts of one version. Each call looks through the keys and the text column once; threads may share it."""

    def __init__(self, table: Table, column: str) -> None:
        """Name the kept column."""
        self._table = table
        self._column = column
        self._kept: dict[Key, str] = {}
        self._lock = Lock()

    def read(self, keys: Collection[Key]) -> dict[Key, str]:
        """Return the text of each key that the table has; that of a row without text is empty."""
        wanted = set(keys)
        with self._lock:
            missing = sorted(wanted - self._kept.keys())
            if missing:
                self._kept |= self._read(missing)
            texts = {key: self._kept[key] for key in wanted if key in self._kept}
            for key in list(self._kept)[:-KEPT_TEXTS]:
                del self._kept[key]
        return texts

    def _read(self, keys: list[Key]) -> dict[Key, str]:
        named = pl.DataFrame(keys, schema={"source": pl.String, "id": pl.String}, orient="row")
        rows = (
            self._table.scan()
            .select(pl.col("source", "id").cast(pl.String), text=pl.col(self._column).cast(pl.String).fill_null(""))
            .join(named.lazy(), on=["source", "id"], how="semi")
            .collect(engine="streaming")
        )
        texts = table_texts(self._table, rows["text"].to_list()).to_list()
        return dict(zip(rows.select("source", "id").iter_rows(), texts, strict=True))
