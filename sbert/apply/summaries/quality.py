"""Measure summaries of documents that a ranker has not seen, compared with LexRank."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sbert.apply.summaries.examples import Example
from sbert.apply.summaries.fit import fit_models
from sbert.apply.summaries.lexrank import rank_sentences
from sbert.apply.summaries.ranker import RankerQuality, Value
from sbert.apply.summaries.rouge import best_rouge, ngrams
from sbert.apply.summaries.selection import choose_sentences
from sbert.apply.summaries.settings import SummaryBudget, SummarySettings
from sbert.evaluation.metric import Interval, Metric, difference_interval, interval
from sbert.vectors.precision import Float32

__all__ = ["measure_rankers", "summary_rouge"]

NUM_RESAMPLES = 1_000
CONFIDENCE = 0.95
Values = npt.NDArray[np.float64]


def measure_rankers(examples: Sequence[Example], settings: SummarySettings) -> RankerQuality:
    """Return the ROUGE-1 of summaries within the budget: of a ranker on unseen documents, LexRank, first sentences.

    Cross-validation: each part is ranked by a ranker of the other parts.
    """
    order = np.random.default_rng(settings.ranker.seed).permutation(len(examples))
    unseen: dict[int, Float32] = {}
    for part in np.array_split(order, settings.ranker.num_folds):
        here = set(part.tolist())
        models = fit_models([item for at, item in enumerate(examples) if at not in here], settings.ranker)
        unseen |= {at: models.scores(examples[at].inputs_SI, examples[at].runs_SW) for at in here}
    ranker = _metric(examples, settings.budget, [unseen[at] for at in range(len(examples))])
    by_lexrank = _metric(
        examples, settings.budget, [rank_sentences(item.sentences, item.vectors_SD) for item in examples]
    )
    first = _metric(examples, settings.budget, [-np.arange(len(item.sentences), dtype=np.float32) for item in examples])
    gain = difference_interval(
        ranker, by_lexrank, num_resamples=NUM_RESAMPLES, confidence=CONFIDENCE, seed=settings.ranker.seed
    )
    return RankerQuality(
        num_documents=len(examples),
        ranker=_value(interval(ranker, num_resamples=NUM_RESAMPLES, confidence=CONFIDENCE, seed=settings.ranker.seed)),
        lexrank=_value(
            interval(by_lexrank, num_resamples=NUM_RESAMPLES, confidence=CONFIDENCE, seed=settings.ranker.seed)
        ),
        first=first.value,
        gain=_value(gain),
    )


def summary_rouge(example: Example, scores_S: Float32, budget: SummaryBudget) -> float:
    """Return the ROUGE-1 of the summary that scores lead to."""
    selected = choose_sentences(scores_S, example.sentences.num_words_S, example.vectors_SD, budget)
    terms = [term for at in selected.tolist() for term in example.sentences.terms[at]]
    return best_rouge(ngrams(terms), example.references)


def _metric(examples: Sequence[Example], budget: SummaryBudget, scores: Sequence[Float32]) -> Metric:
    values = [summary_rouge(example, scores_S, budget) for example, scores_S in zip(examples, scores, strict=True)]
    return Metric("rouge-1", (np.array(values),), _mean)


def _mean(values: npt.NDArray[np.generic]) -> Values:
    return np.asarray(values.astype(np.float64).mean(axis=-1))


def _value(measured: Interval) -> Value:
    return Value(value=measured.value, low=measured.low, high=measured.high)
