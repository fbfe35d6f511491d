"""ROUGE-N: the share of a reference that a summary covers.

Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 2. The F-measure weighs precision and recall
equally. Of several references the best counts, as usual for SciTLDR (Cachola et al. 2020, section 4).
"""

from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["best_rouge", "ngrams", "rouge_f"]

Ngrams = Counter[tuple[str, ...]]


def ngrams(terms: Sequence[str], size: int = 1) -> Ngrams:
    """Count the runs of `size` terms."""
    return Counter(tuple(terms[at : at + size]) for at in range(len(terms) - size + 1))


def rouge_f(summary: Ngrams, reference: Ngrams) -> float:
    """Return the F-measure of two counts (0 to 1): a term counts as often as both have it."""
    shared = (summary & reference).total()
    return 2 * shared / (summary.total() + reference.total()) if shared else 0.0


def best_rouge(summary: Ngrams, references: Iterable[Ngrams]) -> float:
    """Return the F-measure with the reference that it is highest with; 0 without references."""
    return max((rouge_f(summary, reference) for reference in references), default=0.0)
