"""The encoder of this process. It is loaded once, and all threads that build splits share it."""

import logging
import threading

import torch

from sbert.encoder.description import EncoderSpec
from sbert.encoder.inference import load_for_encoding
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.runtime.hardware import use_available_cpus

__all__ = ["load_encoder"]

log = logging.getLogger(__name__)

_lock = threading.Lock()
_loaded: dict[EncoderSpec, SentenceEncoder] = {}


def load_encoder(spec: EncoderSpec) -> SentenceEncoder:
    """Return the encoder of `spec`, checked on a dozen texts. One encoder is kept in each process.

    Raises:
        ModelError: when the model cannot be loaded.
        QualityError: when its vectors for a dozen very different texts are not finite, or nearly equal.
    """
    with _lock:
        if spec not in _loaded:
            use_available_cpus()
            encoder = load_for_encoding(spec)
            _loaded.clear()
            _loaded[spec] = _loaded[spec.model_copy(update={"compute_dtype": encoder.compute_dtype})] = encoder
            log.info("%s: %s, %s", spec.model, encoder.compute_dtype, encoder.selected_runner.reason)
            _warn_of_idle_gpus(encoder.device)
        return _loaded[spec]


def _warn_of_idle_gpus(device: torch.device) -> None:
    num_gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if num_gpus > 1:
        log.warning(
            "this process computes on one of %d GPUs: to use all of them, choose engine ray with gpus_per_worker 1, or "
            "start a worker for each GPU with its own CUDA_VISIBLE_DEVICES",
            num_gpus,
        )
