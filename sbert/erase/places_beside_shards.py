"""The places beside the shards that this library writes: rejected rows, misfits, samples, records, leases, the log."""

import io
import json
import re
from collections.abc import Sequence
from typing import ClassVar

import polars as pl
import pyarrow.parquet as pq

from sbert.counted import counted
from sbert.erase.places import ErasedRows, FilePlace, Place
from sbert.erase.receipt import PlaceReport
from sbert.errors import MissingError
from sbert.refresh.run_metrics import RUNS_FOLDER
from sbert.storage.files import delete, filesystem, join, read_bytes, strip_protocol, write_bytes
from sbert.table.drift_sample import DriftSample
from sbert.table.erased_keys import ErasedKeys
from sbert.table.followers import FOLLOWERS_FOLDER
from sbert.table.lease import LEASES_FOLDER, active_leases
from sbert.table.split_records import MISFITS_FOLDER, REJECTED_FOLDER, SPLITS_FOLDER
from sbert.table.tombstones import ERASE, ERASED_FOLDER
from sbert.table.vacuum import DIGESTS_FOLDER

__all__ = [
    "DigestFiles",
    "LogBounds",
    "MisfitRows",
    "OwnRecords",
    "RejectedRows",
    "RunSample",
    "RunSummaries",
    "SplitSamples",
    "TemporaryFiles",
]

REDACTED = "erased on request"
SAMPLE_ENDING = ".sample.parquet"
TEMPORARY_NAME = re.compile(r"\..*\.tmp")


class RejectedRows(FilePlace):
    """Rejected rows. The reason and the count of a row stay; its id, detail and original are removed.

    A line that could not be parsed has no id. It is redacted when its bytes hold an erased id as a word.
    """

    name: ClassVar[str] = "rejected rows"
    verb: ClassVar[str] = "redacted"
    folder: ClassVar[str] = REJECTED_FOLDER

    def owns(self, path: str) -> bool:
        """Return whether a file is one of rejected rows."""
        return path.startswith(f"{self.folder}/") and path.endswith(".parquet")

    def count(self, table_uri: str, path: str, rows: ErasedRows) -> int:
        """Count rows that have an erased id, and lines that hold one."""
        frame = _read_parquet(table_uri, path)
        return 0 if frame is None else int(self._meant(frame, rows).sum())

    def clean(self, table_uri: str, path: str, rows: ErasedRows) -> None:
        """Write the file again with the values of erased rows taken out."""
        frame = _read_parquet(table_uri, path)
        if frame is not None:
            meant = self._meant(frame, rows)
            buffer = io.BytesIO()
            frame.with_columns(self._redactions(meant)).write_parquet(buffer)
            write_bytes(join(table_uri, path), buffer.getvalue())

    def keys_in(self, table_uri: str, paths: Sequence[str], keys: ErasedKeys) -> ErasedKeys:
        """Return the keys of rejected rows, and the ids that lines without an id hold."""
        rejected_keys = ErasedKeys()
        for path in paths:
            frame = _read_parquet(table_uri, path)
            if frame is None:
                continue
            named = frame.filter(pl.col("id").is_not_null()).select("source", "id")
            rows = {key for source, row_id in named.iter_rows() for key in _key_and_document(source, row_id)}
            if frame.schema["original"] == pl.Binary:
                words = _words(keys.names)
                for source, line in frame.filter(pl.col("id").is_null()).select("source", "original").iter_rows():
                    rows |= {(source, word.decode("utf-8", "surrogateescape")) for word in words.findall(line or b"")}
            rejected_keys = rejected_keys.together(keys.among(rows))
        return rejected_keys

    def _meant(self, frame: pl.DataFrame, rows: ErasedRows) -> pl.Series:
        document = pl.col("id").str.replace(r"#\d+$", "").alias("document_id")  # a passage is called after its document
        meant = rows.keys.mask(frame.select("source", "id", document))
        without_id = frame["id"].is_null() & (frame["original"].bin.size() > 0)
        if without_id.any():
            words = _words(rows.keys.names)
            holding = [place for place in without_id.arg_true() if words.search(frame["original"][place] or b"")]
            meant = meant.scatter(holding, values=True) if holding else meant
        return meant

    def _redactions(self, meant: pl.Series) -> list[pl.Expr]:
        taken = pl.lit(meant)
        return [
            pl.when(taken).then(None).otherwise(pl.col("id")).alias("id"),
            pl.when(taken).then(pl.lit(REDACTED)).otherwise(pl.col("detail")).alias("detail"),
            pl.when(taken).then(pl.lit(b"")).otherwise(pl.col("original")).alias("original"),
        ]


class MisfitRows(RejectedRows):
    """Kept values that did not fit their column. The id and the original value are removed."""

    name: ClassVar[str] = "values that did not fit"
    folder: ClassVar[str] = MISFITS_FOLDER

    def _meant(self, frame: pl.DataFrame, rows: ErasedRows) -> pl.Series:
        return rows.keys.mask(frame)

    def _redactions(self, meant: pl.Series) -> list[pl.Expr]:
        taken = pl.lit(meant)
        return [pl.when(taken).then(None).otherwise(pl.col(name)).alias(name) for name in ("id", "original")]


class SplitSamples(FilePlace):
    """Float32 vectors of some rows of unpublished splits, by text hash."""

    name: ClassVar[str] = "samples of unpublished splits"

    def owns(self, path: str) -> bool:
        """Return whether a file is a sample."""
        return path.startswith(f"{SPLITS_FOLDER}/") and path.endswith(SAMPLE_ENDING)

    def count(self, table_uri: str, path: str, rows: ErasedRows) -> int:
        """Count vectors of erased texts."""
        frame = _read_parquet(table_uri, path)
        return 0 if frame is None else int(_of_texts(frame["text_hash"], rows).sum())

    def clean(self, table_uri: str, path: str, rows: ErasedRows) -> None:
        """Write the sample again without these texts."""
        try:
            table = pq.read_table(io.BytesIO(read_bytes(join(table_uri, path))))
        except MissingError:
            return
        hashes = pl.Series(table["text_hash"].to_pylist(), dtype=pl.Binary)
        buffer = io.BytesIO()
        pq.write_table(table.filter((~_of_texts(hashes, rows)).to_arrow()), buffer)
        write_bytes(join(table_uri, path), buffer.getvalue())


class RunSample(FilePlace):
    """The newest sample of rows in ``_runs/``: removed when it has an erased text; the next run reads it anew."""

    name: ClassVar[str] = "sample of the newest run"
    verb: ClassVar[str] = "removed"

    def owns(self, path: str) -> bool:
        """Return whether a file is the sample."""
        return path.startswith(f"{RUNS_FOLDER}/") and path.endswith(".arrow")

    def count(self, table_uri: str, path: str, rows: ErasedRows) -> int:
        """Count vectors of erased texts."""
        try:
            sample = DriftSample.from_bytes(read_bytes(join(table_uri, path)))
        except MissingError:
            return 0
        if sample is None:  # nobody can read it, and the next run writes it anew
            return 1
        return sum(row.tobytes() in rows.text_hashes for row in sample.hashes)

    def clean(self, table_uri: str, path: str, rows: ErasedRows) -> None:  # noqa: ARG002
        """Remove the sample."""
        delete([join(table_uri, path)])


class DigestFiles(FilePlace):
    """Digest files, each of the rows of one shard. A file is removed if its shard holds an erased row or no longer
    exists."""

    name: ClassVar[str] = "digests of rows"
    verb: ClassVar[str] = "removed"

    def owns(self, path: str) -> bool:
        """Return whether a file holds digests."""
        return path.startswith(f"{DIGESTS_FOLDER}/")

    def count(self, table_uri: str, path: str, rows: ErasedRows) -> int:
        """Return 1 for a file of a shard that goes, or is gone."""
        shard = f"{path.rpartition('/')[2].partition('.')[0]}.parquet"
        uri = join(table_uri, shard)
        return int(shard in rows.shards or not filesystem(uri).exists(strip_protocol(uri)))

    def clean(self, table_uri: str, path: str, rows: ErasedRows) -> None:  # noqa: ARG002
        """Remove the file; the next comparison computes digests of the new shard."""
        delete([join(table_uri, path)])


class TemporaryFiles(Place):
    """Files that a killed run was writing. They are removed, unless another run is at work: the files may belong to it."""

    name: ClassVar[str] = "temporary files"

    def owns(self, path: str) -> bool:
        """Return whether a file was being written."""
        return TEMPORARY_NAME.fullmatch(path.rpartition("/")[2]) is not None

    def erase(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, *, is_dry_run: bool) -> PlaceReport:  # noqa: ARG002
        """Remove all of these files; none of them was finished."""
        report = PlaceReport(place=self.name, location=table_uri)
        if not paths or _others_at_work(table_uri):
            return report
        if not is_dry_run:
            delete(join(table_uri, path) for path in paths)
        verb = "would be removed" if is_dry_run else "removed"
        return report.model_copy(update={"action": f"{counted(len(paths), 'file')} {verb}"})

    def look(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, report: PlaceReport) -> PlaceReport:  # noqa: ARG002
        """Count the files that are left, which belong to runs at work."""
        problem = f"{counted(len(paths), 'file')} of a run at work were not looked into" if paths else ""
        return report.model_copy(update={"look": f"{counted(len(paths), 'file')}", "problem": problem})


def _others_at_work(table_uri: str) -> bool:
    return any(lease.operation != ERASE for lease in active_leases(table_uri))


class NothingHeld(Place):
    """Files that hold no row. An erasure leaves them, and the receipt says so."""

    why: ClassVar[str]

    def erase(
        self,
        table_uri: str,
        paths: Sequence[str],  # noqa: ARG002
        rows: ErasedRows,  # noqa: ARG002
        *,
        is_dry_run: bool,  # noqa: ARG002
    ) -> PlaceReport:
        """Do nothing."""
        return PlaceReport(place=self.name, location=table_uri, action=f"nothing to do: {self.why}")

    def look(
        self,
        table_uri: str,  # noqa: ARG002
        paths: Sequence[str],
        rows: ErasedRows,  # noqa: ARG002
        report: PlaceReport,
    ) -> PlaceReport:
        """Count the files."""
        return report.model_copy(update={"look": f"{counted(len(paths), 'file')}, known to hold no row"})


class RunSummaries(NothingHeld):
    """Metrics of runs. Each file holds counts, the mean of a sample of vectors, and eight numbers for each of up to 512
    sampled vectors."""

    name: ClassVar[str] = "records of runs"
    why: ClassVar[str] = (
        "counts, the mean vector of a sample, and eight numbers for each vector of it, without keys, hashes or texts"
    )

    def owns(self, path: str) -> bool:
        """Return whether a file is the record of a run."""
        return path.startswith(f"{RUNS_FOLDER}/") and path.endswith(".parquet")


class OwnRecords(NothingHeld):
    """Completion records, leases, records of followers, tombstones and receipts."""

    name: ClassVar[str] = "completion records, leases, followers, receipts"
    why: ClassVar[str] = "locations, shards, counts and keyed hashes only"

    def owns(self, path: str) -> bool:
        """Return whether a file is one of them."""
        folder, _, base = path.rpartition("/")
        if folder in {SPLITS_FOLDER, LEASES_FOLDER, FOLLOWERS_FOLDER}:
            return base.endswith(".json")
        return path.startswith(f"{ERASED_FOLDER}/")


class LogBounds(Place):
    """The Delta log: it names shards; the log of earlier releases also has bounds of ids, which can be an erased id."""

    name: ClassVar[str] = "log"

    def owns(self, path: str) -> bool:
        """Return whether a file belongs to the log."""
        return path.startswith("_delta_log/")

    def erase(
        self,
        table_uri: str,
        paths: Sequence[str],  # noqa: ARG002
        rows: ErasedRows,  # noqa: ARG002
        *,
        is_dry_run: bool,  # noqa: ARG002
    ) -> PlaceReport:
        """Do nothing: commits never change."""
        return PlaceReport(
            place=self.name, location=table_uri, action="nothing to do: names of shards and numbers of rows"
        )

    def look(self, table_uri: str, paths: Sequence[str], rows: ErasedRows, report: PlaceReport) -> PlaceReport:
        """Read the statistics of all commits and checkpoints."""
        num_left = sum(self._bounds_in(table_uri, path, rows) for path in paths)
        problem = (
            "commits of earlier releases have an erased id among their bounds: only a clean-up of the log removes them"
        )
        return report.model_copy(
            update={
                "look": f"{counted(len(paths), 'file')} read",
                "num_left": num_left,
                "problem": problem if num_left else "",
            }
        )

    def _bounds_in(self, table_uri: str, path: str, rows: ErasedRows) -> int:
        uri = join(table_uri, path)
        try:
            if path.endswith(".json") and "checkpoint" not in path:
                actions = [json.loads(line) for line in read_bytes(uri).splitlines() if line.strip()]
                texts = [action["add"].get("stats") for action in actions if "add" in action]
            elif path.endswith(".parquet"):
                frame = pl.read_parquet(io.BytesIO(read_bytes(uri)), columns=["add"])
                texts = frame["add"].struct.field("stats").drop_nulls().to_list()
            else:
                return 0
        except MissingError:
            return 0
        except (ValueError, pl.exceptions.PolarsError):
            return 0  # not a commit
        return sum(_names_erased(text, rows) for text in texts if text)


def _names_erased(text: str, rows: ErasedRows) -> bool:
    """Return whether the statistics of a shard name an erased id; damaged ones are searched as text."""
    try:
        stats = json.loads(text)
        bounds = [stats.get(kind, {}).get("id") for kind in ("minValues", "maxValues")]
    except (ValueError, AttributeError):
        return _words(rows.keys.names).search(text.encode("utf-8", "surrogateescape")) is not None
    return any(bound in rows.keys.names for bound in bounds)


def _key_and_document(source: str, row_id: str) -> list[tuple[str, str]]:
    """Return the key of a row, and that of its document in case it is a passage, which is called after it."""
    return [(source, row_id), (source, re.sub(r"#\d+$", "", row_id))]


def _words(names: frozenset[str]) -> re.Pattern[bytes]:
    """Return a pattern that finds an id as a whole word."""
    parts = b"|".join(re.escape(name.encode("utf-8", "surrogateescape")) for name in sorted(names))
    return re.compile(rb"(?<!\w)(?:" + parts + rb")(?!\w)")


def _of_texts(hashes: pl.Series, rows: ErasedRows) -> pl.Series:
    return hashes.is_in(pl.Series(sorted(rows.text_hashes), dtype=pl.Binary).implode())


def _read_parquet(table_uri: str, path: str) -> pl.DataFrame | None:
    try:
        return pl.read_parquet(io.BytesIO(read_bytes(join(table_uri, path))))
    except MissingError:
        return None
