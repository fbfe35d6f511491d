"""Shared by the benchmarks: texts, a tiny encoder, alternating runs, a table."""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["alternate", "made_up_texts", "peak_mebibytes", "print_table", "texts_under", "tiny_model"]

SYLLABLES = "ba be bi bo da de di do fa fe ga go ka ke ki la le li lo ma me mi mo na ne no pa pe ra re ri sa se so ta te ti to".split()


def made_up_texts(count: int, words: int = 14, seed: int = 0) -> Iterator[str]:
    """Generate different texts of about `words` words; half of them are shorter, a few much longer."""
    source = random.Random(seed)
    vocabulary = ["".join(source.choices(SYLLABLES, k=source.randint(1, 4))) for _ in range(5_000)]
    for number in range(count):
        length = max(2, int(source.lognormvariate(0, 0.5) * words))
        yield f"{' '.join(source.choices(vocabulary, k=length))} {number}"


def texts_under(raw_uri: str | None, count: int) -> list[str]:
    """Return up to `count` texts of a corpus (any raw URI with a column ``text``); without a URI, generated texts."""
    if raw_uri is None:
        return list(made_up_texts(count))
    from sbert.source.listing import list_objects
    from sbert.source.objects import Span
    from sbert.source.reading import read_span
    from sbert.source.settings import ReadSettings, SourceSettings

    texts: list[str] = []
    for item in list_objects(raw_uri):
        for block in read_span(Span(object=item), SourceSettings(), ReadSettings(), {}):
            texts += block.rows["text"].to_list()
            if len(texts) >= count:
                return texts[:count]
    return texts


def tiny_model(folder: Path) -> str:
    """Save an encoder that costs almost nothing, so that the cost of the pipeline remains."""
    from tests.support.tiny_models import save_tiny

    return save_tiny(folder)


def peak_mebibytes() -> float:
    """Return the largest resident set of this process, in MiB, since it began to run its program.

    `ru_maxrss` would count that of its parent as well: a new process begins as a copy of it.
    """
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def alternate(cases: Mapping[str, Callable[[], float | None]], rounds: int) -> dict[str, float]:
    """Run the cases in turns for several rounds and return the median of each.

    A case returns its own measure. If it returns None, its time in seconds is the measure.
    """
    measures: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            began = time.perf_counter()
            own = case()
            measures[name].append(time.perf_counter() - began if own is None else own)
    return {name: statistics.median(values) for name, values in measures.items()}


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print one table with numbers aligned to the right."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(header):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(
            *(
                f"{value:,.3g}"
                if isinstance(value, float) and value < 100
                else f"{value:,.0f}"
                if isinstance(value, int | float)
                else str(value)
                for value in row
            )
        )
    console = Console()
    Console(width=max(console.width, 120)).print(table)
