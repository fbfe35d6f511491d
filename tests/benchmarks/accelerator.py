"""Encoding on an accelerator: our `encode` compared with the fastest setting of sentence-transformers, and with the device's peak rate.

    python -m tests.benchmarks.accelerator [--device cuda] [--texts RAW] [--count 100000] [--rounds 3]

It needs one card, this project with its test dependencies, and about ten minutes: a pass of sentence-transformers has at most as many
texts as fit into `--seconds`. All ways run in one process, in turns, after a warm-up, on the same texts. The benchmark first searches for
the fastest setting of sentence-transformers: bfloat16 and float16, torch's attention and flash attention (if `flash_attn` is installed),
batch sizes of 64 to 4,096. It measures two encoders: the packaged one, and one of the size of BERT-base with random weights. Where
variable-length attention is used, rows with masks (`packed`) are measured too. Model FLOPs are 2 per layer weight and token, plus 4 x
layers x hidden size for each pair of tokens of a text (Kaplan et al. 2020, table 1, without the embeddings). They are compared with the
rate of one large bfloat16 product. Please send the printed lines for `tests/benchmarks/README.md`. `encode.py` measures CPUs.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sbert.encoder.engine.budget import TokenBudget
from sbert.encoder.model_location import DEFAULT_MODEL, locate_model
from sbert.encoder.pooling import Pooling, PoolingMode
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.runtime.hardware import default_device
from tests.benchmarks.harness import alternate, print_table, texts_under

BATCH_SIZES = (64, 256, 1_024, 4_096)
LOOKED_AT = 8_192
"""Number of texts in the search for the fastest setting of sentence-transformers."""


def base_sized(folder: Path) -> str:
    """Save an encoder of BERT-base's size, with random weights and the packaged encoder's tokenizer."""
    import transformers

    small = SentenceEncoder.from_pretrained(device="cpu")
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(vocab_size=len(small.hf_tokenizer)))
    pooling = Pooling(model.config.hidden_size, (PoolingMode.MEAN,))
    SentenceEncoder(model, small.hf_tokenizer, pooling, max_seq_length=256, device="cpu").save_pretrained(folder)
    return str(folder)


def model_flops(encoder: SentenceEncoder, lengths: np.ndarray) -> float:
    """Return the FLOPs of one pass over texts with the given numbers of tokens."""
    config: Any = encoder.transformer.config
    layers = [value.numel() for name, value in encoder.transformer.named_parameters() if ".layer." in name]
    attention = 4 * config.num_hidden_layers * config.hidden_size * float((lengths.astype(np.float64) ** 2).sum())
    return 2.0 * sum(layers) * float(lengths.sum()) + attention


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def product_rate(device: torch.device) -> float:
    """Return the FLOP/s of a large bfloat16 product, as the median of 20 products."""
    size = 8_192 if device.type == "cuda" else 1_024
    left, right = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(20):
        wait(device)
        began = time.perf_counter()
        left @ right
        wait(device)
        seconds.append(time.perf_counter() - began)
    return 2.0 * size**3 / statistics.median(seconds)


def sentence_transformers_at_its_best(
    model: str, device: torch.device, texts: list[str]
) -> tuple[float, str, Callable[[list[str]], object]]:
    """Return the texts per second and the name of the fastest setting of sentence-transformers, and its encode function."""
    from sentence_transformers import SentenceTransformer

    attentions = ["sdpa", *(["flash_attention_2"] if importlib.util.find_spec("flash_attn") else [])]
    best: tuple[float, str, Callable[[list[str]], object]] | None = None
    for dtype in (torch.bfloat16, torch.float16):
        for attention in attentions:
            options = {"dtype": dtype, "attn_implementation": attention}
            encoder = SentenceTransformer(model, device=str(device), local_files_only=True, model_kwargs=options)
            for size in BATCH_SIZES:

                def encode(some: list[str], encoder: Any = encoder, size: int = size) -> object:
                    return encoder.encode(some, batch_size=size)

                encode(texts[:LOOKED_AT])
                began = time.perf_counter()
                encode(texts[:LOOKED_AT])
                seconds = time.perf_counter() - began
                if best is None or seconds < best[0]:
                    best = (seconds, f"{dtype}, {attention}, batches of {size}".removeprefix("torch."), encode)
    assert best is not None
    return len(texts[:LOOKED_AT]) / best[0], best[1], best[2]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=str(default_device()), help="Device to encode on.")
    parser.add_argument("--texts", help="Raw URI of a corpus with a column text. [generated texts]")
    parser.add_argument("--count", type=int, default=100_000, help="Number of texts.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds; medians are printed.")
    parser.add_argument("--seconds", type=float, default=20.0, help="Most seconds for a pass of sentence-transformers.")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    everything = texts_under(arguments.texts, arguments.count)
    rate = product_rate(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in (str(locate_model(DEFAULT_MODEL)), base_sized(Path(folder) / "base")):
            ours = SentenceEncoder.from_pretrained(model, device=device)
            their_rate, their_name, theirs = sentence_transformers_at_its_best(model, device, everything)
            texts = everything[: max(LOOKED_AT, int(arguments.seconds * their_rate))]
            tokens = ours.tokenize(texts)
            flops = model_flops(ours, tokens.lengths)
            ways: dict[str, Callable[[], None]] = {
                f"encode, {ours.compute_dtype}, {ours.selected_runner.name}": partial(drop, ours.encode, texts),
                f"encode, tokens given, {ours.selected_runner.name}": partial(drop, ours.encode_tokens, tokens),
            }
            packed = ours.packed_runner()
            if ours.selected_runner.name == "varlen" and packed is not None:
                compute = partial(TokenBudget().compute, packed, dim=ours.dim, device=device)
                ways["encode, tokens given, packed"] = partial(drop, torch.inference_mode()(compute), tokens)
            ways[f"sentence-transformers, {their_name}"] = partial(drop, theirs, texts)
            for way in ways.values():
                way()
            seconds = alternate(ways, arguments.rounds)
            fastest = next(iter(seconds.values()))
            rows += [
                [
                    f"{ours.dim} values: {way}",
                    len(texts) / each,
                    len(tokens.input_ids) / each,
                    f"{each / fastest:.2f}",
                    f"{flops / each / rate:.1%}",
                ]
                for way, each in seconds.items()
            ]
    title = f"{name}, bfloat16 products at {rate / 1e12:.1f} TFLOP/s, medians of {arguments.rounds} rounds"
    print_table(title, ["way", "texts/s", "tokens/s", "times encode's seconds", "of the products' rate"], rows)
    print(f"Lines for the guide ({title}, torch {torch.__version__}):")
    for way, texts_rate, token_rate, ratio, share in rows:
        print(f"| {name} | {way} | {texts_rate:,.0f} | {token_rate:,.0f} | {ratio} | {share} |")


def drop(function: Callable[[Any], object], argument: object) -> None:
    """Call a function and return None, so that `alternate` measures the time."""
    function(argument)


if __name__ == "__main__":
    main()
