"""Search further settings of a head by cross-validation: Optuna proposes them, and stops trials that fall behind.

The grid's choices are the first trials of the study, so that proposals begin near the best of them (a tree-structured Parzen
estimator). A trial is scored fold by fold, and after each fold the median rule compares it with the others. A killed search
goes on: its study is a journal beside the head that will be stored. The journal holds settings and figures, no texts.

Words have to add `MIN_WORDS_GAIN` to the best of vectors alone. So each trial is scored with words and without. The number
that the search raises is the better of both, less this gain where words are read (`value_of`).
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sbert.apply.classification.cross_validation import CHOICE_FOLDS, folds, macro_f1
from sbert.apply.classification.head import Float64
from sbert.apply.classification.scored_choices import ScoredChoice, told_choice, value_of
from sbert.apply.classification.search_use import SearchUse
from sbert.apply.classification.settings import HeadKind, HeadSettings
from sbert.apply.classification.trained import GAMMA, HeadChoice, LabelledRows, train_head
from sbert.apply.classification.words import train_words
from sbert.retrain.study import study_in, try_again_later

__all__ = ["HeadSearch", "HeadTrial"]

log = logging.getLogger(__name__)

STUDY_NAME = "head"
RESULT = "result"
"""Attribute of a trial that ended. A trial without it was running when a run was killed."""
WIDER = 10.0
"""Strengths are tried between the smallest of the grid divided by this and the largest times this."""
FEWER = 10
"""At least the landmarks of the settings divided by this are tried."""
GAMMAS = (GAMMA / 5, 5 * GAMMA)
WORD_WEIGHTS = (0.1, 4.0)


@dataclass(frozen=True)
class HeadTrial:
    """A trial that ended."""

    number: int
    """Number of the trial, from 1, in the order in which the trials ended."""
    choice: HeadChoice
    outcome: str
    """``completed``, ``stopped`` (pruned, or out of time) or ``failed``."""
    reason: str
    """Reason that it was stopped or failed."""
    seconds: float
    macro_f1: float | None
    """Macro-F1 of vectors alone on the folds that were scored; None where there are none."""
    macro_f1_with_words: float | None

    @property
    def is_completed(self) -> bool:
        """Whether all folds were scored."""
        return self.outcome == "completed"

    @property
    def scored(self) -> ScoredChoice:
        """The choice of a completed trial with its macro-F1, with words and without."""
        assert self.macro_f1 is not None
        plain = replace(self.choice, word_strength=0.0, word_weight=0.0)
        mixed = None if self.macro_f1_with_words is None else (self.macro_f1_with_words, self.choice)
        return ScoredChoice((self.macro_f1, plain), mixed)

    @property
    def told(self) -> dict[str, float | str]:
        """The trial as the report shows it."""
        with_words = self.macro_f1_with_words is not None
        found = self.macro_f1_with_words if with_words else self.macro_f1
        told = {**told_choice(found or 0.0, self.choice), "trial": self.number, "outcome": self.outcome}
        if found is None:
            del told["macro_f1"]
        if with_words and self.macro_f1 is not None:
            told["macro_f1_without_words"] = round(self.macro_f1, 6)
        if self.choice.kind is HeadKind.KERNEL:
            told |= {"num_landmarks": self.choice.num_landmarks or 0, "gamma": self.choice.gamma}
        return told | {"reason": self.reason, "seconds": self.seconds}


class _TrialStoppedError(Exception):
    """The trial falls behind, or the time is over."""


class HeadSearch:
    """The search of the settings of one head."""

    def __init__(self, rows: LabelledRows, settings: HeadSettings, num_classes: int, uri: str | None) -> None:
        """Open the study; a trial that was running when a run was killed is the next.

        Args:
            rows: the labelled rows that choose.
            settings: of the head, with a search.
            num_classes: C.
            uri: file of the journal; None for a study in memory.

        Raises:
            SettingsError: Optuna is not installed.
        """
        assert settings.search is not None
        self._rows, self._settings, self._search, self._num_classes = rows, settings, settings.search, num_classes
        self._folds = list(folds(rows.truth, settings.seed, CHOICE_FOLDS))
        self._study = study_in(uri, STUDY_NAME, seed=settings.seed, prune=self._search.prune)
        for trial in self._study.trials:
            if not trial.state.is_finished() and trial.state.name == "RUNNING":
                self._take_up(trial)

    def grid(self, num_choices: int, scored: Callable[[], list[ScoredChoice]]) -> list[ScoredChoice]:
        """Return the scored choices of the grid as the study keeps them; score them where it does not.

        Args:
            num_choices: choices of the grid.
            scored: scores them.
        """
        import optuna

        if len(self._grid()) < num_choices:
            for each in scored()[len(self._grid()) :]:
                choice = each.plain[1] if each.with_words is None else each.with_words[1]
                space = self._space(choice.kind)
                values = {
                    "kind": choice.kind.value,
                    "strength": choice.strength,
                    "num_landmarks": self._settings.num_landmarks,
                    "gamma": choice.gamma,
                    "word_strength": choice.word_strength,
                    "word_weight": choice.word_weight,
                }
                result = _result("grid", each.plain[0], None if each.with_words is None else each.with_words[0])
                self._study.add_trial(
                    optuna.trial.create_trial(
                        params={name: values[name] for name in space},
                        distributions=space,
                        value=each.value,
                        intermediate_values=dict(each.after_folds),
                        user_attrs={RESULT: result},
                    )
                )
        return self._grid()

    def run(self) -> None:
        """Try settings until enough were tried or the time is over."""
        while len(self.trials()) < self._search.trials and not self._is_over():
            self._try_next()

    def trials(self) -> list[HeadTrial]:
        """Return the trials that ended, without the grid."""
        ended = [trial for trial in self._ended() if trial.user_attrs[RESULT]["outcome"] != "grid"]
        return [
            HeadTrial(number=number, choice=_choice(trial.params), **trial.user_attrs[RESULT])
            for number, trial in enumerate(ended, start=1)
        ]

    def use(self, choice: HeadChoice, macro_f1: float, macro_f1_grid: float) -> SearchUse:
        """Return the outcome in words and numbers.

        Args:
            choice: the best of grid and trials.
            macro_f1: its macro-F1.
            macro_f1_grid: that of the best of the grid.
        """
        trials = self.trials()
        best = [
            trial.number for trial in trials if trial.is_completed and choice in {trial.choice, trial.scored.plain[1]}
        ]
        return SearchUse(
            num_asked=self._search.trials,
            num_trials=len(trials),
            num_stopped=sum(trial.outcome == "stopped" for trial in trials),
            num_failed=sum(trial.outcome == "failed" for trial in trials),
            best_trial=best[0] if best else None,
            macro_f1=macro_f1,
            macro_f1_grid=macro_f1_grid,
            seconds=round(sum(trial.seconds for trial in trials), 3),
        )

    def _ended(self) -> list[Any]:
        return [trial for trial in self._study.trials if trial.state.is_finished() and RESULT in trial.user_attrs]

    def _grid(self) -> list[ScoredChoice]:
        scored = []
        for trial in self._ended():
            result = trial.user_attrs[RESULT]
            if result["outcome"] == "grid":
                choice = replace(_choice(trial.params), num_landmarks=None)
                plain = (result["macro_f1"], replace(choice, word_strength=0.0, word_weight=0.0))
                mixed = result["macro_f1_with_words"]
                scored.append(ScoredChoice(plain, None if mixed is None else (mixed, choice)))
        return scored

    def _take_up(self, trial: Any) -> None:
        """End a trial that a killed run left; its settings are tried next, unless its result is there."""
        result = trial.user_attrs.get(RESULT)
        if result is None:
            try_again_later(self._study, trial)
        else:
            self._tell(trial.number, result)

    def _space(self, kind: HeadKind) -> dict[str, Any]:
        """Return what is tried for a kind, by name."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        low, high = min(self._settings.strengths) / WIDER, max(self._settings.strengths) * WIDER
        space: dict[str, Any] = {
            "kind": CategoricalDistribution([each.value for each in self._settings.kinds]),
            "strength": FloatDistribution(low, high, log=True),
        }
        if kind is HeadKind.KERNEL:
            most = self._settings.num_landmarks
            space["num_landmarks"] = IntDistribution(max(2, min(most, len(self._rows.truth)) // FEWER), most, log=True)
            space["gamma"] = FloatDistribution(*GAMMAS, log=True)
        if self._rows.terms is not None:
            space["word_strength"] = FloatDistribution(low, high, log=True)
            space["word_weight"] = FloatDistribution(*WORD_WEIGHTS, log=True)
        return space

    def _suggest(self, trial: Any) -> HeadChoice:
        kind = HeadKind(trial.suggest_categorical("kind", [each.value for each in self._settings.kinds]))
        for name, values in self._space(kind).items():
            if name == "num_landmarks":
                trial.suggest_int(name, values.low, values.high, log=True)
            elif name != "kind":
                trial.suggest_float(name, values.low, values.high, log=True)
        return _choice(trial.params)

    def _is_over(self, seconds: float = 0.0) -> bool:
        used = sum(trial.seconds for trial in self.trials())
        return used + seconds >= 60 * self._search.max_minutes

    def _try_next(self) -> None:
        """Run one trial to its end: its result is stored first, then its state."""
        trial = self._study.ask()
        choice, began = self._suggest(trial), time.monotonic()
        result = _result("completed", None, None)
        try:
            self._score(trial, choice, result, began)
        except _TrialStoppedError as stopped:
            result |= {"outcome": "stopped", "reason": str(stopped)}
        except np.linalg.LinAlgError as error:
            result |= {"outcome": "failed", "reason": str(error)}
        result["seconds"] = round(time.monotonic() - began, 3)
        trial.set_user_attr(RESULT, result)
        self._tell(trial.number, result)
        self._log(self.trials()[-1])

    def _log(self, trial: HeadTrial) -> None:
        settings = ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.told.items()
            if name not in {"trial", "outcome", "reason", "seconds"}
        )
        reason = f": {trial.reason}" if trial.reason else ""
        log.info("trial %d of %d %s%s (%s)", trial.number, self._search.trials, trial.outcome, reason, settings)

    def _tell(self, number: int, result: dict[str, Any]) -> None:
        from optuna.trial import TrialState

        if result["outcome"] == "completed":
            self._study.tell(number, value_of(result["macro_f1"], result["macro_f1_with_words"]))
        else:
            self._study.tell(number, state=TrialState.PRUNED if result["outcome"] == "stopped" else TrialState.FAIL)

    def _score(self, trial: Any, choice: HeadChoice, result: dict[str, Any], began: float) -> None:
        """Score a choice fold by fold, and write macro-F1 into the result.

        Raises:
            _TrialStoppedError: it falls behind, or the time is over.
        """
        rows, shape = self._rows, (len(self._rows.truth), self._num_classes)
        plain_NC, words_NC, done = np.full(shape, -np.inf), np.zeros(shape), np.zeros(0, np.int64)
        for number, (seen, unseen) in enumerate(self._folds, start=1):
            learned, others = rows.take(seen), rows.take(unseen)
            vectors_alone = replace(choice, word_weight=0.0)
            plain_NC[unseen] = train_head(learned, vectors_alone, self._settings, self._num_classes).scores(others)
            if choice.word_weight:
                words_NC[unseen] = self._by_words(learned, others, choice.word_strength)
            done = np.concatenate([done, unseen])
            among = np.intersect1d(rows.deciding, done)
            if len(among):
                result["macro_f1"] = macro_f1(rows, plain_NC, among)
                if choice.word_weight:
                    result["macro_f1_with_words"] = macro_f1(rows, plain_NC + choice.word_weight * words_NC, among)
                trial.report(value_of(result["macro_f1"], result["macro_f1_with_words"]), number)
            if number == len(self._folds):
                return
            if trial.should_prune():
                raise _TrialStoppedError(
                    f"below the median of the other trials after {number} of {len(self._folds)} folds"
                )
            if self._is_over(time.monotonic() - began):
                raise _TrialStoppedError(f"the time limit of {self._search.max_minutes:g} minutes")

    def _by_words(self, seen: LabelledRows, unseen: LabelledRows, strength: float) -> Float64:
        """Return the scores of unseen rows by words alone, shape (N, C)."""
        assert seen.terms is not None
        assert unseen.terms is not None
        scorer = train_words(
            seen.terms,
            seen.truth,
            strength,
            num_classes=self._num_classes,
            max_terms=self._settings.max_terms,
        )
        return scorer.scores(unseen.terms)


def _result(outcome: str, plain: float | None, with_words: float | None) -> dict[str, Any]:
    return {"outcome": outcome, "reason": "", "seconds": 0.0, "macro_f1": plain, "macro_f1_with_words": with_words}


def _choice(values: dict[str, Any]) -> HeadChoice:
    """Return the choice that a trial's values say."""
    return HeadChoice(
        HeadKind(values["kind"]),
        values["strength"],
        values.get("word_strength", 0.0),
        values.get("word_weight", 0.0),
        values.get("num_landmarks"),
        values.get("gamma", GAMMA),
    )
