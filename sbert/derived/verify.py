"""Check that a derived table has an output for each row of the version that it was computed from, and for nothing else.

Size and checksum of each shard are checked. Source, id and text hash of every row are compared with the embeddings table,
split by split. The parts of a table of parts are compared with what its commit recorded. Memory holds a block of rows.
"""

from collections.abc import Iterator

import pyarrow as pa
from pydantic import Field

from sbert.counted import counted
from sbert.derived.derived_table import DerivedTable, PartsSummary, digest_of_parts
from sbert.derived.job import KEY_COLUMNS, derived_fingerprint
from sbert.derived.paired_rows import RowStream, read_shards
from sbert.errors import NotATableError, SbertError, TableError
from sbert.storage.files import list_names
from sbert.table.commit_record import recorded_at
from sbert.table.delta import Table
from sbert.table.shard_file import file_checksum_problem, is_damage, open_shard
from sbert.table.shard_layout import locate_splits, read_split
from sbert.table.table_shard import TableShard
from sbert.table.tombstones import ERASE
from sbert.table.verify import Verification

__all__ = ["DerivedVerification", "verify_derived"]


class DerivedVerification(Verification):
    """The outcome of a check of a derived table."""

    derived_from: str = Field(description="The embeddings table that was compared.")
    table_version: int = Field(description="Its version that was compared.")


def verify_derived(out_uri: str, version: int | None = None) -> DerivedVerification:
    """Compare a derived table with the version of the embeddings table that it names.

    Raises:
        NotATableError: there is no derived table at `out_uri`, or the version that it was computed from is gone.
    """
    derived = DerivedTable.open(out_uri, version)
    if derived.info.parts is not None:
        return _verify_parts(derived, derived.info.parts)
    table = _table_of(derived)
    located = locate_splits(table.uri, table.shards())
    shards: dict[str, list[TableShard]] = {}
    for shard in derived.shards():
        shards.setdefault(shard.fingerprint, []).append(shard)
    findings, num_without_checksum, damaged = _check_files(derived)
    num_rows = 0
    for split, count in sorted(_rows_of_splits(located).items()):
        name = derived_fingerprint(split, count, derived.info.job_fingerprint)
        if name not in shards:
            findings.append(f"split {split} of {counted(count, 'row')} has no output")
            continue
        if damaged.intersection(shard.name for shard in shards[name]):
            del shards[name]
            continue
        try:
            difference = _differing_row(
                derived, shards.pop(name), read_split(table.uri, located, split, list(KEY_COLUMNS))
            )
        except SbertError as error:
            findings.append(f"split {split}: {error}")
            continue
        if difference is not None:
            findings.append(f"split {split}: {difference}")
        num_rows += count
    findings += [f"shard {shard.name} is of no split" for left in shards.values() for shard in left]
    return DerivedVerification(
        table_uri=derived.uri,
        version=derived.version,
        derived_from=table.uri,
        table_version=table.version,
        num_shards=len(derived.shards()),
        num_rows=num_rows,
        num_shards_without_checksum=num_without_checksum,
        findings=findings,
    )


def _verify_parts(derived: DerivedTable, recorded: PartsSummary) -> DerivedVerification:
    """Check each file, and that the parts equal the record of the commit."""
    findings, num_without_checksum, _ = _check_files(derived)
    shards = derived.shards()
    if digest_of_parts((shard.fingerprint, shard.num_rows) for shard in shards) != recorded.digest:
        num_erased = _rows_erased_since_the_job(derived)
        what = (
            f"an erasure took {counted(num_erased, 'row')} out of the parts after the job committed them"
            if num_erased
            else "the parts are not those that the job committed"
        )
        findings.append(f"{what}: run the job {derived.info.job} again to restore them")
    return DerivedVerification(
        table_uri=derived.uri,
        version=derived.version,
        derived_from=derived.info.table_uri,
        table_version=derived.info.table_version,
        num_shards=len(shards),
        num_rows=derived.num_rows,
        num_shards_without_checksum=num_without_checksum,
        findings=findings,
    )


def _rows_erased_since_the_job(derived: DerivedTable) -> int:
    """Return the rows that erasures took out of the output after the newest commit of its job."""
    num_rows = 0
    for version in range(derived.version, -1, -1):
        recorded = recorded_at(derived.uri, version)
        if recorded.get("operation") != ERASE:
            break
        num_rows += int(recorded["num_rows_erased"])
    return num_rows


def _table_of(derived: DerivedTable) -> Table:
    """Open the version of the embeddings table that a derived table names."""
    info = derived.info
    computed_from = f"{derived.uri}: it was computed from version {info.table_version} of {info.table_uri}"
    try:
        table = Table.open(info.table_uri, info.table_version)
    except TableError as error:  # also a version that is refused because rows of it were erased
        raise NotATableError(
            f"{computed_from}, which cannot be opened ({error}): run the job {info.job} again"
        ) from error
    files = list_names(table.uri)
    num_gone = sum(shard.name not in files for shard in table.shards())
    if num_gone:
        raise NotATableError(
            f"{computed_from}, which lost {counted(num_gone, 'shard')} to a vacuum: run the job {info.job} again"
        )
    return table


def _rows_of_splits(shards: list[TableShard]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for shard in shards:
        for part in shard.splits:
            rows[part.fingerprint] = rows.get(part.fingerprint, 0) + part.num_rows
    return rows


def _check_files(derived: DerivedTable) -> tuple[list[str], int, set[str]]:
    """Return the findings about size, checksum and number of rows of each shard, and the number without checksum.

    The third value names the damaged shards, which must not be parsed.
    """
    findings: list[str] = []
    damaged: set[str] = set()
    num_without = 0
    for shard in derived.shards():
        uri = derived.shard_uri(shard.name)
        try:
            problem, has_checksum = file_checksum_problem(uri, shard.num_bytes)
            num_without += not has_checksum
            if is_damage(problem):
                findings.append(f"{shard.name}: {problem}; its rows were not read")
                damaged.add(shard.name)
                continue
            with open_shard(uri) as parquet:
                num_rows = parquet.metadata.num_rows
                columns = parquet.schema_arrow.remove_metadata()
        except SbertError as error:
            findings.append(str(error))
            continue
        if problem is not None:
            findings.append(f"{shard.name}: {problem}")
        if num_rows != shard.num_rows:
            findings.append(f"{shard.name}: has {counted(num_rows, 'row')}, but the log says {shard.num_rows:,}")
        if columns != derived.schema:
            findings.append(
                f"{shard.name}: has the columns {', '.join(columns.names)}, the table {', '.join(derived.schema.names)}"
            )
    return findings, num_without, damaged


def _differing_row(derived: DerivedTable, shards: list[TableShard], rows: Iterator[pa.Table]) -> str | None:
    """Return a finding about the first row that differs; None when all are equal."""
    place = 0
    output = RowStream(read_shards(derived, shards, KEY_COLUMNS))
    for block in rows:
        wanted = block.select(KEY_COLUMNS)
        got = output.take(len(wanted))
        if not got.equals(wanted):
            for number, (left, right) in enumerate(zip(wanted[: len(got)].to_pylist(), got.to_pylist(), strict=True)):
                if left != right:
                    return (
                        f"row {place + number} is {right['id']!r} of {right['source']}, expected {left['id']!r} of "
                        f"{left['source']}"
                    )
        if len(got) < len(wanted):
            return f"the output ends after {counted(place + len(got), 'row')}"
        place += len(wanted)
    return "the output has more rows than the split" if len(output.take(1)) else None
