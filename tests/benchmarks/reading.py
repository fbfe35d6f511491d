"""Measure how many megabytes of raw text one core reads in a second, format by format, beside a well-known reader.

    python -m tests.benchmarks.reading --mib 64 --rounds 3 [--only csv,json]

Each format holds the same generated rows: an id, a text and a number. Our rate is that of `read_span`: records with ids, texts and
a kept column, bad rows kept apart. The peer reads the same file into a data frame, whole and without those checks. The benchmark
measures the CPU time of the process, and Polars and pyarrow use one thread, so other load on the machine does not change
the result. The cases parquet, delta and iceberg read the same file. The last column is the most memory that reading held above the start, in MiB.

To add a format, write a function that writes the rows to a file, and name it in `FORMATS` with its peer.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

os.environ["POLARS_MAX_THREADS"] = "1"  # before Polars is imported

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import convert_to_deltalake
from markdown_it import MarkdownIt
from selectolax.lexbor import LexborHTMLParser

from sbert.source.listing import list_objects
from sbert.source.objects import Span
from sbert.source.reading import read_span
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import ReadSettings, SourceSettings
from tests.benchmarks.harness import alternate, made_up_texts, print_table

SOURCE = SourceSettings(keep_columns=("n",))
DOCUMENT = SourceSettings(keep_columns=("title", "headings"))
PAGE = "<html><head><title>Page</title></head><body><nav><a href='/'>Home</a></nav><main>{}</main></body></html>"
MAX_ROW_BYTES = 2**30


class Format(NamedTuple):
    """A format that is measured."""

    ending: str
    write: Callable[[Path, pl.DataFrame], object]
    """Writes the rows to a file."""
    peer: Callable[[Path], object]
    """Reads the file into a data frame."""
    peer_name: str = "Polars"
    source: SourceSettings = SOURCE


def _write_parquet(path: Path, rows: pl.DataFrame) -> None:
    rows.write_parquet(path, row_group_size=100_000)


def _write_delta(path: Path, rows: pl.DataFrame) -> None:
    """Write the very file of the Parquet case, and a log that names it."""
    path.mkdir()
    _write_parquet(path / "rows.parquet", rows)
    convert_to_deltalake(str(path))


def _write_iceberg(path: Path, rows: pl.DataFrame) -> None:
    """Write the very file of the Parquet case, and a table that it is added to."""
    from pyiceberg.catalog.sql import SqlCatalog

    path.mkdir()
    _write_parquet(path / "rows.parquet", rows)
    catalog = SqlCatalog("benchmark", uri=f"sqlite:///{path}.db", warehouse=f"file://{path.parent}")
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", schema=pq.read_schema(path / "rows.parquet"), location=f"file://{path}")
    table.add_files([str(path / "rows.parquet")])
    catalog.close()


def _peer_iceberg(path: Path) -> None:
    from pyiceberg.table import StaticTable

    newest = max((path / "metadata").glob("*.metadata.json"))
    StaticTable.from_metadata(str(newest)).scan().to_arrow()


FORMATS = {
    "csv": Format(".csv", lambda path, rows: rows.write_csv(path), pl.read_csv),
    "tsv": Format(
        ".tsv",
        lambda path, rows: rows.write_csv(path, separator="\t"),
        lambda path: pl.read_csv(path, separator="\t"),
    ),
    "json": Format(".json", lambda path, rows: rows.write_json(path), pl.read_json),
    "jsonl": Format(".jsonl", lambda path, rows: rows.write_ndjson(path), pl.read_ndjson),
    "parquet": Format(".parquet", _write_parquet, pl.read_parquet),
    "delta": Format(".delta", _write_delta, lambda path: pl.read_delta(str(path))),
    "iceberg": Format(".iceberg", _write_iceberg, _peer_iceberg, "pyiceberg"),
    "html": Format(
        ".html",
        lambda path, rows: path.write_text(PAGE.format("".join(map(_as_html, rows["text"])))),
        lambda path: LexborHTMLParser(path.read_text()).text(),
        "selectolax, all text",
        DOCUMENT,
    ),
    "md": Format(
        ".md",
        lambda path, rows: path.write_text("\n\n".join(map(_as_markdown, rows["text"]))),
        lambda path: MarkdownIt("commonmark").parse(path.read_text()),
        "markdown-it, tokens",
        DOCUMENT,
    ),
}


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=64, help="Size of the texts of one file (MiB).")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds; medians are printed.")
    parser.add_argument("--only", default=",".join(FORMATS), help="Formats to measure.")
    asked = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    rows = _rows(asked.mib)
    shown = []
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only.split(","):
            file_format = FORMATS[name]
            path = Path(folder) / f"rows{file_format.ending}"
            file_format.write(path, rows)
            data = path / "rows.parquet" if path.is_dir() else path
            mb = data.stat().st_size / 1e6
            memory = _memory_held(lambda path=path, file_format=file_format: _read(path, file_format.source))
            cases = {
                "ours": lambda path=path, file_format=file_format: _cpu_seconds(
                    lambda: _read(path, file_format.source)
                ),
                "peer": lambda path=path, file_format=file_format: _cpu_seconds(lambda: file_format.peer(path)),
            }
            seconds = alternate(cases, asked.rounds)
            shown.append((name, mb, mb / seconds["ours"], file_format.peer_name, mb / seconds["peer"], memory))
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    print_table(
        f"reading {rows.height:,} rows with one core, median of {asked.rounds}",
        ("format", "MB", "MB/s", "peer", "peer MB/s", "MiB held"),
        shown,
    )


def _rows(mib: int) -> pl.DataFrame:
    """Return rows with about `mib` MiB of text; some texts need quotes in CSV and escapes in JSON."""
    texts: list[str] = []
    size = 0
    for number, plain in enumerate(_texts()):
        text = f'He said: "{plain}",\nand left' if number % 10 == 0 else plain
        texts.append(text)
        size += len(text)

        if size >= mib * 2**20:
            break
    numbers = range(len(texts))
    return pl.DataFrame({"id": [f"row-{number}" for number in numbers], "text": texts, "n": list(numbers)})


def _as_html(text: str) -> str:
    return f'<h2 class="title" id="part">{text[:20]}</h2>\n<p>{text} <a href="https://example.org/page">{text[:12]}</a></p>\n'


def _as_markdown(text: str) -> str:
    return f"## {text[:20]}\n\n{text} [{text[:12]}](https://example.org/page)"


def _texts() -> Iterator[str]:
    while True:
        yield from made_up_texts(100_000, words=20)


def _read(path: Path, source: SourceSettings) -> None:
    (item,) = list_objects(str(path))
    kept = infer_kept_schema([item], source)
    for block in read_span(Span(object=item), source, ReadSettings(max_row_bytes=MAX_ROW_BYTES), kept):
        assert not block.rejects.height, f"{path}: {block.rejects}"


def _cpu_seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def _memory_held(action: Callable[[], object]) -> float:
    """Return by how much the process grew at most while it did something (MiB; Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    action()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


if __name__ == "__main__":
    main()
