"""Labels in object storage: read, check, split so that nothing leaks, know what is new."""

from sbert.labels.kinds import COLUMNS, NLI_LABELS, TEXT_COLUMNS, LabelKind
from sbert.labels.label_set import LabelObject, LabelSet, LeakageReport
from sbert.labels.loading import list_label_objects, load_labels, make_label_set, new_label_objects
from sbert.labels.overlap import find_overlap
from sbert.labels.settings import LabelSettings

__all__ = [
    "COLUMNS",
    "NLI_LABELS",
    "TEXT_COLUMNS",
    "LabelKind",
    "LabelObject",
    "LabelSet",
    "LabelSettings",
    "LeakageReport",
    "find_overlap",
    "list_label_objects",
    "load_labels",
    "make_label_set",
    "new_label_objects",
]
