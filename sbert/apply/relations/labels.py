"""Labelled pairs of names: read from JSON Lines and checked."""

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.marked_texts import check_span, read_records
from sbert.counted import counted
from sbert.errors import LabelError, TooFewLabelsError

__all__ = ["MIN_EXAMPLES", "LabelledPair", "Name", "check_relations", "read_relation_labels"]

MIN_EXAMPLES = 2
"""Examples of each relation: one is compared with the prototype of the others, which shows how near is near enough."""


class Name(BaseModel):
    """A name in a text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    start: int = Field(ge=0)
    end: int = Field(ge=1)
    type: str | None = None
    text: str | None = None
    probability: float | None = None


class LabelledPair(BaseModel):
    """A text, two names in it, and their relation; None says that they have none of the relations."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    text: str = Field(min_length=1)
    head: Name
    tail: Name
    relation: str | None = Field(min_length=1)
    id: str | int | None = None


def read_relation_labels(uri: str) -> list[LabelledPair]:
    """Read labelled pairs under a file, folder or glob.

    Raises:
        MissingError, EmptySourceError, StorageError, BrokenObjectError: there is nothing to read, or it cannot be read.
        LabelError: a record is wrong, a name lies outside its text, both names overlap, or there is no pair.
    """
    pairs = []
    for where, pair in read_records(uri, LabelledPair):
        for side in ("head", "tail"):
            check_span(where, pair.text, getattr(pair, side), f"the {side}")
        if pair.head.start < pair.tail.end and pair.tail.start < pair.head.end:
            raise LabelError(
                f"{where}: the head at {pair.head.start} to {pair.head.end} and the tail at {pair.tail.start} to "
                f"{pair.tail.end} overlap: mark two separate names"
            )
        pairs.append(pair.model_copy(update={"id": None}))
    if not pairs:
        raise LabelError(
            f"{uri}: there are no labelled pairs: write one JSON object per line, with text, head, tail and relation"
        )
    return pairs


def check_relations(pairs: Sequence[LabelledPair], where: str) -> dict[str, int]:
    """Check that labels can be learned from, and return the number of examples of each relation.

    Raises:
        TooFewLabelsError: there are fewer than two relations, or one of them has a single example.
    """
    counts = Counter(pair.relation for pair in pairs if pair.relation is not None)
    if len(counts) < 2:
        only = f", {next(iter(counts))!r}" if counts else ""
        raise TooFewLabelsError(
            f"{where}: the labels have {counted(len(counts), 'relation')}{only}, but at least 2 are needed: add pairs of "
            "another relation, so that the relator learns to tell them apart"
        )
    alone = sorted(name for name, count in counts.items() if count < MIN_EXAMPLES)
    if alone:
        raise TooFewLabelsError(
            f"{where}: {len(alone)} of {len(counts)} relations have fewer than {MIN_EXAMPLES} examples, such as "
            f"{alone[0]!r}: add examples"
        )
    return dict(sorted(counts.items()))
