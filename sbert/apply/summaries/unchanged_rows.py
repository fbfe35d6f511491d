"""Rows of the output before that are still right: the rows of unchanged documents inside a changed split."""

from collections.abc import Collection, Sequence
from typing import Any

import polars as pl

from sbert.apply.summaries.documents import Document
from sbert.derived.derived_table import DerivedTable
from sbert.storage.files import delta_storage_options

__all__ = ["UnchangedRows"]

KEYS = ["source", "id", "digest"]


class UnchangedRows:
    """The rows of shards that are going to be dropped. Memory holds their keys; a row is read when it is asked for."""

    def __init__(self, before: DerivedTable | None, wanted: Collection[str]) -> None:
        """Read the keys.

        Args:
            before: the output before, made by the same job; None when there is none.
            wanted: fingerprints of the parts that stay or are built; shards of other parts are looked into.
        """
        self._shards = (
            []
            if before is None
            else [
                before.shard_uri(shard.name)
                for shard in before.shards()
                if shard.num_rows and shard.fingerprint not in wanted
            ]
        )
        self._options = {} if before is None else delta_storage_options(before.uri)
        self._places = pl.DataFrame(schema=dict(zip(KEYS, (pl.String, pl.String, pl.Binary), strict=True)))
        if self._shards:
            keys = [self._scan(shard).select(*KEYS, shard=pl.lit(number)) for number, shard in enumerate(self._shards)]
            self._places = pl.concat(keys).with_columns(at=pl.int_range(pl.len()).over("shard")).collect()

    def rows_of(self, documents: Sequence[Document]) -> list[dict[str, Any] | None]:
        """Return the row of each document; None where there is none of its digest."""
        rows: list[dict[str, Any] | None] = [None] * len(documents)
        if not self._shards:
            return rows
        asked = pl.DataFrame(
            [(document.source, document.id, document.digest, number) for number, document in enumerate(documents)],
            schema={"source": pl.String, "id": pl.String, "digest": pl.Binary, "number": pl.Int64},
            orient="row",
        )
        matched = asked.join(self._places, on=KEYS).unique("number", keep="first")
        for (shard,), part in matched.partition_by("shard", as_dict=True).items():
            places = part.sort("at")
            taken = (
                self._scan(self._shards[int(shard)])
                .with_row_index("_at")
                .filter(pl.col("_at").is_in(places["at"].cast(pl.UInt32).implode()))
                .drop("_at")
                .collect()
            )
            for number, row in zip(places["number"].to_list(), taken.iter_rows(named=True), strict=True):
                rows[number] = row
        return rows

    def _scan(self, shard: str) -> pl.LazyFrame:
        return pl.scan_parquet(shard, glob=False, storage_options=self._options or None)
