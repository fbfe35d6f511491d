"""Labelled texts with marked spans: read from JSON Lines or two-column text, and checked.

A line of JSON Lines is an object with ``text`` and what is marked in it. Two-column text (CoNLL) has a token and its tag on
each line and an empty line after each text; tags are ``O``, ``B-TYPE`` and ``I-TYPE``. Places count characters from 0, the
end is the place after the last. Every error names file, line and remedy.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import LabelError
from sbert.labels.load import list_label_objects
from sbert.source.encodings import open_text
from sbert.source.objects import SourceObject, Span

__all__ = ["MarkedSpan", "MarkedText", "check_span", "label_fingerprint", "read_marked_texts", "read_records"]

OUTSIDE = "O"
TAG = re.compile(r"(B|I|S|E|L|U)-(\S+)")
"""Tags of the schemes IOB2, BILOU and BIOES."""
BEGINNINGS = frozenset("BSU")

Record = TypeVar("Record", bound=BaseModel)


class MarkedSpan(BaseModel):
    """A span of a text and its type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    start: int = Field(ge=0)
    end: int = Field(ge=1)
    type: str = Field(min_length=1)
    text: str | None = None
    probability: float | None = None


class MarkedText(BaseModel):
    """A text whose entities are all marked."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    text: str = Field(min_length=1)
    entities: list[MarkedSpan]
    id: str | int | None = None


@dataclass(frozen=True)
class _Line:
    """A line of JSON, or a text of two-column text as such a line would hold it."""

    where: str
    record: Any


def read_marked_texts(uri: str) -> list[MarkedText]:
    """Read texts with entities under a file, folder or glob.

    Raises:
        MissingError, EmptySourceError, StorageError, BrokenObjectError: there is nothing to read, or it cannot be read.
        LabelError: a record is wrong, spans lie outside their text or overlap, or there is no text.
    """
    marked_texts = [_checked(where, marked) for where, marked in read_records(uri, MarkedText, _two_columns)]
    if not marked_texts:
        raise LabelError(f"{uri}: there are no labelled texts: write one JSON object a line with text and entities")
    return marked_texts


def read_records(
    uri: str, kind: type[Record], of_text: Callable[[SourceObject, list[str]], Iterator[_Line]] | None = None
) -> Iterator[tuple[str, Record]]:
    """Yield each record with the place where it stands, for messages.

    Args:
        uri: file, folder or glob.
        kind: the fields of a record.
        of_text: reads the lines of an object of plain text; None if only JSON Lines are read.
    """
    for item in list_label_objects(uri):
        if item.format == "jsonl":
            records = _json_lines(item, _lines(item))
        elif item.format == "txt" and of_text is not None:
            records = of_text(item, _lines(item))
        else:
            also = ", or tokens and tags in two columns (.txt)" if of_text is not None else ""
            raise LabelError(
                f"{item.uri}: marked spans are read from JSON Lines (.jsonl){also}, not from {item.format}"
            )
        for line in records:
            try:
                yield line.where, kind.model_validate(line.record)
            except ValidationError as error:
                raise LabelError(f"{line.where}: {_first_fault(error, kind)}") from error


def check_span(where: str, text: str, span: MarkedSpan, name: str) -> None:
    """Check that a span lies in its text.

    Raises:
        LabelError: it is empty, outside, only space, or its own text is another.
    """
    if span.end <= span.start:
        raise LabelError(
            f"{where}: {name} ends at {span.end}, not after its start {span.start}: mark one character or more"
        )
    if span.end > len(text):
        raise LabelError(
            f"{where}: {name} ends at {span.end}, but the text has {len(text)} characters: count characters from 0, not "
            "bytes"
        )
    marked = text[span.start : span.end]
    if not marked.strip():
        raise LabelError(f"{where}: {name} at {span.start} to {span.end} holds only white space: mark a word")
    if span.text is not None and span.text != marked:
        raise LabelError(
            f"{where}: {name} at {span.start} to {span.end} is {marked!r} in the text, but the label says "
            f"{span.text!r}: correct start and end"
        )


def label_fingerprint(records: Sequence[BaseModel]) -> str:
    """Return a hash of labelled records that does not depend on their order."""
    lines = sorted(record.model_dump_json() for record in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _checked(where: str, marked: MarkedText) -> MarkedText:
    ordered = sorted(marked.entities, key=lambda span: (span.start, span.end))
    for span in ordered:
        check_span(where, marked.text, span, f"an entity of type {span.type!r}")
    for left, right in pairwise(ordered):
        if right.start < left.end:
            raise LabelError(
                f"{where}: the entities at {left.start} to {left.end} and {right.start} to {right.end} overlap: remove one"
            )
    plain = [MarkedSpan(start=span.start, end=span.end, type=span.type) for span in ordered]
    return MarkedText(text=marked.text, entities=plain)


def _lines(item: SourceObject) -> list[str]:
    if item.num_bytes == 0:
        return []
    with open_text(Span(object=item), None, guess=False) as stream:
        data = stream.read_head(0)
    try:
        return data.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise LabelError(f"{item.uri}: not UTF-8 at byte {error.start}: save the labels as UTF-8") from error


def _json_lines(item: SourceObject, lines: Sequence[str]) -> Iterator[_Line]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{item.uri}: line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LabelError(f"{where}: not JSON ({error}): write one object per line") from error
        if not isinstance(record, dict):
            raise LabelError(f"{where}: a JSON {type(record).__name__}, expected an object: write one object per line")
        yield _Line(where, record)


def _two_columns(item: SourceObject, lines: Sequence[str]) -> Iterator[_Line]:
    """Yield texts of tokens joined by one space."""
    begin = 1
    tokens: list[tuple[str, str]] = []
    for number, line in enumerate([*lines, ""], start=1):
        columns = line.split()
        if not columns or columns[0] == "-DOCSTART-":
            if tokens:
                yield _Line(f"{item.uri}: line {begin}", _joined(tokens))
            tokens, begin = [], number + 1
            continue
        if len(columns) < 2 or not (columns[-1] == OUTSIDE or TAG.fullmatch(columns[-1])):
            raise LabelError(
                f"{item.uri}: line {number}: {line[:60]!r} does not end in a tag O, B-TYPE or I-TYPE: write a token and its "
                "tag on each line, and an empty line after each text"
            )
        tokens.append((columns[0], columns[-1]))


def _joined(tokens: Sequence[tuple[str, str]]) -> dict[str, Any]:
    entities: list[dict[str, Any]] = []
    place, type_before = 0, ""
    for token, tag in tokens:
        match = TAG.fullmatch(tag)
        if match is not None:
            scheme, name = match.groups()
            if scheme in BEGINNINGS or name != type_before:
                entities.append({"start": place, "end": place, "type": name})
            entities[-1]["end"] = place + len(token)
        type_before = match.group(2) if match is not None else ""
        place += len(token) + 1
    return {"text": " ".join(token for token, _ in tokens), "entities": entities}


def _first_fault(error: ValidationError, kind: type[BaseModel]) -> str:
    fault = error.errors(include_url=False)[0]
    place = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        names = ", ".join(kind.model_fields) if len(fault["loc"]) == 1 else ", ".join(MarkedSpan.model_fields)
        return f"there is no field {place!r}: the fields are {names}"
    if fault["type"] == "missing":
        return f"the field {place!r} is missing"
    return f"the field {place!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
