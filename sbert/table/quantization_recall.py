"""Measure recall@10 of smaller vectors against float32, on the rows of the run itself, before they are published.

A split keeps the smaller vectors only, so it leaves a sample of its float32 vectors beside its completion record. The
sample is the texts with the smallest hashes: it is random, it does not depend on the worker, and samples of several
splits can be joined. The samples are removed after the commit.
"""

import io
import logging
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted
from sbert.errors import MissingError, QualityError, StorageError
from sbert.storage.files import delete, join, read_bytes, write_bytes
from sbert.table.commit_record import recorded_in
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.table.shards import embedding_column, embedding_matrix
from sbert.table.split_records import SPLITS_FOLDER, SplitRecord
from sbert.vectors.precision import Float32, Precision, QuantizationStatistics, recall_at_10, reduce_vectors, restore

__all__ = [
    "RECORD_KEY",
    "FirstLook",
    "Reduction",
    "VectorSample",
    "measure",
    "newest_reduction",
    "reduction_of_run",
    "remove_samples",
    "rows_to_sample",
    "write_sample",
]

log = logging.getLogger(__name__)

SAMPLE_ROWS = 2_000
"""Rows among which neighbours are searched."""
MIN_ROWS = 50
"""With fewer rows, recall means nothing."""
FIRST_LOOK_ROWS = 1_000
"""Texts after which a run warns that it will probably be refused, rather than hours later."""
MIN_ROWS_OF_SPLIT = 16
"""If there are very many splits, some of them leave a sample of this size, and the others leave no sample."""
RECORD_KEY = "reduction"
MAX_COMMITS = 100
"""Commits that are searched for what an earlier run measured, from the newest back."""


class Reduction(BaseModel):
    """The measurements of a run on its reduced vectors, kept in its commit."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    encoder_fingerprint: str
    recall_at_10: float | None = Field(description="Share of the ten nearest that are found; empty: too few rows.")
    num_rows_compared: int = Field(description="Rows among which recall was measured, or would have been.")
    min_recall: float = Field(description="Least recall that was accepted.")
    calibration: QuantizationStatistics | None = Field(
        default=None, description="Scales of the rows written with this encoder so far; empty when not quantized."
    )

    def describe(self) -> str:
        """Return the measured recall in words."""
        if self.recall_at_10 is None:
            return f"not measured: only {counted(self.num_rows_compared, 'new text')}, at least {MIN_ROWS} are needed"
        return f"{self.recall_at_10:.4f} among {counted(self.num_rows_compared, 'row')} (accepted from {self.min_recall:g})"


class VectorSample:
    """Up to `max_rows` of the vectors added: the vectors of the texts with the smallest hashes."""

    def __init__(self, max_rows: int, dim: int) -> None:
        """Start empty."""
        self._max_rows = max_rows
        self.hashes = np.zeros((0, 16), dtype=np.uint8)
        self.vectors_ND: Float32 = np.zeros((0, dim), dtype=np.float32)

    def __len__(self) -> int:
        return len(self.hashes)

    def add(self, hashes: npt.NDArray[np.uint8], vectors_ND: Float32) -> None:
        """Add N texts: hashes of shape (N, 16), float32 vectors of shape (N, dim)."""
        if not self._max_rows:
            return
        hashes = np.concatenate([self.hashes, hashes])
        vectors_ND = np.concatenate([self.vectors_ND, vectors_ND])
        _, first = np.unique(np.ascontiguousarray(hashes).view("V16")[:, 0], return_index=True)
        least = first[: self._max_rows]  # np.unique sorts
        self.hashes, self.vectors_ND = hashes[least], vectors_ND[least]


class FirstLook:
    """Warns once when recall is too low among the first texts of a run. The decision is made at the end."""

    def __init__(self, encoder: EncoderInfo) -> None:
        """Start empty."""
        self._encoder = encoder
        self._sample: VectorSample | None = VectorSample(SAMPLE_ROWS, encoder.full_dim) if encoder.is_reduced else None

    def add(self, hashes: npt.NDArray[np.uint8], vectors_ND: Float32) -> None:
        """Add N texts: hashes of shape (N, 16), float32 vectors of shape (N, full dim)."""
        if self._sample is None:
            return
        self._sample.add(hashes, vectors_ND)
        if len(self._sample) < FIRST_LOOK_ROWS:
            return
        recall, num_rows, self._sample = _recall_of(self._encoder, self._sample), len(self._sample), None
        if recall < self._encoder.min_recall:
            log.warning(
                "recall@10 is %.4f among the first %d texts, the limit is %.4f: the run will probably be refused; "
                "stop now and choose %s, or lower min_recall (what is built is kept)",
                recall,
                num_rows,
                self._encoder.min_recall,
                _remedy(self._encoder),
            )


def _recall_of(encoder: EncoderInfo, sample: VectorSample) -> float:
    stored = reduce_vectors(
        sample.vectors_ND, dim=encoder.dim, precision=encoder.precision, normalize=encoder.normalized
    )
    return recall_at_10(restore(stored), sample.vectors_ND)


def rows_to_sample(encoder: EncoderInfo, fingerprint: str, num_splits: int) -> int:
    """Return the number of rows that a split keeps as a sample, in a run that builds `num_splits`."""
    if not encoder.is_reduced:
        return 0
    num_sampled = SAMPLE_ROWS // MIN_ROWS_OF_SPLIT
    if num_splits > num_sampled and int(fingerprint[:12], 16) % num_splits >= num_sampled:
        return 0
    return max(MIN_ROWS_OF_SPLIT, -(-SAMPLE_ROWS // max(1, num_splits)))


def _sample_uri(table_uri: str, fingerprint: str) -> str:
    return join(table_uri, SPLITS_FOLDER, f"{fingerprint}.sample.parquet")


def write_sample(table_uri: str, fingerprint: str, sample: VectorSample) -> None:
    """Write a split's sample beside its record; an earlier sample stays when nothing was encoded this time."""
    if not len(sample):
        return
    rows = pa.table(
        {
            "text_hash": pa.array([row.tobytes() for row in sample.hashes], pa.binary()),
            "embedding": embedding_column(sample.vectors_ND),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd")
    write_bytes(_sample_uri(table_uri, fingerprint), buffer.getvalue())


def _read_samples(table_uri: str, records: Iterable[SplitRecord], dim: int) -> VectorSample:
    sample = VectorSample(SAMPLE_ROWS, dim)
    for record in records:
        if not record.has_sample:
            continue
        try:
            rows = pq.read_table(io.BytesIO(read_bytes(_sample_uri(table_uri, record.fingerprint))))
        except MissingError:
            continue  # another run published the split, and removed it
        hashes = np.frombuffer(b"".join(rows["text_hash"].to_pylist()), dtype=np.uint8).reshape(-1, 16)
        sample.add(hashes, embedding_matrix(rows["embedding"], dim))
    return sample


def remove_samples(table_uri: str, records: Iterable[SplitRecord]) -> None:
    """Remove the samples of published splits; a sample that cannot be removed is left to vacuum."""
    try:
        delete(_sample_uri(table_uri, record.fingerprint) for record in records if record.has_sample)
    except StorageError as error:
        log.warning("%s: samples of float32 vectors stay until vacuum: %s", table_uri, error)


def measure(
    table_uri: str, encoder: EncoderInfo, records: list[SplitRecord], before: Reduction | None = None
) -> Reduction:
    """Measure the recall of new splits' stored vectors against float32; `before` is the record of the table.

    Raises:
        QualityError: when recall is below `EncoderInfo.min_recall`.
    """
    sample = _read_samples(table_uri, records, encoder.full_dim)
    calibration = before.calibration if before is not None else None
    for record in records:
        calibration = record.calibration.merged(calibration) if record.calibration is not None else calibration
    reduction = Reduction(
        encoder_fingerprint=encoder.fingerprint,
        recall_at_10=None,
        num_rows_compared=len(sample),
        min_recall=encoder.min_recall,
        calibration=calibration,
    )
    if len(sample) < MIN_ROWS:
        log.info("recall@10 is not measured: %d texts were encoded, at least %d are needed", len(sample), MIN_ROWS)
        return reduction
    recall = _recall_of(encoder, sample)
    if recall < encoder.min_recall:
        raise QualityError(
            f"{table_uri}: recall@10 against float32 is {recall:.4f} with precision {encoder.precision.value} and "
            f"{encoder.dim} of {encoder.full_dim} values, measured among {counted(len(sample), 'row')}. min_recall is "
            f"{encoder.min_recall:.4f}, so nothing was published: choose {_remedy(encoder)}, or lower min_recall"
        )
    log.info("recall@10 against float32 is %.4f among %d rows", recall, len(sample))
    return reduction.model_copy(update={"recall_at_10": round(recall, 6)})


def _remedy(encoder: EncoderInfo) -> str:
    choices = []
    if encoder.dim < encoder.full_dim:
        choices.append(f"an output_dim above {encoder.dim} (or a model trained with Matryoshka loss)")
    if encoder.precision is not Precision.FLOAT32:
        choices.append("precision float32")
    return " or ".join(choices)


def reduction_of_run(table: Table, run_id: str) -> Reduction | None:
    """Return a run's measurement of its smaller vectors; None when it did not make this version, or has none."""
    recorded = table.last_commit()
    if recorded.get("run_id") != run_id or RECORD_KEY not in recorded:
        return None
    return Reduction.model_validate(recorded[RECORD_KEY])


def newest_reduction(table: Table) -> Reduction | None:
    """Return the newest record of this encoder's vectors, with the newest recall that was measured."""
    newest: Reduction | None = None
    for entry in table.history(MAX_COMMITS):
        recorded = recorded_in(entry).get(RECORD_KEY)
        if recorded is None or recorded.get("encoder_fingerprint") != table.encoder.fingerprint:
            continue
        reduction = Reduction.model_validate(recorded)
        newest = newest or reduction
        if reduction.recall_at_10 is not None:
            measured = {name: getattr(reduction, name) for name in ("recall_at_10", "num_rows_compared", "min_recall")}
            return newest.model_copy(update=measured)
    return newest
