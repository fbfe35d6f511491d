"""Encoding on a CPU: our `encode` compared with sentence-transformers and its OpenVINO and ONNX backends.

    python -m tests.benchmarks.encode [--rounds 5] [--sts STS_TEST.csv] [--texts RAW_URI] [--compiled] [--backends] [--without-amx]

Each way runs in its own process, with the same threads and the same texts, after a warm-up. The ways take turns. The table shows the
median of the rounds and the ratio to each way. ``--backends`` first creates a virtual environment, because the backends need
another version of transformers (``--backends-python`` uses an existing one). ``--compiled`` adds `SentenceTransformer.compile` with
inductor's freezing; it compiles in its first pass, for about a minute. ``--without-amx`` turns AMX and bfloat16 units off for every
way, through the environment.
"""

import argparse
import contextlib
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from scipy.stats import spearmanr

from sbert.encoder.model_location import DEFAULT_MODEL, locate_model
from sbert.runtime.hardware import has_fast_bfloat16
from tests.benchmarks.harness import print_table, texts_under

BACKEND_PACKAGES = ["sentence-transformers[openvino,onnx]", "datasets"]
COUNTS = {"short": 3_000, "mixed": 600, "long": 100}
SLOWER = {"ours-float32": 3, "st-float32": 4, "openvino-float32": 3, "onnx": 4}
"""Slow ways encode 1/n of the texts; rates are compared, so the result is the same."""
BATCH_SIZES = {
    "st-float32": {"short": 32, "mixed": 32, "long": 32},
    "st-bfloat16": {"short": 256, "mixed": 32, "long": 16},
    "st-compiled": {"short": 256, "mixed": 32, "long": 16},
    "openvino-bfloat16": {"short": 128, "mixed": 64, "long": 32},
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
        self, way: str, python: str, model: str, texts: str, batch_size: int, environment: dict[str, str]
    ) -> None:
        self.way = way
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("encode_peer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment, "PYTHONPATH": str(Path.cwd())},
        )
        self._ask({"way": way, "model": model, "texts": texts, "batch_size": batch_size})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def rate(self, case: str, count: int, jobs: int = 1) -> float:
        """Return texts per second. Each job is a call of `encode` with `count` other texts."""
        answer = self._ask({"case": case, "count": count, "jobs": jobs})
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


def make_backends(folder: Path, model: str, calibration: list[str], python: str | None) -> tuple[str, str]:
    """Return the interpreter with the packages of the backends, and the folder of the exported model."""
    if python is None:
        python = str(folder / "venv/bin/python")
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", f"torch=={_torch_version()}", *BACKEND_PACKAGES], check=True
        )
    exported = folder / "model"
    subprocess.run(
        [python, str(Path(__file__).with_name("encode_peer.py")), "export", model, str(exported)],
        input="".join(json.dumps({"text": text}) + "\n" for text in calibration),
        text=True,
        check=True,
    )
    return python, str(exported)


def _torch_version() -> str:
    import torch

    return torch.__version__.split("+")[0]


def overlap_at_10(vectors: np.ndarray, reference: np.ndarray) -> float:
    """Return the share of each text's ten nearest neighbours that are the same in both."""
    nearest = [np.argsort(-(side @ side.T) + 9 * np.eye(len(side)), axis=1)[:, :10] for side in (vectors, reference)]
    return float(np.mean([len(set(ours) & set(theirs)) / 10 for ours, theirs in zip(*nearest, strict=True)]))


def rates_of(case: str, ways: Ways, texts: Path, num_texts: int, rounds: int, environment: dict[str, str]) -> None:
    """Measure all ways in turns on the texts of one case and print their rates."""
    counts = {way: max(16, num_texts // SLOWER.get(way, 1)) for way in ways}
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with contextlib.ExitStack() as stack:
        peers = {
            way: stack.enter_context(
                Peer(way, python, model, str(texts), BATCH_SIZES.get(way, {}).get(case, 32), environment)
            )
            for way, (python, model) in ways.items()
        }
        for way, peer in peers.items():  # a first pass as warm-up
            print(f"{case}, {way}: first pass {counts[way] / peer.rate(case, counts[way]):.1f} s", flush=True)
        for _ in range(rounds):
            for way, peer in peers.items():
                rates[way].append(peer.rate(case, counts[way]))
    rows = [
        [way, statistics.median(own), statistics.median(a / b for a, b in zip(rates["ours"], own, strict=True))]
        for way, own in rates.items()
    ]
    print_table(f"{case}: medians of {rounds} rounds", ["way", "texts/s", "ours is … times as fast"], rows)


def quality_of(
    ways: Ways, texts: Path, cases: Sequence[str], gold: Sequence[float], environment: dict[str, str]
) -> None:
    """Compare the vectors of all ways with those of sentence-transformers in float32 and print the table."""
    reference: dict[str, np.ndarray] = {}
    rows = []
    for way in ["st-float32", *(way for way in ways if way != "st-float32")]:
        python, model = ways[way]
        with Peer(way, python, model, str(texts), 32, environment) as peer:
            found = {case: peer.vectors(case, None, texts.with_name("vectors.npy")) for case in cases}
        reference = reference or found
        row = [
            way,
            f"{(found['quality'] * reference['quality']).sum(axis=1).min():.5f}",
            f"{overlap_at_10(found['quality'], reference['quality']):.4f}",
        ]
        if gold:
            first, second = np.split(found["sts"], 2)
            row.append(f"{100 * spearmanr((first * second).sum(axis=1), gold).statistic:.2f}")
        rows.append(row)
    print_table("quality", ["way", "least cosine", "overlap@10", *(["STS Spearman"] if gold else [])], rows)


def own_ways(model: str, *, compiled: bool) -> Ways:
    """Return our ways and those of sentence-transformers; bfloat16 only where the processor has units for it."""
    ways = ["ours", "ours-float32", "st-float32"]
    if has_fast_bfloat16(torch.device("cpu")):
        ways += ["st-bfloat16", *(["st-compiled"] if compiled else [])]
    return dict.fromkeys(ways, (sys.executable, model))


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="Rounds; medians are printed.")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="Encoder to measure.")
    parser.add_argument("--texts", help="Raw URI of texts for the mixed case. [the sample corpus]")
    parser.add_argument("--sts", type=Path, help="CSV without header: sentence1, sentence2, score.")
    parser.add_argument("--cases", nargs="*", default=list(COUNTS), help="Lengths of texts: short, mixed, long.")
    parser.add_argument(
        "--compiled", action="store_true", help="Also measure sentence-transformers in bfloat16 through torch.compile."
    )
    parser.add_argument("--backends", action="store_true", help="Also measure the OpenVINO and ONNX backends.")
    parser.add_argument("--backends-python", help="Python interpreter that has the packages of the backends.")
    parser.add_argument("--without-amx", action="store_true", help="Turn AMX and bfloat16 units off for every way.")
    arguments = parser.parse_args()
    environment = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"} if arguments.without_amx else {}
    os.environ.update(environment)
    cases = make_cases(arguments.texts)
    quality = {"quality": cases["mixed"][:300] + cases["short"][:300]}
    gold: list[float] = []
    if arguments.sts is not None:
        pairs = list(csv.reader(arguments.sts.open(encoding="utf-8")))
        quality["sts"] = [row[0] for row in pairs] + [row[1] for row in pairs]
        gold = [float(row[2]) for row in pairs]
    model = str(locate_model(arguments.model))
    ways = own_ways(model, compiled=arguments.compiled)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.backends or arguments.backends_python:
            made = make_backends(folder, model, cases["mixed"][:300], arguments.backends_python)
            backends = ["openvino-float32", "openvino-int8", "onnx"]
            ways |= dict.fromkeys(backends + (["openvino-bfloat16"] if "st-bfloat16" in ways else []), made)
        texts = folder / "texts.json"
        texts.write_text(json.dumps({**cases, **quality}), encoding="utf-8")
        for case in arguments.cases:
            rates_of(case, ways, texts, len(cases[case]), arguments.rounds, environment)
        quality_of(ways, texts, list(quality), gold, environment)


if __name__ == "__main__":
    main()
