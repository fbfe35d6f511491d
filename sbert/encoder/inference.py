"""Load an encoder that only encodes, as fast as this machine allows."""

import importlib
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sbert.encoder.engine.compiled import load_kernels
from sbert.encoder.engine.dtype import ComputeDtype, fastest_dtype
from sbert.encoder.engine.runner_selection import ProvenRunner
from sbert.encoder.engine.weights import read_weights
from sbert.encoder.load_record import LoadRecord, find_record, has_records, record_path, write_record
from sbert.encoder.model_folder import read_folder
from sbert.encoder.model_location import locate_model
from sbert.encoder.pretrained import load_parts
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.stored_transformer import load_stored
from sbert.errors import ModelError
from sbert.runtime.hardware import default_device, limit_threads

__all__ = ["import_libraries", "load_for_encoding"]

log = logging.getLogger(__name__)


def import_libraries() -> None:
    """Import the modules that a first load needs. It takes seconds, which a caller may spend waiting for something."""
    if has_records():
        return  # most loads need nothing but this module
    importlib.import_module("transformers.modeling_utils")
    importlib.import_module("transformers.models.bert.modeling_bert")
    importlib.import_module("transformers.tokenization_utils_tokenizers")


def load_for_encoding(
    model: str,
    *,
    max_seq_length: int | None = None,
    compute_dtype: ComputeDtype | None = None,
    normalize: bool | None = None,
) -> SentenceEncoder:
    """Load an encoder that gives the vectors of `SentenceEncoder.from_pretrained`, and cannot be trained or saved.

    On a CPU, an encoder of the BERT family that was loaded here before is loaded from its record, without transformers.

    Args:
        model: local folder, URI of a folder in object storage, hub id, or the packaged default.
        max_seq_length: tokens after which a text is truncated; by default the model's own limit.
        compute_dtype: type the transformer computes in; None for the fastest type whose vectors are those of float32.
        normalize: True or False to give vectors unit length or not; None for what the model says.

    Raises:
        ModelError: when the model cannot be found, or cannot be loaded whole and safely.
        SettingsError: when `max_seq_length` is out of the model's range.
    """
    load_in_full = partial(
        SentenceEncoder.from_pretrained,
        model,
        max_seq_length=max_seq_length,
        compute_dtype=compute_dtype,
        normalize=normalize,
    )
    if default_device().type != "cpu":
        return load_in_full()
    wanted_dtype = compute_dtype or fastest_dtype(torch.device("cpu"))
    folder = read_folder(locate_model(model)).transformer
    path = record_path(folder, (max_seq_length, compute_dtype, wanted_dtype, normalize))
    record = find_record(path)
    if record is not None:
        encoder = _load_from_record(model, record, max_seq_length, normalize)
        if encoder is not None:
            return encoder
    encoder = load_in_full()
    new_record = _record_of(encoder, folder)
    if new_record is not None:
        write_record(path, new_record)
    return encoder


def _load_from_record(
    model: str, record: LoadRecord, max_seq_length: int | None, normalize: bool | None
) -> SentenceEncoder | None:
    """Return the encoder that a record describes, or None when the record does not fit the files or the machine."""
    limit_threads()
    if record.runner.name == "native" and load_kernels().library is None:
        return None
    try:
        parts = load_parts(
            model,
            max_seq_length=max_seq_length,
            normalize=normalize,
            load=lambda folder: load_stored(folder, record),
        )
    except ModelError as error:
        log.debug("%s: its record is not used: %s", model, error)
        return None
    encoder = SentenceEncoder(
        **vars(parts),
        model_id=model,
        compute_dtype=record.compute_dtype,
        device="cpu",
        proven_runner=record.runner,
    )
    return encoder if encoder.fingerprint == record.fingerprint else None


def _record_of(encoder: SentenceEncoder, folder: Path) -> LoadRecord | None:
    """Return the record of a full load, or None when the encoder is none that `load_stored` can load."""
    weights = read_weights(encoder.transformer)
    selected = encoder.selected_runner
    if weights is None or weights.relative_bias is not None or selected.name == "padded":
        return None
    transformer: Any = encoder.transformer
    tokenizer = encoder.hf_tokenizer
    record = LoadRecord(
        config=json.loads(transformer.config.to_json_string(use_diff=False)),
        tensor_names=tuple(name for name in transformer.state_dict() if not name.startswith("pooler.")),
        name_prefix=str(transformer.base_model_prefix),
        tokenizer=tokenizer.backend_tokenizer.to_str(),
        pad_token_id=tokenizer.pad_token_id,
        model_max_length=tokenizer.model_max_length,
        compute_dtype=encoder.compute_dtype,
        runner=ProvenRunner(name=selected.name, probe_cosine=selected.probe_cosine, reason=selected.reason),
        fingerprint=encoder.fingerprint,
    )
    try:
        load_stored(folder, record)
    except ModelError:
        return None  # the file has other names for its weights
    return record
