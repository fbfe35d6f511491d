"""Smaller vectors: int8 with one scale a vector, and the first values of a Matryoshka encoder.

A vector is reduced once, right after the encoder, and from then on keeps its stored form. So a vector that is carried
over stays the same to the last bit, however often its row is rewritten.
"""

from enum import StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from sbert.vectors.unit import unit_rows

__all__ = [
    "MIN_RECALL",
    "Precision",
    "QuantizationStatistics",
    "StoredVectors",
    "dequantize",
    "norm_tolerance",
    "quantize",
    "recall_at_10",
    "reduce_vectors",
    "restore",
    "stored_dtype",
    "truncate",
]

MAX_INT8 = 127
"""-128 is never used: the range is symmetric."""
NORM_TOLERANCE = 1e-3
NEIGHBOURS = 10
MIN_RECALL = 0.95
"""Share of the ten nearest rows that smaller vectors must find, unless a setting says otherwise."""
TIE = 1e-6
"""Scores that differ by less than this share count as equal."""
QUERIES_PER_BLOCK = 512

Float32 = npt.NDArray[np.float32]
StoredVectors = npt.NDArray[Any]
"""N vectors as a table stores them: float32 of shape (N, dim), or records (values, scale) of shape (N,)."""


class Precision(StrEnum):
    """Type of the stored values."""

    FLOAT32 = "float32"
    """4 bytes a value."""
    INT8 = "int8"
    """1 byte a value and one float32 scale a vector."""


class QuantizationStatistics(BaseModel):
    """Statistics of the quantization of some vectors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_scale: float = Field(description="Least scale of a vector.")
    max_scale: float = Field(description="Greatest scale of a vector.")
    num_values: int = Field(description="Values that were quantized.")
    num_saturated: int = Field(description="Quantized values at the end of the range (-127 or 127).")

    @classmethod
    def of(cls, stored: StoredVectors) -> Self | None:
        """Return the statistics of stored vectors; None when there are none, or they are not quantized."""
        if stored.dtype.names is None or not len(stored):
            return None
        return cls(
            min_scale=float(stored["scale"].min()),
            max_scale=float(stored["scale"].max()),
            num_values=stored["values"].size,
            num_saturated=int((np.abs(stored["values"]) == MAX_INT8).sum()),
        )

    def merged(self, other: "QuantizationStatistics | None") -> "QuantizationStatistics":
        """Return the statistics of the vectors of both."""
        if other is None:
            return self
        return QuantizationStatistics(
            min_scale=min(self.min_scale, other.min_scale),
            max_scale=max(self.max_scale, other.max_scale),
            num_values=self.num_values + other.num_values,
            num_saturated=self.num_saturated + other.num_saturated,
        )


def stored_dtype(dim: int, precision: Precision) -> np.dtype[Any]:
    """Return the NumPy type of one stored vector."""
    if precision is Precision.INT8:
        return np.dtype([("values", "i1", (dim,)), ("scale", "f4")])
    return np.dtype(("f4", (dim,)))


def quantize(vectors_ND: Float32) -> StoredVectors:
    """Quantize N vectors to int8: ``scale = max|v| / 127`` of each vector, ``values = round(v / scale)``.

    Symmetric absmax quantization with one scale a vector, as vector-wise quantization in Dettmers et al. 2022, "LLM.int8()",
    section 2. Each value is off by half a scale at most; a vector of zeros has scale 0.
    """
    stored = np.empty(len(vectors_ND), dtype=stored_dtype(vectors_ND.shape[1], Precision.INT8))
    stored["scale"] = np.abs(vectors_ND).max(axis=1, initial=0) / np.float32(MAX_INT8)
    divisor_N1 = np.where(stored["scale"] > 0, stored["scale"], np.float32(np.inf))[:, None]
    # clip: a scale so small that float32 holds it coarsely (below 1e-38) could give more than 127
    stored["values"] = np.clip(np.rint(vectors_ND / divisor_N1), -MAX_INT8, MAX_INT8)
    return stored


def dequantize(values_ND: npt.NDArray[np.int8], scale_N: Float32) -> Float32:
    """Return the float32 vectors that int8 values and scales stand for, shape (N, dim)."""
    return values_ND.astype(np.float32) * scale_N[:, None]


def truncate(vectors_ND: Float32, dim: int, *, normalize: bool) -> Float32:
    """Return the first `dim` values of each vector, with unit length again when `normalize`.

    Kusupati et al. 2022, "Matryoshka Representation Learning", section 3: an encoder trained so keeps the most
    important information in its first values. Other encoders can be cut too.
    `sbert.table.quantization_recall` measures the loss.
    """
    if dim == vectors_ND.shape[1]:
        return vectors_ND
    first_ND = vectors_ND[:, :dim].copy()
    if normalize:
        return unit_rows(first_ND)
    return first_ND


def reduce_vectors(vectors_ND: Float32, *, dim: int, precision: Precision, normalize: bool) -> StoredVectors:
    """Return an encoder's vectors in the form in which a table stores them."""
    first_ND = truncate(vectors_ND, dim, normalize=normalize)
    return quantize(first_ND) if precision is Precision.INT8 else first_ND


def restore(stored: StoredVectors) -> Float32:
    """Return stored vectors as float32, shape (N, dim)."""
    return stored if stored.dtype.names is None else dequantize(stored["values"], stored["scale"])


def norm_tolerance(stored: StoredVectors) -> Float32:
    """Return, for each stored vector, how far its norm may be from the norm of the vector it was computed from.

    Each value is off by half a scale at most, so the norm is by ``sqrt(dim) * scale / 2`` at most.
    """
    if stored.dtype.names is None:
        return np.full(len(stored), NORM_TOLERANCE, dtype=np.float32)
    half_diagonal = np.float32(np.sqrt(stored["values"].shape[1]) / 2)
    return np.asarray(NORM_TOLERANCE + stored["scale"] * half_diagonal, dtype=np.float32)


def recall_at_10(approximate_ND: Float32, exact_ND: Float32) -> float:
    """Return the share of the ten nearest neighbours that approximate vectors find, with each of N rows as a query (0 to 1).

    Neighbours are by inner product, without the row itself; a row that is found counts when its exact score is at least that
    of the tenth exact neighbour, so that ties are not misses (Aumüller et al. 2020, "ANN-Benchmarks", section 2.1). Of fewer
    than eleven rows all others are neighbours.
    """
    num_rows = len(exact_ND)
    k = min(NEIGHBOURS, num_rows - 1)
    if k < 1:
        return 1.0
    hits = 0
    for first in range(0, num_rows, QUERIES_PER_BLOCK):
        queries = np.arange(first, min(first + QUERIES_PER_BLOCK, num_rows))
        exact, approximate = exact_ND[queries] @ exact_ND.T, approximate_ND[queries] @ approximate_ND.T
        exact[queries - first, queries] = approximate[queries - first, queries] = -np.inf
        threshold = np.partition(exact, -k, axis=1)[:, -k, None]
        nearest = np.argpartition(approximate, -k, axis=1)[:, -k:]
        hits += int((np.take_along_axis(exact, nearest, axis=1) >= threshold - TIE * np.abs(threshold)).sum())
    return hits / (num_rows * k)
