"""The topics of an output: centroids, ids and words, in a folder of its own beside the output.

``OUT/_topics/FINGERPRINT/`` holds ``topics.safetensors`` and, written last, ``topics.json``. It holds no texts, except for
the words that name a topic.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.fitted_models import FittedModels, Tensors
from sbert.apply.named_topics import OUTLIER, TOPICS_FOLDER, TOPICS_JOB, Topic
from sbert.apply.topics.settings import FitSettings
from sbert.vectors.precision import Float32
from sbert.vectors.unit import unit_rows

__all__ = ["TOPIC_MODELS", "TopicModel", "TopicRecord"]


class TopicRecord(BaseModel):
    """The record of a set of topics, beside their centroids."""

    model_config = ConfigDict(frozen=True)

    topics: tuple[Topic, ...]
    next_topic: int = Field(
        description="Number of the next new topic; numbers of topics that ended are not used again."
    )
    next_parent: int = Field(description="Number of the next new group.")
    least_similarity: float = Field(description="Rows of a lower cosine with every centroid are outliers.")
    mean_similarity: float = Field(description="Mean cosine of the rows of the fit with their centroids.")
    encoder_fingerprint: str
    settings: FitSettings


@dataclass(frozen=True)
class TopicModel:
    """T topics."""

    record: TopicRecord
    centroids_TD: Float32
    """Unit vectors, shape (T, dim), in the order of the record."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything in it."""
        digest = hashlib.sha256(self.record.model_dump_json().encode())
        digest.update(np.ascontiguousarray(self.centroids_TD).tobytes())
        return digest.hexdigest()[:32]

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        """The numbers of the topics, shape (T,)."""
        return np.array([topic.id for topic in self.record.topics], np.int32)

    @property
    def parents(self) -> npt.NDArray[np.int32]:
        """The groups of the topics, shape (T,)."""
        return np.array([topic.parent for topic in self.record.topics], np.int32)

    def assign(self, vectors_ND: Float32) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the place of the nearest topic of each vector, and the cosine with its centroid."""
        scores_NT = unit_rows(vectors_ND) @ self.centroids_TD.T
        best = scores_NT.argmax(axis=1)
        return best, scores_NT[np.arange(len(best)), best]

    def topics_of(
        self, vectors_ND: Float32
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Return topic, group and cosine of each vector; outliers have `OUTLIER` for both."""
        best, similarities = self.assign(vectors_ND)
        is_outlier = similarities < self.record.least_similarity
        topics, parents = self.ids[best], self.parents[best]
        topics[is_outlier] = parents[is_outlier] = OUTLIER
        return topics, parents, similarities

    def save(self, out_uri: str) -> None:
        """Write the topics beside the output."""
        TOPIC_MODELS.save(out_uri, self.fingerprint, self.record, {"centroids": self.centroids_TD})


def _build(content: bytes, tensors: Tensors) -> TopicModel:
    return TopicModel(TopicRecord.model_validate_json(content), tensors["centroids"])


TOPIC_MODELS = FittedModels(TOPICS_JOB, TOPICS_FOLDER, "name a new folder for the output", _build)
