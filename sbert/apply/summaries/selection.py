"""Choose the sentences of a summary: the best first, within a budget, none that repeats another, then in their order.

A sentence that is too like a chosen one is left out: the cross-sentence informational subsumption of Radev (2000), "A Common
Theory of Information Fusion from Multiple Text Sources", with cosines of sentence vectors in the place of shared words.
"""

import re
from collections.abc import Sequence

import numpy as np

from sbert.apply.summaries.documents import Int64
from sbert.apply.summaries.settings import SummaryBudget
from sbert.vectors.precision import Float32

__all__ = ["choose_sentences", "join_sentences"]

UNSPACED_END = re.compile("[\u3002\uff01\uff1f\uff61][\u201d\u2019\u300d\u300f\uff09]*$")


def choose_sentences(scores_S: Float32, num_words_S: Int64, vectors_SD: Float32, budget: SummaryBudget) -> Int64:
    """Return the numbers of the chosen sentences, ascending.

    Once a sentence had no room, only the better half of the sentences fills the rest: a summary shall not end with the worst
    sentence because that is short. If no sentence fits into the words, the best one alone is the summary.

    Args:
        scores_S: a higher score is better; of equals the earlier sentence is.
        num_words_S: words of each sentence.
        vectors_SD: unit vectors.
        budget: what a summary may hold.
    """
    order = np.argsort(-scores_S, kind="stable")
    selected: list[int] = []
    words = 0
    has_gap = False
    for rank, at in enumerate(order.tolist()):
        if budget.max_sentences is not None and len(selected) >= budget.max_sentences:
            break
        if has_gap and rank >= (len(order) + 1) // 2:
            break
        if budget.max_words is not None and words + int(num_words_S[at]) > budget.max_words:
            has_gap = True
            continue
        if selected and float((vectors_SD[selected] @ vectors_SD[at]).max()) > budget.max_similarity:
            continue
        selected.append(at)
        words += int(num_words_S[at])
    if not selected and len(order):
        selected = [int(order[0])]
    return np.array(sorted(selected), np.int64)


def join_sentences(texts: Sequence[str]) -> str:
    """Return sentences as one text, on one line; scripts that put no spaces between sentences get none."""
    lines = [" ".join(text.split()) for text in texts]
    joined = ""
    for line in lines:
        joined += line if not joined or UNSPACED_END.search(joined) else f" {line}"
    return joined
