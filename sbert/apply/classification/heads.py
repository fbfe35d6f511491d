"""Decide which head makes each task's output: the head in use, or a new head that is not worse.

Nothing is remembered but the heads themselves, beside the output. A head is named by what decides it, so that labels,
encoder and settings that did not change find it again. The rows that rules labelled are not part of the name: a head keeps
those of the version that it was fitted on. A new head each night would classify every row of the table again.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.classification.encoder_use import ClassifierUse, LearnedUse, told_of_encoder
from sbert.apply.classification.groups import no_group_column, table_group_columns
from sbert.apply.classification.head import Float32
from sbert.apply.classification.head_comparison import compare_with_head_in_use, reason_of_use
from sbert.apply.classification.head_fitting import TEXT_COLUMN, HeadFitting
from sbert.apply.classification.head_kinds import (
    AnyHead,
    Quality,
    find_head,
    is_multi_label,
    measure,
    speaking_terms,
)
from sbert.apply.classification.job import ClassificationJob, HeadName
from sbert.apply.classification.labelled_texts import LabelledTexts, LabelsInTable
from sbert.apply.classification.measures import (
    HeadMeasures,
    find_measures,
    keep_measures,
    last_measures,
    measures_key,
)
from sbert.apply.classification.rules import Rule, read_rules
from sbert.apply.classification.rules_effect import RulesEffect, rules_effect
from sbert.apply.classification.rules_use import RulesUse
from sbert.apply.classification.search_use import SearchUse
from sbert.apply.classification.settings import ClassificationSettings
from sbert.apply.classification.weak_labels import check_text_column
from sbert.apply.classification.words import WordsUse
from sbert.apply.text_vectors import vectors_of_texts
from sbert.counted import counted
from sbert.derived.derived_table import find_output
from sbert.errors import SettingsError
from sbert.index.words.settings import find_text_column
from sbert.labels.class_lists import ClassLists
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import label_columns, load_labels
from sbert.labels.settings import LabelSettings
from sbert.table.delta import Table

__all__ = ["HeadDecision", "choose_heads", "current_heads"]

log = logging.getLogger(__name__)

DOMINANT_SHARE = 0.895
"""Share of one class from which on accuracy says little: nine of ten rows, rounded."""


class HeadDecision(BaseModel):
    """The head of one task, and why it is this one."""

    model_config = ConfigDict(frozen=True)

    task: str = Field(description="Column of the labels; empty for the label column.")
    fingerprint: str = Field(description="The head that makes the output.")
    is_new: bool = Field(description="Whether it replaces another head, or is the first.")
    refused: str | None = Field(default=None, description="The new head that was worse.")
    reason: str
    num_labels: int = Field(description="Labelled rows that the new head was fitted on.")
    labels: str = Field(description="Number of labelled rows that were read, used and left out, in words.")
    in_table: LabelsInTable | None = Field(
        default=None, description="How many labelled texts are in the table; None in records of earlier releases."
    )
    warning: str = Field(default="", description="Says that no labelled text is in the table; empty otherwise.")
    is_multi_label: bool = Field(default=False, description="Whether a row can have several classes.")
    quality: Quality | None = Field(description="The head on held-out rows; None without such rows.")
    kind: str
    strength: float
    tried: list[dict[str, float | str]]
    text_column: str = Field(default="", description="Column that rules are matched with; empty without rules.")
    words_column: str = Field(default="", description="Column whose words the head reads; empty for vectors alone.")
    words: WordsUse | None = Field(
        default=None,
        description="Macro-F1 of cross-validation with words and without; None where no words could be read.",
    )
    classifier: ClassifierUse | None = Field(
        default=None,
        description="Part of the classifier that was trained together with the encoder; None where the encoder has none.",
    )
    learned: LearnedUse | None = Field(
        default=None,
        description="Which labelled rows chose and calibrated the head, where the encoder has learned from some of them; "
        "None where it has not, or nobody recorded it.",
    )
    search: SearchUse | None = Field(default=None, description="Outcome of the search of settings; None without one.")
    num_seen_test: int = Field(
        default=0, description="Held-out rows that are left out, because the encoder learned from them."
    )
    dominant: str = Field(default="", description="Warning that nearly all labelled rows have one class; else empty.")
    speaking: dict[str, list[str]] = Field(
        default={}, description="Terms that speak most for each class, the strongest first; empty without words."
    )
    rules_use: RulesUse | None = Field(
        default=None, description="Which part of the rules the head takes, and why; None where no part was chosen."
    )
    rules: RulesEffect | None = Field(
        default=None,
        description="Effect of the rules; None where the head takes nothing from them, and for the head before, which has "
        "other labels.",
    )

    def told_kind(self) -> str:
        """Return the kind of the head in a sentence, and whether it was trained together with the encoder."""
        fitted = f"The head is {self.kind} with strength {self.strength:g}, fitted on {counted(self.num_labels, 'row')}"
        left_out = (
            f"{counted(self.num_seen_test, 'held-out row')} are left out, because the encoder learned from them."
            if self.num_seen_test
            else ""
        )
        told = told_of_encoder(self.classifier, self.learned)
        if self.classifier is not None and self.classifier.is_used:
            sentences = [f"{' '.join(told)} ({self.reason}.)", left_out]
        else:
            sentences = [f"{fitted}; {self.reason}.", *told, left_out]
        sentences.append(f"Warning: {self.dominant}." if self.dominant else "")
        return " ".join(filter(None, sentences))

    def told_words(self) -> str:
        """Return in one sentence whether the head reads words, and their gain."""
        if self.words is None:
            return (
                "The head reads vectors alone: the table kept no text when it was fitted, head.words is off, or it is of an "
                "earlier release."
            )
        gain = 100 * (self.words.macro_f1 - self.words.macro_f1_without)
        told = (
            f"macro-F1 of cross-validation is {100 * self.words.macro_f1:.1f} with them and "
            f"{100 * self.words.macro_f1_without:.1f} without ({gain:+.1f} points)"
        )
        if not self.words.weight:
            return f"The head reads vectors alone, since words give too little: {told}."
        return f"The head reads {counted(self.words.num_terms, 'term')} of the column {self.words.column}: {told}."


def current_heads(out_uri: str) -> dict[str, HeadName]:
    """Return the heads that made the newest output, by task; none when there is no output.

    Raises:
        TableError: the output belongs to another job.
    """
    table = find_output(out_uri, ClassificationJob.name)
    if table is None:
        return {}
    return {head.task: head for head in ClassificationJob.model_validate(table.info.settings).heads}


def choose_heads(
    table: Table, labels_uri: str, out_uri: str, settings: ClassificationSettings
) -> tuple[HeadDecision, ...]:
    """Fit the heads that are missing, compare them with the heads in use, and return the heads to use.

    Args:
        table: the embeddings table; its encoder makes the vectors of the labelled texts.
        labels_uri: file, folder or glob of labels.
        out_uri: the output, beside which heads lie.
        settings: how heads are fitted and compared.

    Raises:
        LabelError: the labels cannot be read or learned from.
        ColumnError: the labels lack a column, the table does not keep the text column that the settings name, or neither
            has a group column.
        ModelError: a labelled text is not in the table, and its encoder cannot be loaded.
        SettingsError: a search is asked for, and Optuna is not installed.
    """
    find_text_column(table, settings.text_column)  # a column that was named and is not kept is refused first
    in_use = current_heads(out_uri)
    left = sorted(in_use.keys() - set(settings.tasks))
    if left:
        log.warning(
            "%s: %s not asked for any more, so the columns leave the output; name all tasks to keep them: %s",
            out_uri,
            f"{counted(len(left), 'task')} {'is' if len(left) == 1 else 'are'}",
            ", ".join(repr(task) if task else "the one of the label column alone" for task in left),
        )
    vectors, texts = _Vectors(table), LabelledTexts(table, table_group_columns(table, settings.group_columns))
    decisions = tuple(
        _choose(vectors, texts, labels_uri, out_uri, settings, task, in_use.get(task)) for task in settings.tasks
    )
    for warning in dict.fromkeys(decision.warning for decision in decisions if decision.warning):
        log.warning("%s", warning)
    return decisions


def _choose(
    vectors: "_Vectors",
    texts: LabelledTexts,
    labels_uri: str,
    out_uri: str,
    settings: ClassificationSettings,
    task: str,
    in_use: HeadName | None,
) -> HeadDecision:
    table = vectors.table
    labels, of_table = _load(table, labels_uri, settings, task)
    rules = _rules(table, labels, settings, task)
    fitting = HeadFitting(table, vectors, labels, out_uri, settings, task).with_encoder_files(rules)
    new = fitting.head(rules)
    fingerprint = new.record.fingerprint
    old = None if in_use is None or in_use.fingerprint == fingerprint else _old(out_uri, in_use, new, table)
    in_table = texts.in_table(labels) if of_table else None
    labels = fitting.judging_labels
    groups = [texts.groups(labels.test["text"], name) for name in of_table]
    labels = replace(labels, test=labels.test.with_columns(groups))
    key = measures_key(new, table, labels.test, settings.group_columns)
    measures = find_measures(out_uri, task, key) if old is None else None
    better, objection, gain = new, None, ""
    is_other = in_use is not None and in_use.fingerprint != fingerprint
    before = last_measures(out_uri, task, in_use.fingerprint) if in_use is not None and is_other else None
    if in_table is None:
        known = None if measures is None else measures.in_table
        in_table = known if known is not None and known.num_found else texts.in_table(fitting.labels)
    if measures is None:
        test_ND = vectors.of(labels.test["text"])
        quality = _measure(new, test_ND, labels, settings, of_table)
        comparison = compare_with_head_in_use(new, old, table, test_ND, labels.test, quality, settings)
        objection, gain = comparison.objection, comparison.gain
        if objection is None:
            measures = HeadMeasures(quality=quality, rules=_effect(new, fitting, test_ND, labels), in_table=in_table)
            keep_measures(out_uri, task, key, fingerprint, measures)
        else:
            assert old is not None
            log.warning("%s: the new head is refused and the head before stays: %s", task or "labels", objection)
            better, measures = old, HeadMeasures(quality=_measure(old, test_ND, labels, settings, of_table))
    elif measures.in_table != in_table:
        keep_measures(out_uri, task, key, fingerprint, measures.model_copy(update={"in_table": in_table}))
    return HeadDecision(
        task=task,
        fingerprint=better.record.fingerprint,
        is_new=in_use is None or better.record.fingerprint != in_use.fingerprint,
        refused=None if objection is None else new.record.fingerprint,
        reason=objection or reason_of_use(in_use, old, new, table, gain, quality=measures.quality, before=before),
        num_labels=fitting.learned.height,
        labels=fitting.labels.account(),
        in_table=in_table,
        warning=in_table.warning(labels_uri, table.uri),
        is_multi_label=is_multi_label(better),
        quality=measures.quality,
        kind=better.record.kind.value,
        strength=better.record.strength,
        tried=better.record.chosen,
        text_column=better.record.text_column,
        words_column=better.words_column,
        words=better.record.words,
        classifier=better.record.classifier or fitting.unused_classifier,
        learned=better.record.learned or fitting.unused_record,
        search=better.record.search,
        num_seen_test=fitting.labels.test.height - labels.test.height,
        dominant=_dominant(fitting.labels, task),
        speaking=speaking_terms(better),
        rules_use=better.record.rules_use,
        rules=measures.rules,
    )


def _load(table: Table, labels_uri: str, settings: ClassificationSettings, task: str) -> tuple[LabelSet, list[str]]:
    """Return the labels of a task, and the group columns that they lack and the table has."""
    read = _label_settings(settings, task)
    lists = _class_lists(settings, task)
    labels = load_labels(labels_uri, read, class_lists=lists, columns_if_there=settings.group_columns)
    others = [name for name in settings.group_columns if name not in labels.test.columns]
    of_table = table_group_columns(table, others)
    for name in others:
        if name not in of_table:
            raise no_group_column(name, labels_uri, label_columns(labels_uri, read, class_lists=lists), table)
    return labels, of_table


def _class_lists(settings: ClassificationSettings, task: str) -> ClassLists:
    """Return how lists are read: a column of lists is recognised, the settings name any other task of several classes."""
    return ClassLists(columns=frozenset(settings.tasks), join_rows=task in settings.multi_label_columns)


def _old(out_uri: str, in_use: HeadName, new: AnyHead, table: Table) -> AnyHead | None:
    """Return the head that is in use; None where it cannot be compared with the new one."""
    if in_use.is_multi_label != is_multi_label(new):
        return None  # one class a row cannot be measured against lists
    old = find_head(out_uri, in_use.fingerprint, multi_label=in_use.is_multi_label)
    if old is not None and old.words_column and old.words_column not in table.kept_schema:
        return None  # it cannot read the rows
    return old


def _rules(table: Table, labels: LabelSet, settings: ClassificationSettings, task: str) -> tuple[Rule, ...]:
    """Read the rules of a task; none without a file of rules."""
    if settings.rules_uri is None:
        return ()
    check_text_column(table, find_text_column(table, settings.text_column) or TEXT_COLUMN)
    named = pl.concat([labels.train["label"], labels.dev["label"]])
    classes = named.explode(empty_as_null=False, keep_nulls=False) if labels.is_multi_label else named
    return read_rules(settings.rules_uri, task, settings.tasks, sorted(set(classes)))


def _effect(new: AnyHead, fitting: HeadFitting, test_ND: Float32, labels: LabelSet) -> RulesEffect | None:
    """Compare the head of the present labels with the head of the same labels without rules."""
    if not new.record.rules:
        return None
    check_text_column(fitting.table, new.record.text_column)
    return rules_effect(new, fitting.head(()), test_ND, labels.test)


class _Vectors:
    """Vectors of labelled texts, each looked up once for all tasks: a look-up reads all text hashes of the table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._rows: dict[str, int] = {}
        self._known_ND = np.zeros((0, table.encoder.dim), np.float32)

    def look_up(self, texts: pl.Series) -> None:
        """Find the vectors of the texts that are not known yet, in one look-up."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            self._known_ND = np.concatenate([self._known_ND, vectors_of_texts(self.table, new)])
            self._rows |= zip(new, range(len(self._rows), len(self._rows) + len(new)), strict=True)

    def of(self, texts: pl.Series) -> Float32:
        """Return vectors, shape (texts, dim)."""
        self.look_up(texts)
        return np.asarray(self._known_ND[[self._rows[text] for text in texts]])


def _label_settings(settings: ClassificationSettings, task: str) -> LabelSettings:
    if settings.labels.kind not in {None, LabelKind.CLASSES}:
        raise SettingsError(
            f"labels.kind is {settings.labels.kind}: classification learns from labels of the kind classes"
        )
    columns = {**settings.labels.columns, **({"label": task} if task else {})}
    return settings.labels.model_copy(update={"kind": LabelKind.CLASSES, "columns": columns})


def _measure(
    head: AnyHead, test_ND: Float32, labels: LabelSet, settings: ClassificationSettings, of_table: Sequence[str]
) -> Quality | None:
    """Measure a head; a row without a value has the empty one, and a text that the table lacks is in no group of its."""
    test = labels.test.with_columns(
        pl.col(name).fill_null("") for name in settings.group_columns if name not in of_table
    )
    return measure(head, test_ND, test, {name: test[name].to_list() for name in settings.group_columns})


def _dominant(labels: LabelSet, task: str) -> str:
    """Return a warning where nearly all labelled rows, held-out ones included, have one class; log it, too."""
    if labels.is_multi_label:
        return ""
    counts = pl.concat([labels.train["label"], labels.dev["label"], labels.test["label"]]).value_counts(sort=True)
    name, count = counts.row(0)
    share = count / counts["count"].sum()
    if share < DOMINANT_SHARE:
        return ""
    warning = (
        f"{100 * share:.0f} % of the labelled rows have the class {name!r}: judge the head by macro-F1, not by accuracy"
    )
    log.warning("%s: %s", task or "labels", warning)
    return warning
