"""One way of encoding as a process that waits for orders, so that ways with different packages can take turns.

`encode.py` and `small_jobs.py` start it. It reads one JSON object per line. The first names the way and its texts; each further object names
a case to encode, and in how many jobs. It answers with the seconds, and writes the vectors to a file if the order names one.
"""

import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

warnings.simplefilter("ignore")

Encode = Callable[[list[str], int], np.ndarray]


def load(way: str, model: str) -> Encode:
    """Load a way by name: ``ours``, ``ours-float32``, or of sentence-transformers ``st-float32``, ``st-bfloat16``, ``st-compiled``, …"""
    if way.startswith("ours"):
        from sbert import SentenceEncoder
        from sbert.encoder.engine.dtype import ComputeDtype
        from sbert.runtime.hardware import use_available_cpus

        use_available_cpus()
        dtype = ComputeDtype(way.removeprefix("ours-")) if "-" in way else None
        encode = SentenceEncoder.from_pretrained(model, compute_dtype=dtype).encode
        return lambda texts, batch_size: encode(texts)
    import torch
    from sentence_transformers import SentenceTransformer

    options: dict[str, Any] = {}
    if way in {"st-bfloat16", "st-compiled"}:
        options = {"model_kwargs": {"torch_dtype": torch.bfloat16}}
    elif way == "onnx":
        options = {"backend": "onnx", "model_kwargs": {"provider": "CPUExecutionProvider"}}
    elif way == "openvino-int8":
        options = {"backend": "openvino", "model_kwargs": {"file_name": "openvino_model_qint8_quantized.xml"}}
    elif way.startswith("openvino"):
        precision = {"openvino-float32": "f32", "openvino-bfloat16": "bf16"}[way]
        options = {"backend": "openvino", "model_kwargs": {"ov_config": {"INFERENCE_PRECISION_HINT": precision}}}
    encoder = SentenceTransformer(model, device="cpu", local_files_only=True, **options)
    if way == "st-compiled":
        import torch._inductor.config

        torch._inductor.config.freezing = True
        encoder.compile(dynamic=True)
    return lambda texts, batch_size: encoder.encode(texts, batch_size=batch_size)


def export(model: str, folder: str) -> None:
    """Write the model in the formats of the ONNX and OpenVINO backends, and a statically quantized int8 version beside them.

    Quantization follows the export of sentence-transformers. It reads its calibration texts from standard input, not from a data set of the hub.
    """
    import datasets
    from optimum.intel.openvino import OVConfig, OVQuantizationConfig, OVQuantizer
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(model, device="cpu", backend="onnx", model_kwargs={"export": True}).save(folder)
    openvino = SentenceTransformer(model, device="cpu", backend="openvino", model_kwargs={"export": True})
    openvino.save(folder)
    texts = [json.loads(line)["text"] for line in sys.stdin]
    tokens = openvino.tokenizer(texts, padding="max_length", max_length=384, truncation=True)
    OVQuantizer.from_pretrained(openvino.transformers_model).quantize(
        datasets.Dataset.from_dict(dict(tokens)),
        save_directory=folder + "-int8",
        ov_config=OVConfig(quantization_config=OVQuantizationConfig(num_samples=len(texts))),
    )
    for ending in ("xml", "bin"):
        shutil.copy(
            f"{folder}-int8/openvino/openvino_model.{ending}",
            f"{folder}/openvino/openvino_model_qint8_quantized.{ending}",
        )


def main() -> None:
    """Serve one way until the input ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print must not be read as an answer
    order = json.loads(sys.stdin.readline())
    with Path(order["texts"]).open(encoding="utf-8") as file:
        cases: dict[str, list[str]] = json.load(file)
    began = time.perf_counter()
    encode = load(order["way"], order["model"])
    print(json.dumps({"seconds": time.perf_counter() - began}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        texts, num_jobs = cases[order["case"]], order.get("jobs", 1)
        count = order.get("count") or len(texts)
        jobs = [
            [texts[place % len(texts)] for place in range(job * count, (job + 1) * count)] for job in range(num_jobs)
        ]
        began = time.perf_counter()
        for job in jobs:
            vectors = encode(job, order.get("batch_size", 32))
        answer = {"seconds": time.perf_counter() - began, "count": count * num_jobs}
        if order.get("save"):
            np.save(order["save"], vectors)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    export(sys.argv[2], sys.argv[3]) if sys.argv[1:2] == ["export"] else main()
