"""The encoder of a table and the stored form of its vectors; neither changes unnoticed between two runs."""

import logging
from pathlib import Path

from sbert.encoder.description import EncoderDescription, EncoderSpec
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.model_location import DEFAULT_MODEL
from sbert.encoder.side import Side
from sbert.errors import EncoderMismatchError, SettingsError
from sbert.refresh.fingerprints import FORMAT, hash_json
from sbert.refresh.job import EncodingSettings, RefreshJob, TruncationPolicy
from sbert.registry.pointer import resolve_model
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table
from sbert.table.encoder_info import EncoderInfo
from sbert.vectors.precision import MIN_RECALL, Precision

__all__ = [
    "check_same_encoder",
    "describe_encoder",
    "encoder_spec",
    "encoding_fingerprint",
    "vector_fingerprint",
]

log = logging.getLogger(__name__)


def encoder_spec(job: RefreshJob, table: Table | None) -> EncoderSpec:
    """Choose the encoder of a run: the model that the job names, else the table's own, else the packaged default."""
    encoding = job.settings.encoding
    model = job.model or (table.encoder.model if table else DEFAULT_MODEL)
    if _is_folder(model):
        # The table names the version, not the registry: readers then find the encoder that made its vectors.
        model = resolve_model(normalize_uri(model))
    same_model = table is not None and model == table.encoder.model
    inherited = table.encoder if table is not None and same_model else None
    return EncoderSpec(
        model=model,
        max_seq_length=encoding.max_seq_length or (inherited.max_seq_length if inherited else None),
        compute_dtype=encoding.compute_dtype or (ComputeDtype(inherited.compute_dtype) if inherited else None),
        normalize=encoding.normalize if encoding.normalize is not None else (inherited is None or inherited.normalized),
    )


def _is_folder(model: str) -> bool:
    return model.startswith((".", "/", "~")) or "://" in model or Path(model).is_dir()


def describe_encoder(
    spec: EncoderSpec, encoder: EncoderDescription, encoding: EncodingSettings, table: Table | None
) -> EncoderInfo:
    """Describe an encoder, and the form of its vectors, as the table's readers need it.

    Raises:
        SettingsError: when the settings ask for more values than the encoder returns.
    """
    encoding = with_table_form(encoding, table, encoder)
    dim = encoding.output_dim or encoder.dim
    return EncoderInfo(
        model=spec.model,
        fingerprint=encoding_fingerprint(encoder, encoding),
        model_fingerprint=encoder.fingerprint,
        dim=dim,
        model_dim=encoder.dim if dim < encoder.dim else None,
        precision=encoding.precision or Precision.FLOAT32,
        min_recall=MIN_RECALL if encoding.min_recall is None else encoding.min_recall,
        pooling=encoder.pooling_name,
        normalized=encoder.normalizes,
        compute_dtype=str(encoder.compute_dtype.value),
        max_seq_length=encoder.max_seq_length,
        truncation=encoding.truncation.value,
        prompt=document_prompt(encoder, encoding),
    )


def with_table_form(encoding: EncodingSettings, table: Table | None, encoder: EncoderDescription) -> EncodingSettings:
    """Fill in how vectors are stored: as the settings say, else as the table stores them, else whole, as float32.

    Raises:
        SettingsError: when the settings ask for more values than the encoder returns.
    """
    own = table.encoder if table is not None else None
    dim = encoding.output_dim or (own.dim if own is not None and own.dim < own.full_dim else encoder.dim)
    if dim > encoder.dim:
        raise SettingsError(
            f"output_dim is {dim}, but the encoder gives {encoder.dim} values: choose {encoder.dim} at most, or another "
            "model"
        )
    min_recall = encoding.min_recall
    return encoding.model_copy(
        update={
            "precision": encoding.precision or (own.precision if own is not None else Precision.FLOAT32),
            "output_dim": dim,
            "min_recall": min_recall if min_recall is not None else own.min_recall if own is not None else MIN_RECALL,
        }
    )


def encoding_fingerprint(encoder: EncoderDescription, encoding: EncodingSettings) -> str:
    """Return the hash of everything that decides the stored vector of a cleaned text: encoder, prompt, windows, form."""
    return vector_fingerprint(encoder.fingerprint, encoder.dim, document_prompt(encoder, encoding), encoding)


def vector_fingerprint(model_fingerprint: str, model_dim: int, prompt: str, encoding: EncodingSettings) -> str:
    """Return the same hash for a model that is known by its fingerprint and the values of its vectors."""
    windows = encoding.windows.model_dump(mode="json") if encoding.truncation is TruncationPolicy.WINDOW else None
    precision, dim = encoding.precision or Precision.FLOAT32, encoding.output_dim or model_dim
    is_whole = (precision, dim) == (Precision.FLOAT32, model_dim)
    form = [] if is_whole else [precision.value, dim]
    return hash_json([FORMAT, model_fingerprint, prompt, windows, *form])


def document_prompt(encoder: EncoderDescription, encoding: EncodingSettings) -> str:
    """Return the text put before each document."""
    return encoder.prompt_for(Side.DOCUMENT) if encoding.prompt is None else encoding.prompt


def check_same_encoder(job: RefreshJob, table: Table, info: EncoderInfo) -> None:
    """Refuse to change a table's encoder unless a model was named, and to another dim unless ``output_dim`` was set.

    Raises:
        EncoderMismatchError: naming both encoders and the remedy.
    """
    if info.dim != table.encoder.dim and job.settings.encoding.output_dim is None:
        table.check_encoder(info.fingerprint, info.dim)
    if info.fingerprint == table.encoder.fingerprint:
        return
    if job.selection is not None and job.model is not None:
        raise EncoderMismatchError(
            f"{table.uri}: the table's encoder is {table.encoder.model} ({table.encoder.fingerprint[:12]}), the backfill "
            f"names {info.model} ({info.fingerprint[:12]}): a table has one encoder; backfill to a new table, or switch "
            "this one with `sbert refresh --model`"
        )
    if job.model is None:
        raise EncoderMismatchError(
            f"{table.uri}: the table was made by {table.encoder.model} with fingerprint "
            f"{table.encoder.fingerprint[:12]}, the encoder there is now {info.fingerprint[:12]} (the model folder or an "
            f"encoding setting changed): pass --model {table.encoder.model} to re-embed every row and switch the table in "
            "one step, or restore the model and settings"
        )
    log.warning(
        "%s (%s) replaces the table's encoder %s (%s): every row is encoded anew, and one commit switches the table",
        info.model,
        info.fingerprint[:12],
        table.encoder.model,
        table.encoder.fingerprint[:12],
    )
