"""Encoding on a CPU: our `encode` compared with sentence-transformers and its OpenVINO and ONNX backends.

    python -m tests.benchmarks.encode [--peers FOLDER] [--compiled] [--rounds 3] [--sts STS_TEST.csv] [--write]

Each way runs in its own process, with the same threads and the same texts, after a warm-up. The ways take turns, and a turn takes
about `--seconds`. Ways that the processor has no units for are left out. The table shows the median of the rounds and the ratio to each
way. ``--peers`` adds the backends. They need another version of transformers, so they have a virtual environment in FOLDER, which is made
at first use and kept, as are the exported models. ``--compiled`` adds `SentenceTransformer.compile` with inductor's freezing; it compiles in
its first pass, for about a minute. ``--without-amx`` turns AMX and bfloat16 units off for every way, through the environment. With
everything, two cores need ten minutes. ``--write`` puts a line for this kind of processor into `tests/benchmarks/README.md`.
"""

import argparse
import contextlib
import csv
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from scipy.stats import spearmanr

from sbert.encoder.engine.dtype import ComputeDtype, dtypes_with_units
from sbert.encoder.engine.kernel_targets import ALL_UNITS
from sbert.encoder.model_location import DEFAULT_MODEL, locate_model
from sbert.runtime.cpus import available_cpus
from sbert.runtime.hardware import has_units
from tests.benchmarks.harness import print_table, texts_under

BACKEND_PACKAGES = ["sentence-transformers[openvino,onnx]", "datasets"]
COUNTS = {"short": 3_000, "mixed": 600, "long": 100}
FIRST_COUNTS = {"short": 192, "mixed": 160, "long": 16}
"""Texts of the first pass, a warm-up. The second pass over as many tells how many texts fill a turn."""
EQUAL_QUALITY = 0.999
"""Least cosine of the ways that the summary compares with."""
README = Path(__file__).with_name("README.md")
SUMMARY = "<!-- encode --write: one line for each kind of processor -->"
BATCH_SIZES = {
    "st-float32": {"short": 32, "mixed": 32, "long": 32},
    "st-bfloat16": {"short": 256, "mixed": 32, "long": 16},
    "st-compiled": {"short": 256, "mixed": 32, "long": 16},
    "openvino-bfloat16": {"short": 128, "mixed": 160, "long": 32},
    "openvino-float32": {"short": 64, "mixed": 16, "long": 16},
    "openvino-int8": {"short": 128, "mixed": 32, "long": 16},
    "onnx": {"short": 32, "mixed": 8, "long": 8},
}
"""For float32 the default; otherwise the fastest of 8 to 256 on a 2-core machine with AMX."""

Ways = dict[str, tuple[str, str]]
"""Python interpreter and model folder of each way."""


class Peer:
    """One way of encoding, in its own process."""

    def __init__(
        self, way: str, python: str, model: str, texts: str, environment: dict[str, str] | None = None
    ) -> None:
        self.way = way
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("encode_peer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **(environment or {}), "PYTHONPATH": str(Path.cwd())},
        )
        self._ask({"way": way, "model": model, "texts": texts})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def rate(self, case: str, count: int, jobs: int = 1) -> float:
        """Return texts per second. Each job is a call of `encode` with `count` other texts."""
        batch_size = BATCH_SIZES.get(self.way, {}).get(case, 32)
        answer = self._ask({"case": case, "count": count, "jobs": jobs, "batch_size": batch_size})
        return float(answer["count"] / answer["seconds"])

    def vectors(self, case: str, count: int | None, file: Path) -> np.ndarray:
        """Return the vectors of a case."""
        self._ask({"case": case, "count": count, "save": str(file)})
        return np.load(file)

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.way} ended with status {self._process.wait()}")
        return dict(json.loads(answer))


def make_cases(texts_uri: str | None) -> dict[str, list[str]]:
    """Return short (up to 16 tokens), mixed and long (256 tokens) texts, by default from the sample corpus."""
    from sbert.encoder.sentence_encoder import SentenceEncoder

    with tempfile.TemporaryDirectory() as folder:
        if texts_uri is None:
            from sbert.source.sample import write_sample

            write_sample(folder)
            texts_uri = folder
        documents = texts_under(texts_uri, 6_000)
    order = np.random.default_rng(0).permutation(len(documents))
    documents = [documents[number] for number in order]
    words = " ".join(documents).split()
    tokenize = SentenceEncoder.from_pretrained(compute_dtype=None).tokenize
    short = [" ".join(words[at : at + 5]) for at in range(0, 5 * 6_000, 5)]
    short = [text for text, size in zip(short, tokenize(short).lengths, strict=True) if size <= 16]
    short = list(dict.fromkeys(short))  # ours computes equal texts once, the others compute each
    long = [" ".join(words[at % (len(words) - 250) :][:250]) for at in range(0, 250 * COUNTS["long"], 250)]
    return {"short": short[: COUNTS["short"]], "mixed": documents[: COUNTS["mixed"]], "long": long}


def make_peers(folder: Path, model: str, calibration: list[str]) -> tuple[str, str]:
    """Return the interpreter with the packages of the backends, and the folder of the exported model. Make what is missing."""
    python, exported = folder / "venv/bin/python", folder / f"model-{hashlib.sha256(model.encode()).hexdigest()[:8]}"
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        packages = [f"torch=={_torch_version()}", *BACKEND_PACKAGES]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "installed").touch()
    if not (exported / "exported").exists():
        subprocess.run(
            [str(python), str(Path(__file__).with_name("encode_peer.py")), "export", model, str(exported)],
            input="".join(json.dumps({"text": text}) + "\n" for text in calibration),
            text=True,
            check=True,
        )
        (exported / "exported").touch()
    return str(python), str(exported)


def _torch_version() -> str:
    import torch

    return torch.__version__.split("+")[0]


def overlap_at_10(vectors: np.ndarray, reference: np.ndarray) -> float:
    """Return the share of each text's ten nearest neighbours that are the same in both."""
    nearest = [np.argsort(-(side @ side.T) + 9 * np.eye(len(side)), axis=1)[:, :10] for side in (vectors, reference)]
    return float(np.mean([len(set(ours) & set(theirs)) / 10 for ours, theirs in zip(*nearest, strict=True)]))


@dataclass(frozen=True)
class Rate:
    """The rate of one way on the texts of one case."""

    texts_per_second: float
    ratio: float
    """Our rate divided by this one, as the median over the rounds."""


def rates_of(case: str, peers: Mapping[str, Peer], num_texts: int, rounds: int, seconds: float) -> dict[str, Rate]:
    """Measure all ways in turns on the texts of one case."""
    rates: dict[str, list[float]] = {way: [] for way in peers}
    counts = {}
    for way, peer in peers.items():
        peer.rate(case, FIRST_COUNTS[case])
        counts[way] = min(num_texts, max(FIRST_COUNTS[case], int(seconds * peer.rate(case, FIRST_COUNTS[case]))))
    for _ in range(rounds):
        for way, peer in peers.items():
            rates[way].append(peer.rate(case, counts[way]))
    return {
        way: Rate(statistics.median(own), statistics.median(a / b for a, b in zip(rates["ours"], own, strict=True)))
        for way, own in rates.items()
    }


@dataclass(frozen=True)
class Quality:
    """The vectors of one way compared with those of sentence-transformers in float32."""

    least_cosine: float
    overlap_at_10: float
    sts: float | None
    """Spearman correlation on the STS Benchmark, times 100."""


def quality_of(peers: Mapping[str, Peer], folder: Path, gold: Sequence[float]) -> dict[str, Quality]:
    """Compare the vectors of all ways with those of sentence-transformers in float32."""
    vectors_by_way = {way: peer.vectors("quality", None, folder / "vectors.npy") for way, peer in peers.items()}
    reference = vectors_by_way["st-float32"]
    qualities = {}
    for way, vectors in vectors_by_way.items():
        sts = None
        if gold:
            first, second = np.split(peers[way].vectors("sts", None, folder / "vectors.npy"), 2)
            sts = 100 * float(spearmanr((first * second).sum(axis=1), gold).statistic)
        least = float((vectors * reference).sum(axis=1).min())
        qualities[way] = Quality(least, overlap_at_10(vectors, reference), sts)
    return qualities


def summary_of(rates: Mapping[str, Mapping[str, Rate]], qualities: Mapping[str, Quality], kind: str) -> str:
    """Return a line for the table by kind of processor: our rates, and the ratios to float32 and to the best other way."""
    ours, plain, best, names = [], [], [], []
    for case in rates.values():
        others = {way: rate for way, rate in case.items() if not way.startswith("ours")}
        equal = {way: rate for way, rate in others.items() if qualities[way].least_cosine >= EQUAL_QUALITY}
        name = min(equal, key=lambda way: equal[way].ratio)
        ours.append(f"{case['ours'].texts_per_second:,.0f}")
        plain.append(f"{others['st-float32'].ratio:.1f}")
        best.append(f"{equal[name].ratio:.1f}")
        names.append(name)
    day = datetime.now(UTC).date().isoformat()
    columns = [kind, day, *(", ".join(each) for each in (ours, plain, best)), ", ".join(dict.fromkeys(names))]
    return f"| {' | '.join(columns)} |"


def write_summary(line: str, kind: str) -> None:
    """Put a line into the table of the guide, in place of an earlier one for this kind of processor."""
    text = README.read_text(encoding="utf-8")
    lines = [each for each in text.splitlines() if not each.startswith(f"| {kind} |")]
    lines.insert(lines.index(SUMMARY), line)
    README.write_text("\n".join(lines) + "\n", encoding="utf-8")


def kind_of_processor(*, without_amx: bool) -> str:
    """Return the best units of this processor, and its number of cores."""
    units = next((units.needs for units in ALL_UNITS if has_units(units.name)), "none of these units")
    return f"{units}{' (AMX off)' if without_amx else ''}, {available_cpus()} cores"


def own_ways(model: str, *, compiled: bool) -> Ways:
    """Return our ways and those of sentence-transformers, each only where the processor has units for its type."""
    cpu = torch.device("cpu")
    ways = ["ours", *(f"ours-{dtype}" for dtype in dtypes_with_units(cpu)[1:] or [ComputeDtype.FLOAT32]), "st-float32"]
    if has_units("amx") or has_units("avx512_bf16"):
        ways += ["st-bfloat16", *(["st-compiled"] if compiled else [])]
    return dict.fromkeys(ways, (sys.executable, model))


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="Rounds; medians are printed.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Time of a way in a round (seconds).")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Encoder to measure.")
    parser.add_argument("--texts", help="Raw URI of texts for the mixed case. [the sample corpus]")
    parser.add_argument("--sts", type=Path, help="CSV without header: sentence1, sentence2, score.")
    parser.add_argument("--cases", nargs="*", default=list(COUNTS), help="Lengths of texts: short, mixed, long.")
    parser.add_argument(
        "--compiled", action="store_true", help="Also measure sentence-transformers in bfloat16 through torch.compile."
    )
    parser.add_argument(
        "--peers", type=Path, help="Also measure OpenVINO and ONNX; folder that keeps their environment."
    )
    parser.add_argument("--without-amx", action="store_true", help="Turn AMX and bfloat16 units off for every way.")
    parser.add_argument("--write", action="store_true", help="Put a line into the guide of the benchmarks.")
    arguments = parser.parse_args()
    environment = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"} if arguments.without_amx else {}
    os.environ.update(environment)
    cases = make_cases(arguments.texts)
    quality = {"quality": cases["mixed"][:150] + cases["short"][:300]}
    gold: list[float] = []
    if arguments.sts is not None:
        pairs = list(csv.reader(arguments.sts.open(encoding="utf-8")))
        quality["sts"] = [row[0] for row in pairs] + [row[1] for row in pairs]
        gold = [float(row[2]) for row in pairs]
    model = str(locate_model(arguments.model))
    ways = own_ways(model, compiled=arguments.compiled)
    if arguments.peers is not None:
        arguments.peers.mkdir(parents=True, exist_ok=True)
        made = make_peers(arguments.peers.resolve(), model, cases["mixed"][:300])
        backends = ["openvino-float32", "openvino-int8", "onnx"]
        ways |= dict.fromkeys(backends + (["openvino-bfloat16"] if "st-bfloat16" in ways else []), made)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        texts = Path(name) / "texts.json"
        texts.write_text(json.dumps({**cases, **quality}), encoding="utf-8")
        peers = {
            way: stack.enter_context(Peer(way, python, folder, str(texts), environment))
            for way, (python, folder) in ways.items()
        }
        rates = {
            case: rates_of(case, peers, len(cases[case]), arguments.rounds, arguments.seconds)
            for case in arguments.cases
        }
        qualities = quality_of(peers, Path(name), gold)
    for case, rate_by_way in rates.items():
        rows = [[way, rate.texts_per_second, f"{rate.ratio:.2f}"] for way, rate in rate_by_way.items()]
        title = f"{case}: medians of {arguments.rounds} rounds"
        print_table(title, ["way", "texts/s", "ours is … times as fast"], rows)
    rows = [
        [
            way,
            f"{quality.least_cosine:.5f}",
            f"{quality.overlap_at_10:.4f}",
            "" if quality.sts is None else f"{quality.sts:.2f}",
        ]
        for way, quality in qualities.items()
    ]
    print_table("quality", ["way", "least cosine", "overlap@10", "STS Spearman"], rows)
    kind = kind_of_processor(without_amx=arguments.without_amx)
    line = summary_of(rates, qualities, kind)
    print(line)
    if arguments.write:
        write_summary(line, kind)


if __name__ == "__main__":
    main()
