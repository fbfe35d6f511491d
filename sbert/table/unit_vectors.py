"""The unit vectors of all rows of a version, mapped into memory from files that stay on the local disk.

To decode and normalize the vectors of a table costs more than many nightly jobs then compute with them, and a night changes
few shards. So each machine keeps the unit vectors of the shards that it has read in the user's cache, and decodes a shard
once. A shard never changes under its name, so nothing in the cache becomes wrong.

A file holds the vectors of several shards, one after the other, as float32. Its record (JSON) is written after it. Each run
that meets new shards adds a file. Files are put together when there are many, or when many of their rows left the table.
"""

import hashlib
import logging
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from sbert.errors import SbertError, TableError
from sbert.runtime.prefetch import prefetch
from sbert.runtime.user_cache import user_cache
from sbert.storage.local_write import LocalWrite
from sbert.table.delta import Table
from sbert.table.shard_file import open_shard
from sbert.table.shards import vector_matrix, vector_names
from sbert.table.table_shard import TableShard
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["VECTOR_CACHE_VARIABLE", "UnitVectors", "forget_unit_vectors", "vector_cache_folder"]

log = logging.getLogger(__name__)

VECTOR_CACHE_VARIABLE = "SBERT_VECTOR_CACHE_BYTES"
DEFAULT_LIMIT = 20 * 2**30
LEAST_BYTES = 4 << 20
"""Smaller tables are decoded each time: that takes some milliseconds."""
MAX_FILES = 8
MAX_GONE_SHARE = 0.3
"""A file with more rows that left the table is written again without them."""
ROWS_PER_READ = 2_048
"""Vectors of 3 MiB: larger blocks get new memory from the system each time, which costs more than to decode them."""
BLOCKS_AHEAD = 4
ROWS_PER_COPY = 8_192
TRIES = 3
"""Times that the files are looked for; another process may put them together meanwhile."""

UNFINISHED_SECONDS = 24 * 3_600

Ints = npt.NDArray[np.int64]


class _Record(BaseModel):
    """The shards whose vectors a file holds, in their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int
    shards: tuple[tuple[str, int], ...]
    """Name and number of rows of each shard."""

    @property
    def num_rows(self) -> int:
        return sum(count for _, count in self.shards)

    @property
    def name(self) -> str:
        """The name of its file, a hash of what the file holds."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]


class UnitVectors:
    """Unit vectors by number. The rows of a shard have consecutive numbers; some numbers may belong to no row."""

    def __init__(self, files: Sequence[tuple[_Record, Float32]], shards: Sequence[TableShard], dim: int) -> None:
        """Map files; see `open`."""
        self.dim = dim
        self._maps = [matrix_ND for _, matrix_ND in files]
        self._firsts: Ints = np.cumsum([0, *(len(matrix_ND) for matrix_ND in self._maps)], dtype=np.int64)
        """Number of the first row of each file, then the number after the last."""
        wanted = {shard.name: shard for shard in shards}
        self.starts: dict[str, int] = {}
        """Number of the first row of each shard that has rows, in ascending order."""
        for first, (record, _) in zip(self._firsts.tolist(), files, strict=False):
            for name, start in _starts(record):
                if name in wanted and name not in self.starts:
                    self.starts[name] = first + start
        self.shards = tuple(wanted[name] for name in self.starts)
        """The shards that have rows, in the order of their numbers."""
        self.num_rows = sum(shard.num_rows for shard in self.shards)

    @classmethod
    def open(cls, table: Table) -> Self:
        """Map the vectors of a version into memory, after the shards that this machine has not seen were decoded.

        Raises:
            StorageError, MissingError: a shard cannot be read, or the temporary folder cannot be written.
            TableError: a shard is damaged.
        """
        shards = [shard for shard in table.shards() if shard.num_rows]
        dim = table.encoder.dim
        num_bytes = sum(shard.num_rows for shard in shards) * dim * 4
        if LEAST_BYTES <= num_bytes <= _limit():
            folder = _folder_of(table.uri)
            try:
                files = _cached_files(table, shards, folder)
                _shrink(folder)
                return cls(files, shards, dim)
            except SbertError:
                raise
            except OSError as error:
                log.warning("%s: vectors are not kept for the next run: %s", folder, error)
        return cls([_temporary_file(table, shards)] if num_bytes else [], shards, dim)

    def __len__(self) -> int:
        """Return the number after the last."""
        return int(self._firsts[-1])

    def rows(self, first: int, stop: int) -> Float32:
        """Return the vectors with the numbers from `first` up to, not including, `stop`, of one shard."""
        file = int(np.searchsorted(self._firsts, first, side="right")) - 1
        start = int(self._firsts[file])
        return self._maps[file][first - start : stop - start]

    def take(self, numbers: npt.NDArray[Any]) -> Float32:
        """Return the vectors with these numbers, shape (numbers, dim)."""
        taken_ND: Float32
        if len(self._maps) == 1:
            taken_ND = self._maps[0][numbers]
            return taken_ND
        taken_ND = np.empty((len(numbers), self.dim), np.float32)
        files = np.searchsorted(self._firsts, numbers, side="right") - 1
        for file in np.unique(files).tolist():
            here = files == file
            taken_ND[here] = self._maps[file][numbers[here] - self._firsts[file]]
        return taken_ND

    def whole(self) -> Float32 | None:
        """Return the vectors of all `shards` in order, if one file holds them in this order without gaps, else None."""
        if not self.shards:
            return np.zeros((0, self.dim), np.float32)
        last = self.shards[-1]
        first, stop = next(iter(self.starts.values())), self.starts[last.name] + last.num_rows
        end_of_file = int(self._firsts[np.searchsorted(self._firsts, first, side="right")])
        return self.rows(first, stop) if stop - first == self.num_rows and stop <= end_of_file else None

    def release(self) -> None:
        """Take the pages of the files out of this process; they stay in the system's cache."""
        for matrix_ND in self._maps:
            base: Any = matrix_ND.base
            base._mmap.madvise(mmap.MADV_DONTNEED)


def vector_cache_folder() -> Path:
    """Return the folder of the cache: ``$XDG_CACHE_HOME/sbert-prefect/vectors``, by default below ``~/.cache``."""
    return user_cache() / "vectors"


def forget_unit_vectors(table_uri: str) -> None:
    """Remove the vectors of all versions of a table from this machine's cache."""
    shutil.rmtree(_folder_of(table_uri), ignore_errors=True)


def _limit() -> int:
    return int(os.environ.get(VECTOR_CACHE_VARIABLE, DEFAULT_LIMIT))


def _folder_of(table_uri: str) -> Path:
    return vector_cache_folder() / hashlib.sha256(table_uri.encode()).hexdigest()[:32]


def _cached_files(table: Table, shards: Sequence[TableShard], folder: Path) -> list[tuple[_Record, Float32]]:
    """Return files of the cache that hold all shards, after what is missing was written.

    Raises:
        OSError: the cache cannot be written, or another process keeps changing it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.utime(folder)  # the table that was used longest ago leaves first
    for attempt in range(1, TRIES + 1):
        try:
            return _complete(table, shards, folder)
        except FileNotFoundError:
            if attempt == TRIES:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _complete(table: Table, shards: Sequence[TableShard], folder: Path) -> list[tuple[_Record, Float32]]:
    dim = table.encoder.dim
    wanted = {shard.name: shard for shard in shards}
    files = [file for file in _read_files(folder, dim) if any(name in wanted for name, _ in file[0].shards)]
    kept, others = _divided(files, wanted.keys())
    there = {name for record, _ in kept for name, _ in record.shards}
    moved = {
        name: (matrix_ND, first)
        for record, matrix_ND in others
        for name, first in _starts(record)
        if name in wanted and name not in there
    }
    missing = [shard for shard in shards if shard.name not in there]
    if missing:
        record = _Record(dim=dim, shards=tuple((shard.name, shard.num_rows) for shard in missing))
        write = LocalWrite(str(folder / f"{record.name}.f32"))
        try:
            for shard in missing:
                if shard.name in moved:
                    _copy(write.file, *moved[shard.name], shard.num_rows)
                else:
                    _decode(write.file, table, shard)
            write.replace()
        finally:
            write.discard()
        note = LocalWrite(str(folder / f"{record.name}.json"))
        note.file.write(record.model_dump_json().encode())
        note.replace()
        kept.append((record, _mapped(folder / f"{record.name}.f32", record.num_rows, dim)))
    names = {record.name for record, _ in kept}
    for path in folder.iterdir():
        is_left = path.suffix in {".f32", ".json"} and path.stem not in names
        if is_left or _is_unfinished(path):
            path.unlink(missing_ok=True)  # processes that mapped it go on reading it
    return kept


def _is_unfinished(path: Path) -> bool:
    """Return true for the temporary file of a process that died while it wrote the file."""
    with suppress(FileNotFoundError):
        return path.suffix == ".tmp" and path.stat().st_mtime < time.time() - UNFINISHED_SECONDS
    return False


def _read_files(folder: Path, dim: int) -> list[tuple[_Record, Float32]]:
    """Return the finished files of a table, the largest first."""
    files = []
    for path in folder.glob("*.json"):
        try:
            record = _Record.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            continue
        data = path.with_suffix(".f32")
        is_whole = record.num_rows and data.exists() and data.stat().st_size == record.num_rows * dim * 4
        if record.dim == dim and is_whole:
            files.append((record, _mapped(data, record.num_rows, dim)))
    return sorted(files, key=lambda file: (-file[0].num_rows, file[0].name))


def _divided(
    files: list[tuple[_Record, Float32]], wanted: Any
) -> tuple[list[tuple[_Record, Float32]], list[tuple[_Record, Float32]]]:
    """Return the files that stay, and those whose vectors move to a new file."""
    kept: list[tuple[_Record, Float32]] = []
    others: list[tuple[_Record, Float32]] = []
    for file in files:
        num_left = sum(count for name, count in file[0].shards if name in wanted)
        (kept if num_left >= (1 - MAX_GONE_SHARE) * file[0].num_rows else others).append(file)
    if len(kept) >= MAX_FILES:  # the smallest half is put together
        kept, others = kept[: MAX_FILES // 2], [*kept[MAX_FILES // 2 :], *others]
    return kept, others


def _starts(record: _Record) -> Iterator[tuple[str, int]]:
    """Return the name of each shard with the number of its first row in the file."""
    first = 0
    for name, count in record.shards:
        yield name, first
        first += count


def _mapped(path: Path, num_rows: int, dim: int) -> Float32:
    """Map a file copy-on-write: torch uses writable memory without copying it, and writes never reach the file."""
    return np.asarray(np.memmap(path, np.float32, "c", shape=(num_rows, dim)))


def _copy(file: IO[bytes], matrix_ND: Float32, first: int, num_rows: int) -> None:
    for at in range(first, first + num_rows, ROWS_PER_COPY):
        file.write(matrix_ND[at : min(at + ROWS_PER_COPY, first + num_rows)].data)


def _decode(file: IO[bytes], table: Table, shard: TableShard) -> None:
    """Write the unit vectors of a shard.

    Raises:
        MissingError, StorageError, TableError: the shard cannot be read.
    """
    info = table.encoder
    uri = table.shard_uri(shard.name)
    num_rows = 0
    with open_shard(uri) as parquet:
        batches = parquet.iter_batches(batch_size=ROWS_PER_READ, columns=vector_names(info.precision))
        with closing(prefetch(batches, BLOCKS_AHEAD)) as ahead:
            for batch in ahead:
                unit_ND = unit_rows(vector_matrix(batch, info.dim, info.precision))
                file.write(np.ascontiguousarray(unit_ND, np.float32).data)
                num_rows += len(batch)
    if num_rows != shard.num_rows:
        raise TableError(f"{uri}: it has {num_rows} rows, the log says {shard.num_rows}: run `sbert verify`")


def _temporary_file(table: Table, shards: Sequence[TableShard]) -> tuple[_Record, Float32]:
    """Decode all shards into a file without a name, which is gone when nothing maps it any more."""
    dim = table.encoder.dim
    record = _Record(dim=dim, shards=tuple((shard.name, shard.num_rows) for shard in shards))
    with tempfile.TemporaryFile(prefix="sbert-vectors-") as file:
        for shard in shards:
            _decode(file, table, shard)
        file.flush()
        return record, np.asarray(np.memmap(file, np.float32, "c", shape=(record.num_rows, dim)))


def _shrink(in_use: Path) -> None:
    """Remove the tables that were used longest ago, until the cache is within its limit."""
    limit = _limit()
    sizes: dict[Path, int] = {}
    for folder in vector_cache_folder().iterdir():
        with suppress(FileNotFoundError, NotADirectoryError):
            sizes[folder] = sum(path.stat().st_size for path in folder.iterdir())
    total = sum(sizes.values())
    for folder in sorted(sizes.keys() - {in_use}, key=lambda folder: folder.stat().st_mtime if folder.exists() else 0):
        if total <= limit:
            break
        log.info("%s: removed from the cache of vectors, which holds at most %d bytes", folder.name, limit)
        shutil.rmtree(folder, ignore_errors=True)
        total -= sizes[folder]
