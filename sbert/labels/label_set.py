"""Labels in memory: the rows of train, dev and test, and where they came from."""

from dataclasses import dataclass, field

import polars as pl

from sbert.counted import counted
from sbert.labels.label_kinds import COLUMNS, TEXT_COLUMNS, LabelKind

__all__ = ["LabelObject", "LabelSet", "LeakageReport"]

REASONS = {
    "empty_text": "with an empty text",
    "no_label": "without a label",
    "contradiction": "that contradict another row",
    "repeated": "that repeat another row",
    "joined": "joined with another row of the same text",
    "twin_held_out": "nearly the same as a held-out row",
}
"""Reasons why rows are left out, in words."""


@dataclass(frozen=True)
class LabelObject:
    """One source object of labels."""

    uri: str
    version: str
    num_rows: int

    @property
    def key(self) -> str:
        """Location and version. A later run recognises the object by it; a changed object has another key."""
        return f"{self.uri}@{self.version}"


@dataclass(frozen=True)
class LeakageReport:
    """Held-out rows that also occur, exactly or nearly, in a split they must not be in: dev in train, test in both."""

    num_rows: dict[str, int] = field(default_factory=dict)
    """Rows that were checked, by split. Where the source names held-out splits, only these are counted."""
    num_leaking: dict[str, int] = field(default_factory=dict)
    """Rows that also occur in another split, by split."""
    examples: tuple[tuple[str, str], ...] = ()
    """Examples: the text of a held-out row, and the text of its twin."""

    @property
    def share(self) -> float:
        """Largest share of leaking rows of any split (0 to 1)."""
        return max((self.num_leaking.get(name, 0) / rows for name, rows in self.num_rows.items() if rows), default=0.0)


@dataclass(frozen=True)
class LabelSet:
    """Checked labels of one kind, split.

    Every frame has the columns of the kind (`COLUMNS`), those of `LabelSettings.keep_columns` (strings), ``row_id`` (16
    hex digits, of the row's content) and ``object`` (the `key` of the object it came from). Scores are scaled to 0 … 1;
    NLI labels are the words of `NLI_LABELS`; classes are strings, or sorted lists of strings (`is_multi_label`).
    """

    kind: LabelKind
    train: pl.DataFrame
    dev: pl.DataFrame
    test: pl.DataFrame
    fingerprint: str
    """Hash of all rows, their splits and the kind; independent of the order of rows and objects (64 hex digits)."""
    objects: tuple[LabelObject, ...] = ()
    num_rows_read: int = 0
    num_rejected: dict[str, int] = field(default_factory=dict)
    """Rows that were left out, by reason. Together with the rows of the three frames they add up to `num_rows_read`."""
    leakage: LeakageReport = field(default_factory=LeakageReport)
    splits_given: frozenset[str] = frozenset()
    """Held-out splits (dev, test) that the source names. The others are hashed, or missing."""
    is_multi_label: bool = False
    """True if each text has a list of classes. Only readers that ask for lists get them."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of this kind."""
        return COLUMNS[self.kind]

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of this kind that hold texts."""
        return TEXT_COLUMNS[self.kind]

    @property
    def classes(self) -> list[str]:
        """Classes of the train rows, sorted; empty for kinds without classes."""
        if self.kind is not LabelKind.CLASSES:
            return []
        labels = self.train["label"]
        single = labels.explode(empty_as_null=False, keep_nulls=False) if self.is_multi_label else labels
        return sorted(single.unique().to_list())

    @property
    def object_keys(self) -> frozenset[str]:
        """Keys of all objects. A later run compares them with its own to find new objects."""
        return frozenset(item.key for item in self.objects)

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each split, and of rows left out."""
        return {
            "train": self.train.height,
            "dev": self.dev.height,
            "test": self.test.height,
            "rejected": sum(self.num_rejected.values()),
        }

    def account(self) -> str:
        """Return the counts as text, such as ``30 rows read: 20 train, 4 dev, 4 test, 2 left out (2 without a label)``."""
        reasons = ", ".join(f"{count:,} {REASONS[reason]}" for reason, count in self.num_rejected.items())
        counts = self.counts()
        return (
            f"{counted(self.num_rows_read, 'row')} read: {counts['train']:,} train, {counts['dev']:,} dev, "
            f"{counts['test']:,} test, {counts['rejected']:,} left out{f' ({reasons})' if reasons else ''}"
        )

    def new_rows(self, known_objects: frozenset[str]) -> pl.DataFrame:
        """Return the train rows of objects that are not in `known_objects`."""
        return self.train.filter(~pl.col("object").is_in(sorted(known_objects)))
