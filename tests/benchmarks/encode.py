"""Encoding on a CPU: our `encode` compared with sentence-transformers and its OpenVINO and ONNX backends.

    python -m tests.benchmarks.encode [--rounds 5] [--sts STS_TEST.csv] [--texts RAW_URI] [--compiled] [--backends] [--without-amx]

Each way runs in its own process, with the same threads and the same texts, after a warm-up. The ways take turns. The table shows the
median of the rounds and the ratio to each way. ``--backends`` first creates a virtual environment, because the backends need
another version of transformers (``--backends-python`` uses an existing one). ``--compiled`` adds `SentenceTransformer.compile` with
inductor's freezing; it compiles in its first pass, for about a minute. ``--without-amx`` turns AMX and bfloat16 units off for every
way, through the environment.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np

from sbert.encoder.model_folder import DEFAULT_MODEL, locate_model
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

    def rate(self, case: str, count: int) -> float:
        """Return texts per second."""
        answer = self._ask({"case": case, "count": count})
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
    if arguments.sts is not None:
        import csv

        pairs = list(csv.reader(arguments.sts.open(encoding="utf-8")))
        quality["sts"] = [row[0] for row in pairs] + [row[1] for row in pairs]
        gold = [float(row[2]) for row in pairs]
    model = str(locate_model(arguments.model))
    ways: dict[str, tuple[str, str]] = dict.fromkeys(
        ("ours", "ours-float32", "st-float32", "st-bfloat16", *(["st-compiled"] if arguments.compiled else [])),
        (sys.executable, model),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.backends or arguments.backends_python:
            made = make_backends(folder, model, cases["mixed"][:300], arguments.backends_python)
            ways |= dict.fromkeys(("openvino-float32", "openvino-bfloat16", "openvino-int8", "onnx"), made)
        texts = folder / "texts.json"
        texts.write_text(json.dumps({**cases, **quality}), encoding="utf-8")
        for case in arguments.cases:
            rates: dict[str, list[float]] = {way: [] for way in ways}
            peers = {
                way: Peer(way, python, place, str(texts), BATCH_SIZES.get(way, {}).get(case, 32), environment)
                for way, (python, place) in ways.items()
            }
            counts = {way: max(16, len(cases[case]) // SLOWER.get(way, 1)) for way in ways}
            for way, peer in peers.items():
                first = counts[way] / peer.rate(case, counts[way])  # warm
                print(f"{case}, {way}: first pass {first:.1f} s", flush=True)
            for _ in range(arguments.rounds):
                for way, peer in peers.items():
                    rates[way].append(peer.rate(case, counts[way]))
            middle = {way: statistics.median(values) for way, values in rates.items()}
            rows = [
                [way, middle[way], statistics.median(a / b for a, b in zip(rates["ours"], rates[way], strict=True))]
                for way in ways
            ]
            print_table(
                f"{case}: medians of {arguments.rounds} rounds", ["way", "texts/s", "ours is … times as fast"], rows
            )
            for peer in peers.values():
                peer.__exit__()
        reference, rows = {}, []
        for way in ["st-float32", *(way for way in ways if way != "st-float32")]:
            python, place = ways[way]
            with Peer(way, python, place, str(texts), 32, environment) as peer:
                found = {case: peer.vectors(case, None, folder / "vectors.npy") for case in quality}
            reference = reference or found
            row: list[object] = [
                way,
                f"{(found['quality'] * reference['quality']).sum(axis=1).min():.5f}",
                f"{overlap_at_10(found['quality'], reference['quality']):.4f}",
            ]
            if arguments.sts is not None:
                from scipy.stats import spearmanr

                half = len(gold)
                row.append(
                    f"{100 * spearmanr((found['sts'][:half] * found['sts'][half:]).sum(axis=1), gold).statistic:.2f}"
                )
            rows.append(row)
        print_table(
            "quality", ["way", "least cosine", "overlap@10", *(["STS Spearman"] if arguments.sts else [])], rows
        )


if __name__ == "__main__":
    main()
