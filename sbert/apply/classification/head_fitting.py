"""Find or fit the head of the labels of one task: what names it, and what it is fitted to.

A head is named by what decides it: labels, encoder, settings, rules, the column whose words it may read, and the encoder's
own classifier where one competes. A head that lies under its name is never fitted again.
"""

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import Protocol

import polars as pl

from sbert.apply.classification.classifier_use import ClassifierUse
from sbert.apply.classification.encoder_classifier import FoundClassifier, find_classifier
from sbert.apply.classification.fit import HeadClassifier, HeadOrigin, HeadRules, earlier_fingerprint, head_fingerprint
from sbert.apply.classification.head import Float32
from sbert.apply.classification.head_kinds import AnyHead, find_head, fit_any
from sbert.apply.classification.rules import Rule, rules_hash
from sbert.apply.classification.settings import ClassificationSettings
from sbert.apply.classification.weak_labels import find_weak_labels
from sbert.apply.classification.words import HeadWords
from sbert.index.words.settings import find_text_column
from sbert.labels.label_set import LabelSet
from sbert.storage.files import normalize_uri
from sbert.table.delta import Table

__all__ = ["TEXT_COLUMN", "HeadFitting", "TextVectors"]

log = logging.getLogger(__name__)

TEXT_COLUMN = "text"


class TextVectors(Protocol):
    """Vectors of labelled texts."""

    def look_up(self, texts: pl.Series) -> None:
        """Find the vectors of texts in one look-up."""

    def of(self, texts: pl.Series) -> Float32:
        """Return vectors, shape (texts, dim)."""


@dataclass(frozen=True)
class HeadFitting:
    """The labels of a task and everything else that decides its head."""

    table: Table
    vectors: TextVectors
    labels: LabelSet
    out_uri: str
    settings: ClassificationSettings
    task: str
    classifier: FoundClassifier | ClassifierUse | None = None
    """The encoder's classifier; why it is not considered; or None where there is none."""

    @property
    def learned(self) -> pl.DataFrame:
        """Rows that a head is fitted to."""
        return pl.concat([self.labels.train, self.labels.dev])

    @property
    def unused_classifier(self) -> ClassifierUse | None:
        """Why the encoder's classifier is not considered; None where it is, or there is none."""
        return self.classifier if isinstance(self.classifier, ClassifierUse) else None

    def with_classifier(self, rules: tuple[Rule, ...]) -> "HeadFitting":
        """Return this with the classifier of the table's encoder, where it has one.

        Before a head is fitted with it, the encoder is loaded and compared with that of the table.

        Raises:
            ModelError: its files are damaged.
        """
        learned = self.learned
        found = find_classifier(self.table, learned["text"], learned["label"], self.settings.head)
        fitting = replace(self, classifier=found)
        if isinstance(found, FoundClassifier) and fitting._stored(rules) is None:
            reason = found.unlike_table(self.table)
            if reason:
                fitting = replace(self, classifier=ClassifierUse(reason=reason))
        unused = fitting.unused_classifier
        if unused is not None:
            log.info("%s: %s", self.task or "labels", unused.told())
        return fitting

    def judging_labels(self, head: AnyHead) -> LabelSet:
        """Return the labels without held-out rows that the encoder learned from, where its classifier competed."""
        if head.record.classifier is None or not isinstance(self.classifier, FoundClassifier):
            return self.labels
        test = self.labels.test
        return replace(self.labels, test=test.filter(self.classifier.is_unseen(test["text"])))

    def head(self, rules: tuple[Rule, ...]) -> AnyHead:
        """Return the head of labels and rules; fit it, and store it beside the output, where it is not there."""
        stored = self._stored(rules)
        if stored is not None:
            return stored
        learned, words_column = self.learned, self._words_column
        self.vectors.look_up(pl.concat([learned["text"], self.labels.test["text"]]))
        found = self.classifier if isinstance(self.classifier, FoundClassifier) else None
        head = fit_any(
            self.vectors.of(learned["text"]),
            learned["label"],
            self.settings.head,
            HeadOrigin(
                fingerprint=self._names(rules)[0],
                encoder_fingerprint=self.table.encoder.fingerprint,
                labels_fingerprint=self._content,
                task=self.task,
            ),
            rules=self._knowledge(rules) if rules else None,
            words=HeadWords(words_column, learned["text"]) if words_column else None,
            classifier=None if found is None else HeadClassifier(found.of_rows(learned["text"]), found.use),
        )
        head.save(normalize_uri(self.out_uri))
        return head

    def _stored(self, rules: tuple[Rule, ...]) -> AnyHead | None:
        """Return the head that lies beside the output; one of an earlier release, too."""
        for name in self._names(rules):
            stored = find_head(self.out_uri, name, multi_label=self.labels.is_multi_label)
            if stored is not None:
                return stored
        return None

    def _names(self, rules: tuple[Rule, ...]) -> list[str]:
        """Return the name of the head, then the name that an earlier release gave it."""
        suffix = rules_hash(rules, self._text_column, self.settings.max_weak_rows) if rules else ""
        named = (self._content, self.table.encoder.fingerprint, self.task, self.settings.head)
        several, found = self.labels.is_multi_label, self.classifier
        name = head_fingerprint(
            *named,
            rules=suffix,
            words_column=self._words_column,
            is_multi_label=several,
            classifier=found.fingerprint if isinstance(found, FoundClassifier) else "",
        )
        earlier = None if several or isinstance(found, FoundClassifier) else earlier_fingerprint(*named, rules=suffix)
        return [name] if earlier is None else [name, earlier]

    def _knowledge(self, rules: tuple[Rule, ...]) -> HeadRules:
        """Return rules with the rows that they label; with several classes a row they label none."""
        learned = self.learned
        weak = None
        if self.settings.max_weak_rows and not self.labels.is_multi_label:
            by_people = pl.concat([learned["text"], self.labels.test["text"]])
            weak = find_weak_labels(self.table, self._text_column, rules, by_people, self.settings.max_weak_rows)
        return HeadRules(rules, self._text_column, learned["text"], weak)

    @property
    def _content(self) -> str:
        """Hash of the labelled rows."""
        return hashlib.sha256("\n".join(sorted(self.learned["row_id"])).encode()).hexdigest()

    @property
    def _text_column(self) -> str:
        """Column that rules are matched with."""
        return find_text_column(self.table, self.settings.text_column) or TEXT_COLUMN

    @property
    def _words_column(self) -> str:
        """Column whose words the head may read; empty for none."""
        column = find_text_column(self.table, self.settings.text_column)
        return column if column is not None and self.settings.head.words else ""
