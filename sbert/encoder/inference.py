"""Load an encoder that only encodes, as fast as this machine allows."""

import importlib
import json
import logging
from pathlib import Path
from typing import Any

from sbert.encoder.description import EncoderSpec
from sbert.encoder.engine.compiled import load_kernels
from sbert.encoder.engine.dtype import fastest_dtypes
from sbert.encoder.engine.proven_runner import ProvenRunner
from sbert.encoder.engine.weights import read_weights
from sbert.encoder.load_record import LoadRecord, find_record, has_records, record_path, record_paths, write_record
from sbert.encoder.model_folder import read_folder
from sbert.encoder.model_location import locate_model
from sbert.encoder.pretrained import load_parts
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.side import Side
from sbert.encoder.stored_transformer import load_stored
from sbert.errors import ModelError
from sbert.runtime.hardware import limit_threads
from sbert.vectors.checks import PROBE_TEXTS, check_not_collapsed, check_vectors

__all__ = ["import_libraries", "load_for_encoding"]

log = logging.getLogger(__name__)


def import_libraries() -> None:
    """Import the modules that a first load needs. It takes seconds, which a caller may spend waiting for something."""
    if has_records():
        return  # most loads need nothing but this module
    importlib.import_module("transformers.modeling_utils")
    importlib.import_module("transformers.models.bert.modeling_bert")
    importlib.import_module("transformers.tokenization_utils_tokenizers")


def load_for_encoding(spec: EncoderSpec) -> SentenceEncoder:
    """Load an encoder that gives the vectors of `SentenceEncoder.from_pretrained`; it may not be trained or saved.

    On a CPU, an encoder of the BERT family that was loaded here before is loaded from its record, without transformers.

    Raises:
        ModelError: when the model cannot be found, or cannot be loaded whole and safely.
        SettingsError: when `max_seq_length` is out of the model's range.
        QualityError: when its vectors for a dozen very different texts are not finite, or nearly equal.
    """
    folder = locate_model(spec.model)
    path = record_path(folder, spec)
    record = find_record(path)
    if record is not None:
        encoder = _load_from_record(spec, record)
        if encoder is not None:
            _check_vectors(spec, encoder)
            return encoder
    encoder = SentenceEncoder.from_pretrained(
        spec.model,
        max_seq_length=spec.max_seq_length,
        compute_dtype=spec.compute_dtype,
        normalize=spec.normalize,
    )
    _check_vectors(spec, encoder)  # before a plan can take this model's word from a record
    new_record = _record_of(encoder, folder)
    if new_record is not None:
        # A table names what was chosen for it, so its next run asks for this by name.
        chosen = {"max_seq_length": encoder.max_seq_length, "compute_dtype": encoder.compute_dtype}
        for path in dict.fromkeys(record_paths(folder, spec, spec.model_copy(update=chosen))):
            write_record(path, new_record)
    return encoder


def _check_vectors(spec: EncoderSpec, encoder: SentenceEncoder) -> None:
    """Check the vectors of a dozen very different texts."""
    probe = encoder.encode(list(PROBE_TEXTS), side=Side.DOCUMENT)
    check_vectors(probe, dim=encoder.dim, normalized=encoder.normalizes, what=spec.model)
    check_not_collapsed(probe, what=spec.model)


def _load_from_record(spec: EncoderSpec, record: LoadRecord) -> SentenceEncoder | None:
    """Return the encoder that a record describes, or None when the record does not fit the files or the machine."""
    limit_threads()
    if record.runner.name == "native" and load_kernels(record.description.compute_dtype).library is None:
        return None
    try:
        parts = load_parts(
            spec.model,
            max_seq_length=spec.max_seq_length,
            normalize=spec.normalize,
            load=lambda folder: load_stored(folder, record),
        )
    except ModelError as error:
        log.debug("%s: its record is not used: %s", spec.model, error)
        return None
    encoder = SentenceEncoder(
        **vars(parts),
        model_id=spec.model,
        compute_dtype=record.description.compute_dtype,
        device="cpu",
        proven_runner=record.runner,
    )
    return encoder if encoder.description == record.description else None


def _record_of(encoder: SentenceEncoder, folder: Path) -> LoadRecord | None:
    """Return the record of a full load, or None when the encoder is none that `load_stored` can load."""
    selected = encoder.selected_runner
    if encoder.device.type != "cpu" or selected.name not in {"native", "packed"}:
        return None
    if any(load_kernels(dtype).may_come for dtype in {encoder.compute_dtype, fastest_dtypes(encoder.device)[0]}):
        return None  # the next load may find faster ones
    weights = read_weights(encoder.transformer)
    if weights is None or weights.relative_bias is not None:
        return None
    transformer: Any = encoder.transformer
    tokenizer = encoder.hf_tokenizer
    record = LoadRecord(
        description=encoder.description,
        config=json.loads(transformer.config.to_json_string(use_diff=False)),
        tensor_names=tuple(name for name in transformer.state_dict() if not name.startswith("pooler.")),
        name_prefix=str(transformer.base_model_prefix),
        tokenizer=tokenizer.backend_tokenizer.to_str(),
        pad_token_id=tokenizer.pad_token_id,
        model_max_length=tokenizer.model_max_length,
        runner=ProvenRunner(name=selected.name, probe_cosine=selected.probe_cosine, reason=selected.reason),
    )
    try:
        load_stored(read_folder(folder).transformer, record)
    except ModelError:
        return None  # the file has other names for its weights
    return record
