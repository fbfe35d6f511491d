"""Find or fit the head of the labels of one task: what names it, and what it is fitted to.

A head is named by what decides it: labels, encoder, settings, rules, the column whose words it may read, the record of the
texts that the encoder learned from where some labelled rows are among them, and the encoder's own classifier where one
competes. A head that lies under its name is never fitted again.
"""

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import Protocol

import polars as pl

from sbert.apply.classification.encoder_classifier import FoundClassifier, find_classifier
from sbert.apply.classification.encoder_use import ClassifierUse, LearnedUse, told_of_encoder
from sbert.apply.classification.fit import HeadClassifier, HeadOrigin, HeadRules, earlier_fingerprint, head_fingerprint
from sbert.apply.classification.head import HEADS, Float32
from sbert.apply.classification.head_kinds import AnyHead, find_head, fit_any
from sbert.apply.classification.learned_rows import FoundRecord, find_record, unlike_table
from sbert.apply.classification.rules import Rule, rules_hash
from sbert.apply.classification.rules_use import RulesPart
from sbert.apply.classification.settings import ClassificationSettings
from sbert.apply.classification.weak_labels import find_weak_labels
from sbert.apply.classification.words import HeadWords
from sbert.index.words.settings import find_text_column
from sbert.labels.label_set import LabelSet
from sbert.retrain.study import check_optuna
from sbert.storage.files import delete, join, normalize_uri
from sbert.table.delta import Table

__all__ = ["TEXT_COLUMN", "HeadFitting", "TextVectors"]

log = logging.getLogger(__name__)

TEXT_COLUMN = "text"
SEARCH_NAME = "search.jsonl"
"""Journal of a search, in the folder of the head that it is for."""


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
    record: FoundRecord | LearnedUse | None = None
    """The texts that the encoder learned from; why all rows decide nevertheless; or None where nothing is recorded."""

    @property
    def learned(self) -> pl.DataFrame:
        """Rows that a head is fitted to."""
        return pl.concat([self.labels.train, self.labels.dev])

    @property
    def unused_classifier(self) -> ClassifierUse | None:
        """Why the encoder's classifier is not considered; None where it is, or there is none."""
        return self.classifier if isinstance(self.classifier, ClassifierUse) else None

    @property
    def unused_record(self) -> LearnedUse | None:
        """Why all rows decide although the encoder has learned from some; None otherwise."""
        return self.record if isinstance(self.record, LearnedUse) else None

    def with_encoder_files(self, rules: tuple[Rule, ...]) -> "HeadFitting":
        """Return this with what the encoder's training left beside it: the record of its texts, and its classifier.

        Before they decide about a new head, the encoder is loaded and compared with that of the table.

        Raises:
            ModelError: one of the files is damaged.
        """
        learned, head = self.learned, self.settings.head
        record = find_record(self.table, learned["text"], head)
        fitting = replace(self, record=record, classifier=find_classifier(self.table, learned["label"], head, record))
        if fitting._needs_encoder and fitting._stored(rules) is None:
            reason = unlike_table(self.table)
            if reason:
                classifier = fitting.classifier
                fitting = replace(
                    self,
                    record=LearnedUse(reason=reason),
                    classifier=ClassifierUse(reason=reason) if isinstance(classifier, FoundClassifier) else classifier,
                )
        for told in told_of_encoder(fitting.unused_classifier, fitting.unused_record):
            log.info("%s: %s", self.task or "labels", told)
        return fitting

    @property
    def _needs_encoder(self) -> bool:
        """Whether it matters that the files beside the encoder belong to the encoder of the table."""
        if isinstance(self.classifier, FoundClassifier):
            return True
        if not isinstance(self.record, FoundRecord):
            return False
        return bool(self.record.use.num_seen) or not self.record.is_unseen(self.labels.test["text"]).all()

    @property
    def judging_labels(self) -> LabelSet:
        """The labels without held-out rows that the encoder learned from."""
        if not isinstance(self.record, FoundRecord):
            return self.labels
        test = self.labels.test
        return replace(self.labels, test=test.filter(self.record.is_unseen(test["text"])))

    def head(self, rules: tuple[Rule, ...]) -> AnyHead:
        """Return the head of labels and rules; fit it, and store it beside the output, where it is not there.

        Raises:
            SettingsError: a search is asked for, and Optuna is not installed.
        """
        stored = self._stored(rules)
        if stored is not None:
            return stored
        if self.settings.head.search is not None:
            check_optuna()
        learned, words_column = self.learned, self._words_column
        name = self._names(rules)[0]
        search_uri = join(normalize_uri(self.out_uri), HEADS.folder, name, SEARCH_NAME)
        self.vectors.look_up(pl.concat([learned["text"], self.labels.test["text"]]))
        found = self.classifier if isinstance(self.classifier, FoundClassifier) else None
        record = self.record if isinstance(self.record, FoundRecord) else None
        head = fit_any(
            self.vectors.of(learned["text"]),
            learned["label"],
            self.settings.head,
            HeadOrigin(
                fingerprint=name,
                encoder_fingerprint=self.table.encoder.fingerprint,
                labels_fingerprint=self._content,
                task=self.task,
            ),
            rules=self._knowledge(rules) if rules else None,
            words=HeadWords(words_column, learned["text"]) if words_column else None,
            classifier=None if found is None else HeadClassifier(found.weights, found.use),
            deciding=None if record is None else record.of_rows(learned["text"]),
            search_uri=search_uri,
        )
        use = head.record.rules_use
        if use is not None and use.part is not RulesPart.ALL:
            log.warning("%s: %s", self.task or "labels", use.told())
        head.save(normalize_uri(self.out_uri))
        if self.settings.head.search is not None:
            delete([search_uri])  # the head's record keeps the trials
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
        several, brought = self.labels.is_multi_label, self._brought
        name = head_fingerprint(
            *named,
            rules=suffix,
            words_column=self._words_column,
            is_multi_label=several,
            learned=brought,
        )
        earlier = None if several or brought or rules else earlier_fingerprint(*named)
        return [name] if earlier is None else [name, earlier]

    @property
    def _brought(self) -> str:
        """Hash of the files beside the encoder that decide about the head; empty where they decide nothing."""
        if isinstance(self.classifier, FoundClassifier):
            return self.classifier.fingerprint
        return self.record.fingerprint if isinstance(self.record, FoundRecord) else ""

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
