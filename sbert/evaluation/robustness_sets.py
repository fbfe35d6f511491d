"""Regression sets that every installation has: made by rule from the texts that decide, without a download.

============ ======================================== ======================================== ================
set          a text                                   must be nearer to                        metric
============ ======================================== ======================================== ================
negation     of the frozen rows                       itself in other words than its negation  triplet_accuracy
number       of the frozen rows that holds a number   itself in other words than another       triplet_accuracy
                                                      number
typos        of the frozen rows, with typos           itself without typos than all others     ndcg@10
other_domain first sentence of a documentation of     the rest of this documentation than all  ndcg@10
             Python's standard library                others
============ ======================================== ======================================== ================

Where the frozen rows have too few texts that a rule can change, sentences of Python's documentation fill the set up. The
sets depend only on the texts and the seed (and the documentation on the version of Python).
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import polars as pl

from sbert.evaluation.changed_texts import change_number, negate, reword
from sbert.evaluation.frozen_sets import EvaluationSet, fingerprint_rows
from sbert.evaluation.perturb import perturb
from sbert.evaluation.robustness_settings import RobustnessKind, RobustnessSettings
from sbert.evaluation.settings import Perturbation
from sbert.labels.label_kinds import COLUMNS, LabelKind
from sbert.source.sample import module_documents

__all__ = ["PREFIX", "robustness_sets"]

PREFIX = "robustness:"
"""Begins the name of every made set. No set of a user can have it: their names have no colon."""
MIN_TEXTS = 20
"""A set of fewer texts is not made."""
MIN_CHARACTERS, MAX_CHARACTERS = 12, 300
"""A shorter text says too little to be negated; in a longer one a single word hardly moves the vector."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])")
MODULES = (
    "argparse", "ast", "asyncio", "base64", "bisect", "calendar", "collections", "concurrent.futures", "configparser",
    "contextlib", "csv", "datetime", "decimal", "difflib", "email.message", "enum", "fractions", "ftplib", "functools",
    "gettext", "gzip", "heapq", "hmac", "html.parser", "http.client", "http.cookiejar", "imaplib", "inspect", "ipaddress",
    "itertools", "json", "logging", "logging.handlers", "mailbox", "math", "multiprocessing.pool", "optparse", "os",
    "pathlib", "pickle", "platform", "queue", "random", "sched", "selectors", "shelve", "shutil", "smtplib", "socket",
    "socketserver", "sqlite3", "ssl", "statistics", "string", "struct", "subprocess", "tarfile", "tempfile", "textwrap",
    "threading", "traceback", "types", "typing", "unittest", "unittest.mock", "urllib.parse", "urllib.request", "uuid",
    "weakref", "xml.dom.minidom", "xml.etree.ElementTree", "zipfile",
)  # fmt: skip
"""Modules of the standard library whose import does nothing else and takes little time."""


def robustness_sets(texts: Sequence[str], settings: RobustnessSettings, *, seed: int) -> list[EvaluationSet]:
    """Make the robustness sets that the settings name. A set that has too few texts is left out.

    Args:
        texts: texts of the rows that decide; equal texts give equal sets.
        settings: which sets, and how many texts each.
        seed: of the choice of texts and of their changes.
    """
    own = _shuffled((_first_sentence(text) for text in texts), seed)
    made: dict[RobustnessKind, Callable[[], Sequence[tuple[str, ...]]]] = {
        RobustnessKind.NEGATION: lambda: _contrasts(own, negate, settings.num_texts, seed),
        RobustnessKind.NUMBER: lambda: _contrasts(own, change_number, settings.num_texts, seed),
        RobustnessKind.TYPOS: lambda: _misspelled(own, settings.num_texts, seed),
        RobustnessKind.OTHER_DOMAIN: lambda: _shuffled_pairs(_documentation(), settings.num_texts, seed),
    }
    sets = [_as_set(kind, made[kind]()) for kind in dict.fromkeys(settings.sets)]
    return [each for each in sets if each.rows.height >= MIN_TEXTS]


def _as_set(kind: RobustnessKind, rows: Sequence[tuple[str, ...]]) -> EvaluationSet:
    is_contrast = kind in {RobustnessKind.NEGATION, RobustnessKind.NUMBER}
    label_kind = LabelKind.TRIPLETS if is_contrast else LabelKind.PAIRS
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS[label_kind], pl.String), orient="row")
    none = frame.clear()
    return EvaluationSet(
        name=f"{PREFIX}{kind.value}",
        kind=label_kind,
        rows=frame,
        train=none,
        fingerprint=fingerprint_rows(label_kind, frame, none),
        made_for="triplet_accuracy" if is_contrast else "ndcg@10",
    )


def _contrasts(
    own: Sequence[str], change: Callable[..., str | None], num_texts: int, seed: int
) -> list[tuple[str, str, str]]:
    """Return each text, the text in other words, and the changed text, until there are enough."""
    rows: list[tuple[str, str, str]] = []
    for text in _filled_up(own, seed):
        if len(rows) == num_texts:
            break
        changed = change(text, seed=seed)
        if changed is not None:
            rows.append((text, reword(text, seed=seed), changed))
    return rows


def _misspelled(own: Sequence[str], num_texts: int, seed: int) -> list[tuple[str, str]]:
    texts = [text for _, text in zip(range(num_texts), _filled_up(own, seed), strict=False)]
    return list(zip(perturb(texts, Perturbation.TYPOS, seed=seed), texts, strict=True))


def _filled_up(own: Sequence[str], seed: int) -> Iterable[str]:
    """Return the texts, and then sentences of Python's documentation; no text twice."""
    yield from own
    own_texts = set(own)
    sentences = (sentence for pair in _documentation() for text in pair for sentence in SENTENCE_END.split(text))
    yield from (text for text in _shuffled(sentences, seed) if text not in own_texts)


def _shuffled_pairs(pairs: Sequence[tuple[str, str]], num_pairs: int, seed: int) -> list[tuple[str, str]]:
    return sorted(pairs, key=lambda pair: _order(pair[0], seed))[:num_pairs]


def _shuffled(texts: Iterable[str], seed: int) -> list[str]:
    """Return the different texts of a fitting length, in an order that depends only on each text and the seed."""
    fitting = {text for text in texts if MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS}
    return sorted(fitting, key=lambda text: _order(text, seed))


def _order(text: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}|{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _first_sentence(text: str) -> str:
    """Return the first sentence of a text that is long enough to be one."""
    sentences = (" ".join(sentence.split()) for sentence in SENTENCE_END.split(text))
    return next((sentence for sentence in sentences if len(sentence) >= MIN_CHARACTERS), "")


@lru_cache(maxsize=1)
def _documentation() -> tuple[tuple[str, str], ...]:
    """Return first sentence and rest of the first two paragraphs of each documentation that has both."""
    pairs: dict[str, str] = {}
    for document in module_documents(MODULES):
        title, _, text = document["text"].partition("\n")
        del title  # it names the object, which would make the search a search of words
        sentences = SENTENCE_END.split(" ".join(" ".join(text.split("\n\n")[:2]).split()), maxsplit=1)
        if len(sentences) == 2 and min(len(part) for part in sentences) >= MIN_CHARACTERS:
            pairs.setdefault(sentences[0], sentences[1][:MAX_CHARACTERS])
    return tuple((first, rest) for rest, first in {rest: first for first, rest in pairs.items()}.items())
