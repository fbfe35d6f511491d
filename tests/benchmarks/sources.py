"""Measure a whole refresh of each kind of raw text, beside encoding alone of the very texts that it encoded.

    python -m tests.benchmarks.sources --mb 1000 --only csv,parquet --other-bytes 2000 [--text-bytes 60] [--model M | --tiny]
    python -m tests.benchmarks.sources --mb 10 --only md,html --text-bytes 50000

A row has an id, a text, and with ``--other-bytes`` a column that is neither text nor kept; a document of Markdown or HTML is a text
with headings, which is cut into passages. With ``--other-bytes`` a page of HTML has navigation and a document of Markdown a picture of that
size, which are left out. Each round measures the library's refresh from raw text to commit, in one process with a
loaded encoder, then the encoder alone. The encoder alone tokenizes one block ahead, as `encode` does. ``--tiny`` uses an encoder that costs
almost nothing: its CPU seconds show the refresh's own cost. CPU seconds differ less than seconds when other work shares the processors.
"""

import argparse
import base64
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import polars as pl
from deltalake import convert_to_deltalake

from sbert.encoder.description import EncoderSpec
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.process_cache import load_encoder
from sbert.encoder.sentence_encoder import TEXTS_PER_BLOCK, SentenceEncoder
from sbert.refresh.job import RefreshJob
from sbert.refresh.run import refresh
from sbert.rows.cleaning import CleanedBlock, CleaningSettings, clean
from sbert.runtime.prefetch import prefetch
from tests.benchmarks.harness import print_table
from tests.benchmarks.incremental import base_texts, tiny_model

BLOCK_BYTES = 8 * 2**20
"""Texts that the encoder alone tokenizes together (bytes), as a refresh does."""
PICTURE = "\n\n![picture {}](data:image/png;base64,{})\n"
PAGE = "<html><head><title>{}</title></head><body><nav><a href='/'>Home</a>{}</nav><main>{}</main></body></html>"
SECTION_SENTENCES = 20
Rows = Callable[[Path, pl.DataFrame], object]


def _write_parquet(path: Path, rows: pl.DataFrame) -> None:
    rows.write_parquet(path, row_group_size=100_000)


ROW_FORMATS: dict[str, Rows] = {
    "csv": lambda path, rows: rows.write_csv(path),
    "tsv": lambda path, rows: rows.write_csv(path, separator="\t"),
    "json": lambda path, rows: rows.write_json(path),
    "jsonl": lambda path, rows: rows.write_ndjson(path),
    "parquet": _write_parquet,
    "delta": _write_parquet,
}
DOCUMENTS = ("md", "html")


class Corpus(NamedTuple):
    """Sizes of the raw text."""

    num_bytes: int
    num_objects: int
    text_bytes: int
    other_bytes: int


class Sentences:
    """An endless supply of texts of a given size."""

    def __init__(self) -> None:
        """Begin at text 0."""
        self._pool = [f"{text.capitalize()}." for text in base_texts(None)]
        self._chance = random.Random(0)
        self._mean = statistics.mean(map(len, self._pool)) + 1
        self._number = 0

    def take(self, num_bytes: int) -> list[str]:
        """Return sentences of about so many bytes; the first has a number, so that no two texts begin in the same way."""
        self._number += 1
        count = max(1, round(num_bytes / self._mean))
        first, *others = self._chance.choices(self._pool, k=count)
        return [f"{self._number} {first}", *others]

    def text(self, num_bytes: int) -> str:
        """Return a text of about so many bytes."""
        return " ".join(self.take(num_bytes))[: max(num_bytes, 8)]


def write_rows(folder: Path, name: str, corpus: Corpus) -> None:
    """Write rows as objects of equal size."""
    sentences, write = Sentences(), ROW_FORMATS[name]
    size = corpus.num_bytes // corpus.num_objects // (corpus.text_bytes + corpus.other_bytes)
    for number in range(corpus.num_objects):
        rows = pl.DataFrame(
            {
                "id": [f"{number}-{row}" for row in range(size)],
                "text": [sentences.text(corpus.text_bytes) for _ in range(size)],
                "other": [sentences.text(corpus.other_bytes) if corpus.other_bytes else "" for _ in range(size)],
            }
        )
        write(folder / f"part-{number:05d}.{'parquet' if name == 'delta' else name}", rows)
    if name == "delta":
        convert_to_deltalake(str(folder))


def write_documents(folder: Path, name: str, corpus: Corpus) -> None:
    """Write documents, each an object, with a heading for every twenty sentences."""
    sentences, chance = Sentences(), random.Random(1)
    for number in range(max(1, corpus.num_bytes // (corpus.text_bytes + corpus.other_bytes))):
        taken = sentences.take(corpus.text_bytes)
        parts = [taken[at : at + SECTION_SENTENCES] for at in range(0, len(taken), SECTION_SENTENCES)]
        if name == "md":
            content = "\n\n".join(f"## {part[0][:24]}\n\n{' '.join(part)}" for part in parts)
            if corpus.other_bytes:
                content += PICTURE.format(
                    number, base64.b64encode(chance.randbytes(corpus.other_bytes * 3 // 4)).decode()
                )
        else:
            others = sentences.take(corpus.other_bytes) if corpus.other_bytes else []
            links = "".join(f"<li><a href='/{len(title)}'>{title}</a></li>" for title in others)
            main = "\n".join(f"<h2>{part[0][:24]}</h2>\n<p>{' '.join(part)}</p>" for part in parts)
            content = PAGE.format(number, links, main)
        (folder / f"{number:06d}.{name}").write_text(content)


class Measured(NamedTuple):
    """One call, measured."""

    seconds: float
    cpu_seconds: float


def timed(call: Callable[[], object]) -> Measured:
    """Measure a call."""
    began, began_cpu = time.perf_counter(), time.process_time()
    call()
    return Measured(time.perf_counter() - began, time.process_time() - began_cpu)


def refresh_and_remember(raw: Path, table: Path, model: str) -> tuple[Measured, list[pl.Series]]:
    """Measure a refresh. Return also the texts that it encoded, block by block."""
    texts: list[pl.Series] = []

    def remembering(rows: pl.DataFrame, settings: CleaningSettings) -> CleanedBlock:
        block = clean(rows, settings)
        texts.append(block.rows["text"])
        return block

    def run() -> None:
        report = refresh(RefreshJob(raw_uri=str(raw), table_uri=str(table), model=model))
        assert report.num_rows == report.num_rows_read == sum(map(len, texts)), report

    with mock.patch("sbert.refresh.stream.clean", remembering):
        measured = timed(run)
    return measured, texts


def blocks_of(texts: list[pl.Series]) -> Iterator[pl.Series]:
    """Put texts together into the blocks that the encoder alone tokenizes."""
    waiting: list[pl.Series] = []
    for block in texts:
        together = [*waiting, block]
        num_bytes = sum(int(part.str.len_bytes().sum()) for part in together)
        if waiting and (sum(map(len, together)) > TEXTS_PER_BLOCK or num_bytes > BLOCK_BYTES):
            yield pl.concat(waiting)
            together = [block]
        waiting = together
    yield pl.concat(waiting)


def encode_alone(encoder: SentenceEncoder, texts: list[pl.Series]) -> None:
    """Encode the texts, each block tokenized while the one before is computed."""
    for tokens in prefetch((encoder.tokenize(block) for block in blocks_of(texts)), 1):
        encoder.encode_tokens(tokens)


def measure(folder: Path, name: str, corpus: Corpus, model: str, rounds: int) -> tuple[object, ...]:
    """Measure one format, and return its line of the table."""
    raw = folder / name
    raw.mkdir()
    write = write_documents if name in DOCUMENTS else write_rows
    write(raw, name, corpus)
    encoder = load_encoder(EncoderSpec(model=model, normalize=True))
    measures: dict[str, list[Measured]] = defaultdict(list)
    num_texts = num_text_bytes = 0
    loads = [os.getloadavg()[0]]
    for number in range(rounds):
        measured, texts = refresh_and_remember(raw, folder / f"{name}-table-{number}", model)
        measures["refresh"].append(measured)
        loads.append(os.getloadavg()[0])
        measures["encode"].append(timed(lambda texts=texts: encode_alone(encoder, texts)))  # type: ignore[misc]
        loads.append(os.getloadavg()[0])
        num_texts, num_text_bytes = sum(map(len, texts)), sum(int(block.str.len_bytes().sum()) for block in texts)
        shutil.rmtree(folder / f"{name}-table-{number}")
    seconds = {case: statistics.median(one.seconds for one in runs) for case, runs in measures.items()}
    cpu = {case: statistics.median(one.cpu_seconds for one in runs) for case, runs in measures.items()}
    on_disk = sum(path.stat().st_size for path in raw.rglob("*") if path.is_file()) / 1e6
    shutil.rmtree(raw)
    return (
        name,
        on_disk,
        num_text_bytes / 1e6,
        num_texts,
        seconds["encode"],
        seconds["refresh"],
        f"{seconds['encode'] / seconds['refresh']:.1%}",
        cpu["encode"],
        cpu["refresh"],
        f"{cpu['encode'] / cpu['refresh']:.1%}",
        f"{min(loads):.1f} to {max(loads):.1f}",
    )


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=100, help="Size of the values of all rows (MB).")
    parser.add_argument("--only", default=",".join([*ROW_FORMATS, *DOCUMENTS]), help="Formats to measure.")
    parser.add_argument("--objects", type=int, default=8, help="Objects that rows are in; a document is an object.")
    parser.add_argument("--text-bytes", type=int, default=2_000, help="Size of a text, or of a document (bytes).")
    parser.add_argument("--other-bytes", type=int, default=0, help="Size of a row's column that is no text (bytes).")
    parser.add_argument("--rounds", type=int, default=1, help="Rounds; medians are printed.")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Encoder. [the packaged one]")
    parser.add_argument("--tiny", action="store_true", help="Use an encoder that costs almost nothing.")
    asked = parser.parse_args()
    corpus = Corpus(round(asked.mb * 1e6), asked.objects, asked.text_bytes, asked.other_bytes)
    with tempfile.TemporaryDirectory(prefix="sbert-bench-") as name:
        folder = Path(name)
        model = tiny_model(folder / "model") if asked.tiny else asked.model
        measure(folder, "jsonl", Corpus(20_000, 1, 100, 0), model, 1)  # warm: imports, threads, allocator
        lines = []
        for kind in asked.only.split(","):
            lines.append(measure(folder, kind, corpus, model, asked.rounds))
            print(*lines[-1], flush=True)
    print_table(
        f"refresh beside encoding alone, {asked.text_bytes:,} bytes a text and {asked.other_bytes:,} beside it, "
        f"{'tiny encoder' if asked.tiny else model}, median of {asked.rounds}",
        (
            "format", "MB on disk", "MB of texts", "texts encoded", "encoding s", "refresh s", "rate of encoding's",
            "encoding CPU s", "refresh CPU s", "by CPU", "load",
        ),
        lines,
    )  # fmt: skip


if __name__ == "__main__":
    main()
