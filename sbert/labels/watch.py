"""Find labels that arrived since the last look: objects that exist and were not announced yet.

An announcement is recorded only after it was made. If the process dies in between, the next look finds the same labels
and announces them under the same id. So nothing is missed, and receivers can recognise a repeated announcement.
"""

import hashlib
import logging
import uuid

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import EmptySourceError, MissingError
from sbert.labels.label_set import LabelObject
from sbert.labels.load import list_label_objects, new_label_objects
from sbert.source.formats.all_formats import format_of
from sbert.source.formats.base import Hints
from sbert.source.objects import SourceObject
from sbert.source.settings import ReadSettings
from sbert.storage.files import join, normalize_uri, read_bytes, write_bytes

__all__ = ["LabelNews", "find_news", "record_handed_over"]

log = logging.getLogger(__name__)

WATCHED_FOLDER = "_watched"


class LabelNews(BaseModel):
    """Labels that were not announced yet."""

    model_config = ConfigDict(frozen=True)

    labels_uri: str
    num_objects: int = Field(description="Objects of labels there are.")
    num_new_objects: int = Field(description="Objects that are new or changed since the last hand-over.")
    num_new_rows: int = Field(description="Rows in them.")
    object_keys: tuple[str, ...] = Field(
        default=(), repr=False, description="All objects with their versions, ordered."
    )

    @property
    def event_id(self) -> uuid.UUID:
        """Id of the announcement: equal for equal sets of objects."""
        digest = hashlib.sha256(
            "\n".join([self.labels_uri, *self.object_keys]).encode("utf-8", "surrogateescape")
        ).digest()
        return uuid.UUID(bytes=digest[:16], version=4)


class HandedOver(BaseModel):
    """The record between two looks."""

    model_config = ConfigDict(frozen=True)

    labels_uri: str
    object_keys: tuple[str, ...]


def find_news(labels_uri: str, models_uri: str) -> LabelNews:
    """Compare the labels with the labels that were announced. An empty or missing folder has no news.

    Raises:
        StorageError: when storage refuses.
    """
    uri = normalize_uri(labels_uri)
    try:
        objects = list_label_objects(uri)
    except (MissingError, EmptySourceError) as error:
        log.info("no labels: %s", error)
        objects = []
    announced = frozenset(_handed_over(uri, models_uri).object_keys)
    new = new_label_objects(objects, announced)
    return LabelNews(
        labels_uri=uri,
        num_objects=len(objects),
        num_new_objects=len(new),
        num_new_rows=sum(count_rows(item) for item in new),
        object_keys=tuple(sorted(LabelObject(item.uri, item.version, 0).key for item in objects)),
    )


def record_handed_over(news: LabelNews, models_uri: str) -> None:
    """Record that these labels were announced."""
    record = HandedOver(labels_uri=news.labels_uri, object_keys=news.object_keys)
    write_bytes(_record_uri(news.labels_uri, models_uri), record.model_dump_json(indent=1).encode())


def count_rows(item: SourceObject) -> int:
    """Count an object's rows without interpreting them. An object that cannot be read counts as one row, to be announced."""
    if item.num_bytes == 0 and not item.unreadable:
        return 0
    try:
        return format_of(item.format).count(item, ReadSettings(), Hints())
    except MissingError:
        return 1 if item.unreadable else 0
    except Exception as error:  # noqa: BLE001  (whatever is wrong with the content, retraining will name it)
        log.warning("%s: rows cannot be counted: %s", item.uri, error)
        return 1


def _handed_over(labels_uri: str, models_uri: str) -> HandedOver:
    uri = _record_uri(labels_uri, models_uri)
    try:
        return HandedOver.model_validate_json(read_bytes(uri))
    except MissingError:
        return HandedOver(labels_uri=labels_uri, object_keys=())
    except ValidationError as error:
        log.warning("%s cannot be used, all labels count as new: %s", uri, error)
        return HandedOver(labels_uri=labels_uri, object_keys=())


def _record_uri(labels_uri: str, models_uri: str) -> str:
    name = hashlib.sha256(labels_uri.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return join(normalize_uri(models_uri), WATCHED_FOLDER, f"{name}.json")
