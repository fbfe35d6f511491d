"""`CoordinatesJob`: x and y of every row of a table, as a derived table that other viewers can read.

Rows of the sample lie where the layout puts them. A row outside the sample lies between its nearest rows of the sample. The
places depend on the whole sample, so the fingerprint names it: a table that did not change is not laid out again, and a
changed sample lays out everything.
"""

import hashlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from sbert.apply.map.layout import lay_out
from sbert.apply.map.settings import LayoutSettings
from sbert.apply.row_sample import read_sample
from sbert.derived.job import KEY_COLUMNS, DerivedJob, SplitFunction, SplitInput
from sbert.table.delta import Table
from sbert.table.shards import vector_matrix, vector_names
from sbert.table.text_index import hash_matrix

__all__ = ["CoordinatesJob"]

Float32 = npt.NDArray[np.float32]
NEAREST = 3
"""Rows of the sample between which another row lies."""
ROWS_PER_PRODUCT = 2_048


class CoordinatesJob(DerivedJob):
    """The place of each row in the plane."""

    name: ClassVar[str] = "map"

    layout: LayoutSettings = LayoutSettings()

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return two columns: x and y."""
        return pa.schema([pa.field("x", pa.float32()), pa.field("y", pa.float32())])

    def fingerprint(self, table: Table) -> str:
        """Add the texts of the sample: each of them can move every row."""
        rows = read_sample(table, self.layout.max_rows, with_vectors=False).rows
        digest = hashlib.sha256(super().fingerprint(table).encode())
        for text_hash in rows["text_hash"]:
            digest.update(text_hash)
        return digest.hexdigest()

    def open(self, table: Table, out_uri: str) -> SplitFunction:  # noqa: ARG002
        """Lay out the sample."""
        sample = read_sample(table, self.layout.max_rows)
        places_N2 = lay_out(sample.vectors_ND, self.layout)
        placer = _Placer(sample.rows["text_hash"].to_list(), sample.vectors_ND, places_N2)
        columns = [*KEY_COLUMNS, *vector_names(table.encoder.precision)]

        def derive(split: SplitInput) -> Iterator[pa.Table]:
            for rows in split.rows(columns):
                vectors_ND = vector_matrix(rows, table.encoder.dim, table.encoder.precision)
                hashes = [row.tobytes() for row in hash_matrix(rows["text_hash"])]
                places = placer.place(hashes, vectors_ND)
                keys = [rows[name] for name in KEY_COLUMNS]
                yield pa.Table.from_arrays(
                    [*keys, pa.array(places[:, 0]), pa.array(places[:, 1])], names=[*KEY_COLUMNS, "x", "y"]
                )

        return derive


class _Placer:
    """Places rows among the rows of a sample."""

    def __init__(self, hashes: list[bytes], vectors_ND: Float32, places_N2: Float32) -> None:
        self._number_of = {text_hash: number for number, text_hash in reversed(list(enumerate(hashes)))}
        self._vectors_ND = torch.from_numpy(vectors_ND)
        self._places_N2 = places_N2

    def place(self, hashes: list[bytes], vectors_ND: Float32) -> Float32:
        """Return the places of rows, shape (rows, 2); equal texts have one place."""
        numbers = np.array([self._number_of.get(text_hash, -1) for text_hash in hashes], np.int64)
        places = self._places_N2[numbers]
        unknown = np.flatnonzero(numbers < 0)
        for first in range(0, len(unknown), ROWS_PER_PRODUCT):
            rows = unknown[first : first + ROWS_PER_PRODUCT]
            scores = torch.from_numpy(np.array(vectors_ND[rows])) @ self._vectors_ND.T
            nearest = torch.topk(scores, min(NEAREST, scores.shape[1]), dim=1)
            weights = torch.softmax(nearest.values * 10, dim=1).numpy()
            places[rows] = np.einsum("rk,rkd->rd", weights, self._places_N2[nearest.indices.numpy()])
        return places
