"""The topics of an output of `sbert topics`: their numbers, groups and words, for every application that shows them.

They lie beside the output in ``OUT/_topics/NAME/topics.json``; the settings of the output say which folder is its own.
"""

from collections.abc import Iterable
from itertools import islice

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.derived.derived_table import DerivedTable
from sbert.errors import MissingError, TableError
from sbert.storage.files import join, read_bytes

__all__ = ["OUTLIER", "TOPICS_FOLDER", "TOPICS_JOB", "Topic", "group_name", "named_topics"]

TOPICS_JOB = "topics"
"""Name of the job whose output has topics."""
TOPICS_FOLDER, RECORD_NAME = "_topics", f"{TOPICS_JOB}.json"
OUTLIER = -1
"""Topic and group of rows that are of none."""
WORDS_OF_TOPIC, WORDS_OF_GROUP = 2, 5


class Topic(BaseModel):
    """One topic."""

    model_config = ConfigDict(frozen=True)

    id: int = Field(description="Its number, which it keeps.")
    parent: int = Field(description="Number of its group on the upper level.")
    words: tuple[str, ...] = Field(description="Words that set it apart, the most telling first.")


class _Record(BaseModel):
    """The part of a topics record that is read."""

    topics: tuple[Topic, ...]


def named_topics(output: DerivedTable) -> tuple[Topic, ...]:
    """Return the topics of a version of an output.

    Raises:
        TableError: the table is no output of `sbert topics`, or its topics are gone or damaged.
        StorageError: storage refuses.
    """
    if output.info.job != TOPICS_JOB:
        raise TableError(
            f"{output.uri}: this is an output of the job {output.info.job}, which has no topics: name one of `sbert topics`"
        )
    record_uri = join(output.uri, TOPICS_FOLDER, str(output.info.settings["topics"]), RECORD_NAME)
    try:
        return _Record.model_validate_json(read_bytes(record_uri)).topics
    except MissingError as error:
        raise TableError(
            f"{record_uri}: the topics of {output.uri} are gone: run `sbert topics` into a new folder"
        ) from error
    except ValidationError as error:
        raise TableError(f"{record_uri}: the topics are damaged: run `sbert topics` into a new folder") from error


def group_name(parent: int, words: Iterable[tuple[str, ...]]) -> str:
    """Return the name of a group of topics: the first words of its topics, given in order of size."""
    first = dict.fromkeys(word for each in words for word in each[:WORDS_OF_TOPIC])
    return ", ".join(islice(first, WORDS_OF_GROUP)) or f"group {parent}"
