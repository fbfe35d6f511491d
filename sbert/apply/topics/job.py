"""`TopicsJob`: the topic of every row, by topics that lie beside the output."""

import hashlib
from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from sbert.apply.named_topics import TOPICS_JOB
from sbert.apply.topics.model import TOPIC_MODELS, TopicModel
from sbert.derived.job import RowFunction, RowJob, row_vectors
from sbert.errors import TableError
from sbert.table.delta import Table

__all__ = ["TopicsJob", "load_topics"]


class TopicsJob(RowJob):
    """The topic of each row, its group on the upper level, and the cosine with the topic's centroid."""

    name: ClassVar[str] = TOPICS_JOB

    topics: str = Field(description="Name of the folder of the topics in ``_topics/``.")
    topics_uri: str = Field(description="The output beside which the topics lie.")

    def columns(self, table: Table) -> pa.Schema:  # noqa: ARG002
        """Return the output columns; outliers have -1 as topic and parent."""
        return pa.schema(
            [pa.field("topic", pa.int32()), pa.field("parent", pa.int32()), pa.field("similarity", pa.float32())]
        )

    def fingerprint(self, table: Table) -> str:
        """Hash the topics and the encoder. Where the topics lie does not matter: a folder can be moved."""
        parts = [self.name, str(self.code_version), self.topics, table.encoder.fingerprint]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def function(self, table: Table) -> RowFunction:
        """Load the topics, and return the function of a block."""
        model = load_topics(self)

        def assign(rows: pa.Table) -> pa.Table:
            topics, parents, similarities = model.topics_of(row_vectors(rows, table))
            return pa.table(
                {"topic": pa.array(topics), "parent": pa.array(parents), "similarity": pa.array(similarities)}
            )

        return assign


def load_topics(job: TopicsJob) -> TopicModel:
    """Read the topics of a job.

    Raises:
        TableError: they are gone or damaged.
    """
    model = TOPIC_MODELS.find(job.topics_uri, job.topics)
    if model is None:
        raise TableError(f"{job.topics_uri}: its topics {job.topics} are gone: name a new folder for the output")
    return model
