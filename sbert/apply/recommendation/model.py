"""The fitted model of an output, in a file beside it: statistics of items, and weights. It names no user.

``OUT/_recommender/FINGERPRINT.safetensors`` and, written last, ``FINGERPRINT.json``. Items are named by a hash.
"""

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.apply.recommendation.ranker import Ranker
from sbert.apply.recommendation.settings import EventColumns, RankingSettings
from sbert.apply.recommendation.signals import SIGNALS, ItemStatistics
from sbert.errors import TableError
from sbert.storage.files import delete, join, list_names, read_bytes, write_bytes

__all__ = [
    "MODEL_FOLDER",
    "ModelRecord",
    "RecommendationModel",
    "find_models",
    "load_model",
    "remove_old_models",
    "save_model",
]

MODEL_FOLDER = "_recommender"
ARRAYS, RECORD = ".safetensors", ".json"
KEPT_MODELS = 2
"""Newest models that stay: the one in use, and one for a run that is still at work."""


class ModelRecord(BaseModel):
    """The record of a model, beside its arrays."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    fitted_at: dt.datetime
    encoder_fingerprint: str
    settings: RankingSettings
    events: EventColumns
    num_events: int = Field(description="Events that it was fitted on.")
    num_users: int
    num_items: int = Field(description="Items with events.")
    num_later_events: int = Field(description="Later events that the weights were fitted on; 0 for fixed weights.")
    weights: dict[str, float] = Field(description="Weight of each signal.")


@dataclass(frozen=True)
class RecommendationModel:
    """A model that was saved, or read."""

    fingerprint: str
    record: ModelRecord
    ranker: Ranker


def save_model(out_uri: str, record: ModelRecord, ranker: Ranker) -> RecommendationModel:
    """Write a model beside the output; the record comes last, so a model that can be found is whole."""
    from safetensors.numpy import save

    statistics = ranker.statistics
    arrays = bytes(
        save(
            {
                "names": np.ascontiguousarray(statistics.names_K16),
                "factors": np.ascontiguousarray(statistics.factors_KF),
                "popularity": statistics.popularity_K,
                "recency": statistics.recency_K,
                "mean": statistics.mean_D,
                "weights": ranker.weights_S,
                **_parts_of("together", statistics.together_KK),
                **_parts_of("next", statistics.next_KK),
            }
        )
    )
    content = record.model_dump_json(indent=1).encode()
    fingerprint = hashlib.sha256(content + arrays).hexdigest()[:32]
    write_bytes(join(out_uri, MODEL_FOLDER, f"{fingerprint}{ARRAYS}"), arrays)
    write_bytes(join(out_uri, MODEL_FOLDER, f"{fingerprint}{RECORD}"), content)
    return RecommendationModel(fingerprint, record, ranker)


def load_model(out_uri: str, fingerprint: str) -> RecommendationModel:
    """Read a model.

    Raises:
        TableError: its files are damaged.
        MissingError, StorageError: they are gone, or storage refuses.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    uri = join(out_uri, MODEL_FOLDER, fingerprint)
    content, arrays = read_bytes(f"{uri}{RECORD}"), read_bytes(f"{uri}{ARRAYS}")
    remedy = "remove both files, and the next run fits a model"
    if hashlib.sha256(content + arrays).hexdigest()[:32] != fingerprint:
        raise TableError(f"{uri}: the files of this model are damaged: {remedy}")
    try:
        record, tensors = ModelRecord.model_validate_json(content), load(arrays)
        statistics = ItemStatistics(
            names_K16=tensors["names"],
            factors_KF=tensors["factors"],
            popularity_K=tensors["popularity"],
            recency_K=tensors["recency"],
            together_KK=_matrix_of("together", tensors),
            next_KK=_matrix_of("next", tensors),
            mean_D=tensors["mean"],
        )
        weights_S = tensors["weights"]
        if len(weights_S) != len(SIGNALS):
            raise ValueError(f"it has {len(weights_S)} weights, this version has {len(SIGNALS)} signals")
    except (SafetensorError, KeyError, ValueError) as error:
        raise TableError(f"{uri}: this model cannot be read ({error}): {remedy}") from error
    return RecommendationModel(fingerprint, record, Ranker(statistics, weights_S, record.num_later_events))


def find_models(out_uri: str) -> list[tuple[str, ModelRecord]]:
    """Return fingerprint and record of each whole model beside an output, the newest first."""
    folder = join(out_uri, MODEL_FOLDER)
    names = list_names(folder)
    models = []
    for name in names:
        fingerprint = name.removesuffix(RECORD)
        if name.endswith(RECORD) and f"{fingerprint}{ARRAYS}" in names:
            try:
                models.append((fingerprint, ModelRecord.model_validate_json(read_bytes(join(folder, name)))))
            except ValidationError:
                continue  # of another release: a new one is fitted
    return sorted(models, key=lambda item: (item[1].fitted_at, item[0]), reverse=True)


def remove_old_models(out_uri: str) -> None:
    """Remove all models but the newest; reading an output needs no model."""
    kept = {fingerprint for fingerprint, _ in find_models(out_uri)[:KEPT_MODELS]}
    folder = join(out_uri, MODEL_FOLDER)
    delete(join(folder, name) for name in list_names(folder) if name.partition(".")[0] not in kept)


def _parts_of(name: str, matrix: sp.csr_matrix) -> dict[str, npt.NDArray[Any]]:
    kinds = {"data": np.float32, "indices": np.int32, "indptr": np.int64}
    return {f"{name}_{part}": getattr(matrix, part).astype(kind) for part, kind in kinds.items()}


def _matrix_of(name: str, tensors: dict[str, npt.NDArray[Any]]) -> sp.csr_matrix:
    parts = tuple(tensors[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return sp.csr_matrix(parts, shape=(len(tensors["names"]),) * 2)
