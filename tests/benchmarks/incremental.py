"""Measure the cost of a night: refreshes after small changes, as shares of the full run in the same session.

    python -m tests.benchmarks.incremental [CORPUS] --rows 1000000 --objects 200 --model tiny

CORPUS is a folder of ``.jsonl.gz`` files with a column ``text``. Its rows are repeated with a suffix until there are enough. Without
CORPUS the texts are generated. The tiny encoder (two narrow layers, 384 values a vector) shows the cost of planning, reading, joining and
writing; ``--model default`` uses the packaged encoder. Each refresh runs in its own process. It is measured from plan to commit and
reports its peak memory and the raw objects that it opened.
"""

import argparse
import contextlib
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

DIM = 384
NUM_GENERATED = 99_991
"""Generated texts. All are different, as in most corpora: three words write the number of the text."""


@dataclass(frozen=True)
class Measured:
    """One refresh."""

    name: str
    seconds: float
    cpu_seconds: float
    """CPU seconds of all threads; comparable also when other work shares the machine."""
    peak_mib: float
    num_objects_opened: int
    num_texts_encoded: int
    num_rows_carried: int


def tiny_model(folder: Path) -> str:
    """Save an encoder that costs almost nothing and returns vectors of the usual width."""
    from sbert.encoder.modules import Dense, Normalize
    from sbert.encoder.pooling import Pooling, PoolingMode
    from sbert.encoder.sentence_encoder import SentenceEncoder
    from tests.support.tiny_models import HIDDEN, tiny_tokenizer, tiny_transformer

    tokenizer = tiny_tokenizer()
    encoder = SentenceEncoder(
        tiny_transformer("bert", len(tokenizer), num_heads=1),
        tokenizer,
        Pooling(HIDDEN, (PoolingMode.MEAN,)),
        [Dense(HIDDEN, DIM, activation="torch.nn.modules.linear.Identity"), Normalize()],
        max_seq_length=64,
        device="cpu",
    )
    encoder.save_pretrained(folder)
    return str(folder)


def base_texts(corpus: str | None) -> list[str]:
    """Return the texts of the corpus, or generated texts."""
    if corpus is None:
        from tests.support.tiny_models import WORDS

        words = list(dict.fromkeys(WORDS))
        digits = [[n // len(words) ** place % len(words) for place in range(3)] for n in range(NUM_GENERATED)]
        more = [[n * 31 + at * (n % 13 + 1) for at in range(1 + n % 17)] for n in range(NUM_GENERATED)]
        return [
            " ".join(words[at % len(words)] for at in (*first, *then)) for first, then in zip(digits, more, strict=True)
        ]
    texts: list[str] = []
    for path in sorted(Path(corpus).glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    return texts


class Raw:
    """The raw text, as objects of equal size in a folder."""

    def __init__(self, folder: Path, texts: list[str], num_rows: int, num_objects: int) -> None:
        self._folder = folder
        self._texts = texts
        self._rows_per_object = num_rows // num_objects
        self.num_objects = num_objects
        folder.mkdir(parents=True)
        for number in range(num_objects):
            self._write(number, self._lines(number))

    def change_everywhere(self, every: int) -> int:
        """Change the text of one row in `every` and return the number of changed rows."""
        count = 0
        for number in range(self.num_objects):
            lines = self._lines(number)
            for at in range(number % every, len(lines), every):
                lines[at]["text"] += f" (changed {number}/{at})"
                count += 1
            self._write(number, lines)
        return count

    def add_objects(self, count: int, num_rows: int, *, suffix: str = "") -> int:
        """Add `count` objects with the next `num_rows` rows of the corpus and return the number of new texts.

        With `suffix` every text is longer and different from all others.
        """
        stored = {json.loads(line)["text"] for path in self._folder.iterdir() for line in path.open()}
        texts: set[str] = set()
        size = num_rows // count
        for added in range(count):
            first = self.num_objects * self._rows_per_object + added * size
            lines = [self._row(n) for n in range(first, first + size)]
            for at, line in enumerate(lines):
                line["text"] += suffix and f" ({suffix} {added}/{at})"
            texts.update(line["text"] for line in lines)
            self._write(self.num_objects + added, lines)
        self.num_objects += count
        return len(texts - stored)

    def rename_one(self) -> None:
        """Rename one object."""
        (self._folder / "part-00000.jsonl").rename(self._folder / "renamed.jsonl")

    def _lines(self, number: int) -> list[dict[str, str]]:
        first = number * self._rows_per_object
        return [self._row(n) for n in range(first, first + self._rows_per_object)]

    def _row(self, n: int) -> dict[str, str]:
        repeat, at = divmod(n, len(self._texts))
        return {"id": f"row-{n}", "text": self._texts[at] + (f" [{repeat}]" if repeat else "")}

    def _write(self, number: int, lines: list[dict[str, str]]) -> None:
        content = "".join(json.dumps(line) + "\n" for line in lines)
        (self._folder / f"part-{number:05}.jsonl").write_text(content)


def measure(name: str, raw: Path, table: Path, model: str, settings: dict[str, Any]) -> Measured:
    """Refresh in a new process."""
    request = {"raw": str(raw), "table": str(table), "model": model, "settings": settings}
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(request)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    measured = Measured(name=name, **json.loads(done.stdout.splitlines()[-1]))
    print(
        f"  {name}: {measured.seconds:.2f} s, {measured.cpu_seconds:.2f} s CPU, {measured.peak_mib:,.0f} MiB",
        file=sys.stderr,
        flush=True,
    )
    return measured


def child(request: dict[str, Any]) -> None:
    """Refresh and print the measurements."""
    import transformers.models.bert.modeling_bert  # noqa: F401  (so that imports are not measured)

    from tests.benchmarks.harness import peak_mebibytes
    from tests.support.refreshing import refreshed

    opened: set[str] = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(request["raw"] + "/"):
            opened.add(str(arguments[0]))

    sys.addaudithook(note)
    began, cpu_began = time.monotonic(), time.process_time()
    with profiled(os.environ.get("PROFILE")):
        report = refreshed(**request, concurrency=2).report
    measured = {
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "peak_mib": peak_mebibytes(),
        "num_objects_opened": len(opened),
        "num_texts_encoded": report.num_texts_encoded,
        "num_rows_carried": report.num_rows_carried,
    }
    print(json.dumps(measured))


@contextlib.contextmanager
def profiled(path: str | None) -> Iterator[None]:
    """Write a profile of the block to `path`, unless that is None."""
    if path is None:
        yield
        return
    import cProfile

    with cProfile.Profile() as profile:
        yield
    profile.dump_stats(path)


def night(folder: Path, texts: list[str], arguments: argparse.Namespace, model: str, num_rows: int) -> list[Measured]:
    """Build a table, refresh it after each kind of change, and check how many texts each refresh encoded."""
    num_objects = max(1, arguments.objects * num_rows // arguments.rows)
    raw = Raw(folder / "raw", texts, num_rows, num_objects)
    steps: list[tuple[str, Callable[[], int | None]]] = [
        ("full run", lambda: None),
        ("nothing changed", lambda: 0),
        ("1 % of rows changed, spread over all objects", lambda: raw.change_everywhere(100)),
        ("1 % of rows in 2 new objects", lambda: raw.add_objects(2, num_rows // 100)),
        ("the same, every text new and longer", lambda: raw.add_objects(2, num_rows // 100, suffix="new")),
        ("one object renamed", lambda: raw.rename_one() or 0),
    ]
    runs = []
    for name, change in steps:
        num_changed = change()
        runs.append(measure(name, folder / "raw", folder / "table", model, arguments.settings))
        if num_changed is not None and runs[-1].num_texts_encoded != num_changed:
            raise SystemExit(f"{name}: {num_changed} texts changed, but {runs[-1].num_texts_encoded} were encoded")
    if runs[1].num_objects_opened:
        raise SystemExit(f"nothing changed, but {runs[1].num_objects_opened} objects were opened")
    return runs


def show(nights: list[Measured], small: list[Measured], arguments: argparse.Namespace) -> None:
    """Print the table."""
    print(f"{arguments.rows:,} rows in {arguments.objects} objects, encoder {arguments.model}")
    print(f"{'':46} seconds  of full      CPU  of full  opened   encoded   carried  peak MiB  small")
    for one, other in zip(nights, small, strict=True):
        print(
            f"{one.name:46} {one.seconds:7.2f} {one.seconds / nights[0].seconds:8.2%} {one.cpu_seconds:8.2f} "
            f"{one.cpu_seconds / nights[0].cpu_seconds:8.2%} {one.num_objects_opened:7,} {one.num_texts_encoded:9,} "
            f"{one.num_rows_carried:9,} {one.peak_mib:9,.0f} {other.peak_mib:6,.0f}"
        )
    worst = max(one.peak_mib / other.peak_mib for one, other in zip(nights, small, strict=True))
    print(
        f"peak memory compared with a table of {arguments.rows // 10:,} rows (last column): at most {worst:.2f} times"
    )
    print(json.dumps({"nights": [asdict(one) for one in nights], "small": [asdict(one) for one in small]}))


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", help="Folder of .jsonl.gz files with a column text. [generated texts]")
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="Rows of the large table; the small one has a tenth."
    )
    parser.add_argument("--objects", type=int, default=200, help="Objects of the large table.")
    parser.add_argument("--model", default="tiny", help="Encoder: tiny, default, or a model folder.")
    parser.add_argument("--settings", type=json.loads, default={}, help="Settings of the refresh, as a JSON object.")
    parser.add_argument("--folder", help="Folder to work in. [a temporary folder]")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(json.loads(arguments.child))
        return
    with tempfile.TemporaryDirectory(prefix="sbert-nights-", dir=arguments.folder) as name:
        folder = Path(name)
        if arguments.model == "tiny":
            model = tiny_model(folder / "model")
        elif arguments.model == "default":
            from sbert.encoder.model_location import DEFAULT_MODEL as model
        else:
            model = arguments.model
        texts = base_texts(arguments.corpus)
        small = night(folder / "small", texts, arguments, model, arguments.rows // 10)
        show(night(folder / "large", texts, arguments, model, arguments.rows), small, arguments)


if __name__ == "__main__":
    main()
