"""Settings of classification."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from sbert.errors import SettingsError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.settings import LabelSettings

__all__ = ["ClassificationSettings", "HeadKind", "HeadSearchSettings", "HeadSettings"]


NEWER: dict[str, Any] = {"words": True, "max_terms": 20_000, "classifier": True, "min_unseen_rows": 100, "search": None}
"""Settings of a head that earlier releases did not have, with their defaults."""


OF_LABELS = frozenset({"split", "object", "row_id"})
"""Columns that rows of labels have beside those of their files."""


class HeadKind(StrEnum):
    """A kind of classifier on frozen vectors."""

    LINEAR = "linear"
    """Logistic regression on the vectors."""
    KERNEL = "kernel"
    """Logistic regression on Gaussian similarities to some of the labelled texts."""
    CLASSIFIER = "classifier"
    """The classifier that was trained together with the encoder. No setting names it: where there is one, it competes."""


class HeadSearchSettings(BaseModel):
    """A search of further settings of a head, by the same cross-validation as the grid of kinds and strengths."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trials: int = Field(
        default=40, ge=1, le=1_000, title="Trials", description="Settings that are tried beside the grid (trials)."
    )
    max_minutes: float = Field(
        default=60.0,
        gt=0,
        le=100_000,
        title="Time limit",
        description="Time limit of all trials of a head together, over killed runs too; the grid always ends (minutes).",
    )
    prune: bool = Field(
        default=True,
        title="Stop early",
        description="Stop a trial whose macro-F1 is below the median of the others after as many folds.",
    )


class HeadSettings(BaseModel):
    """Settings that decide a head, together with its labels and the encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[Literal[HeadKind.LINEAR, HeadKind.KERNEL], ...] = Field(
        default=(HeadKind.LINEAR, HeadKind.KERNEL),
        min_length=1,
        title="Kinds",
        description="Kinds of heads to choose from by cross-validation.",
    )
    strengths: tuple[float, ...] = Field(
        default=(3.0, 10.0, 30.0),
        min_length=1,
        title="Strengths",
        description="Inverse strengths of the penalty on weights to choose from by cross-validation (above 0).",
    )
    num_landmarks: int = Field(
        default=1_000,
        ge=2,
        le=20_000,
        title="Landmarks",
        description="Labelled texts that a kernel head compares each row with, at most (texts).",
    )
    words: bool = Field(
        default=True,
        title="Words",
        description="Consider the words of the texts beside the vectors, where the table keeps its texts; cross-validation "
        "decides.",
    )
    max_terms: int = Field(
        default=NEWER["max_terms"],
        ge=100,
        le=1_000_000,
        title="Terms",
        description="Words and pairs of words that have weights, at most; those that most labelled texts have.",
    )
    classifier: bool = Field(
        default=NEWER["classifier"],
        title="Classifier of the encoder",
        description="Consider the classifier that was trained together with the encoder, where there is one for the same "
        "classes; rows that the encoder has not learned from decide.",
    )
    min_unseen_rows: int = Field(
        default=NEWER["min_unseen_rows"],
        ge=10,
        title="Unseen rows",
        description="Fewest labelled rows that the encoder has not learned from, so that they alone choose, calibrate and "
        "judge, and its classifier is considered (rows).",
    )
    num_folds: int = Field(
        default=5,
        ge=2,
        le=20,
        title="Folds",
        description="Parts of cross-validation; each part is predicted by a head of the others.",
    )
    max_choice_rows: int = Field(
        default=20_000,
        ge=100,
        title="Rows to choose on",
        description="Rows that kind and strength are chosen on, at most (rows).",
    )
    promised_error: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        title="Promised error",
        description="Largest share of wrong classes among the rows on which the head does not abstain (0 to 1).",
    )
    promise_confidence: float = Field(
        default=0.9,
        gt=0.5,
        lt=1,
        title="Confidence of the promise",
        description="Probability with which the promised error holds (0 to 1).",
    )
    coverage: float = Field(
        default=0.9,
        gt=0.5,
        lt=1,
        title="Coverage",
        description="Share of rows whose set of classes holds the true class (0 to 1).",
    )
    min_class_rows: int = Field(
        default=100,
        ge=10,
        title="Rows of a class",
        description="Fewest labelled rows of a class for a set threshold of its own (rows).",
    )
    search: HeadSearchSettings | None = Field(
        default=NEWER["search"],
        title="Search",
        description="Try further settings after the grid, with strengths from a tenth of the smallest to ten times the "
        "largest; empty for no search.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        title="Seed",
        description="The same seed gives the same head, unless a search was killed or ended by its time limit.",
    )

    @property
    def has_newer(self) -> bool:
        """Whether a setting that earlier releases did not have is not at its default."""
        return any(getattr(self, name) != default for name, default in NEWER.items())

    @model_serializer(mode="wrap")
    def _without_newer_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave newer settings out at their defaults, so that the names of earlier heads stay as they are."""
        return {
            name: value for name, value in dump(self).items() if name not in NEWER or getattr(self, name) != NEWER[name]
        }


class ClassificationSettings(BaseModel):
    """Settings for fitting heads to labels, and for replacing an earlier head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: LabelSettings = Field(
        default=LabelSettings(kind=LabelKind.CLASSES),
        title="Labels",
        description="How the labels are read and split; test rows are held out to compare heads.",
    )
    label_columns: tuple[str, ...] = Field(
        default=(),
        title="Tasks",
        description="Columns of the labels that each hold the classes of a task; empty for one task, in the label column.",
    )
    multi_label_columns: tuple[str, ...] = Field(
        default=(),
        title="Tasks of several classes",
        description="Tasks whose texts can have several classes at once: the rows of a text are then joined. A column of "
        "lists needs no entry, except in CSV.",
    )
    rules_uri: str | None = Field(
        default=None,
        title="Rules",
        description="File of rules (JSON Lines) that speak for classes; empty for none.",
    )
    text_column: str | None = Field(
        default=None,
        min_length=1,
        title="Text column",
        description="Kept column of the table whose words are read and that rules are matched with; empty for the one that "
        "was encoded.",
    )
    max_weak_rows: int = Field(
        default=1_000,
        ge=0,
        le=100_000,
        title="Rows labelled by rules",
        description="Rows without a label that are learned from because rules speak for their class, at most (rows).",
    )
    head: HeadSettings = Field(default=HeadSettings(), title="Head", description="How a head is fitted.")
    tolerance: float = Field(
        default=0.01,
        ge=0,
        le=1,
        title="Tolerance",
        description="A new head is refused when its macro-F1 on held-out rows is lower than that of the head before by more "
        "than this (0 to 1).",
    )
    group_columns: tuple[str, ...] = Field(
        default=(),
        title="Groups",
        description="Columns by whose values errors and abstentions are reported: of the labels, else of the table (kept "
        "columns, or source).",
    )
    max_group_gap: float | None = Field(
        default=None,
        ge=0,
        le=1,
        title="Largest gap between groups",
        description="A new head is refused when the error of one group is surely higher than that of all other rows by more "
        "than this (0 to 1); empty for no limit.",
    )

    @model_validator(mode="after")
    def _check(self) -> "ClassificationSettings":
        unknown = sorted(set(self.multi_label_columns) - set(self.label_columns))
        if self.label_columns and unknown:
            raise SettingsError(
                f"multi_label_columns names {', '.join(unknown)}, the tasks (label_columns) are "
                f"{', '.join(self.label_columns)}: name some of them"
            )
        if read := sorted({"text", "label"} & set(self.group_columns)):
            raise SettingsError(
                f"group_columns names {read[0]!r}, which is the text or the class itself: name a column that says something "
                "else about the rows"
            )
        if read := sorted(OF_LABELS & set(self.group_columns)):
            raise SettingsError(
                f"group_columns names {read[0]!r}, a name that the labels use themselves: give the column another name"
            )
        if len(set(self.group_columns)) < len(self.group_columns):
            raise SettingsError(f"group_columns names a column twice: {', '.join(self.group_columns)}: name each once")
        return self

    def with_search(self, trials: int) -> "ClassificationSettings":
        """Return the settings with a search of this many trials; 0 changes nothing."""
        if not trials:
            return self
        search = (self.head.search or HeadSearchSettings()).model_copy(update={"trials": trials})
        return self.model_copy(update={"head": self.head.model_copy(update={"search": search})})

    @property
    def tasks(self) -> tuple[str, ...]:
        """Columns of the labels that are learned; an empty name stands for the label column."""
        return self.label_columns or self.multi_label_columns or ("",)
