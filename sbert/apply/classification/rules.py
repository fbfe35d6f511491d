"""Rules that a person knows before there are labels: a term or a pattern speaks for a class.

A file of rules is JSON Lines, a rule a line:

    {"class": "negative", "terms": ["fell", "loss"], "weight": 0.8}
    {"class": "positive", "pattern": "(?i)profit (rose|grew)"}

Polars searches the texts. Its regular expressions take a time that is linear in the text, whatever the pattern.
"""

import codecs
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sbert.errors import LabelError
from sbert.storage.files import normalize_uri, read_bytes
from sbert.vectors.precision import Float32

__all__ = ["Rule", "read_rules", "rule_classes", "rule_features", "rules_hash", "spoken_for"]

CODE_VERSION = 2
"""Raise it when the code changes so that the same rules make another head."""


class Rule(BaseModel):
    """A rule: texts that hold one of the terms, or match the pattern, speak for a class."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    label: str = Field(alias="class", min_length=1, title="Class", description="The class that the rule speaks for.")
    terms: tuple[str, ...] = Field(
        default=(), title="Terms", description="Whole words or phrases; the case does not matter."
    )
    pattern: str = Field(
        default="", title="Pattern", description="Regular expression in the syntax of Rust, instead of terms."
    )
    weight: float = Field(default=1.0, ge=0, le=1, title="Weight", description="How sure the rule is (0 to 1).")
    task: str = Field(default="", title="Task", description="Task of the class; empty where there is one task.")

    @model_validator(mode="after")
    def _check(self) -> "Rule":
        if bool(self.terms) == bool(self.pattern):
            raise ValueError("give either terms or pattern")
        if not all(term.strip() for term in self.terms):
            raise ValueError("a term is empty")
        try:
            pl.Series([""]).str.contains(self.expression)
        except pl.exceptions.ComputeError as error:
            problem = str(error).partition("error: ")[2].rpartition("error: ")[2].partition("\n")[0]
            raise ValueError(f"the pattern {self.pattern!r} is no regular expression: {problem or error}") from error
        return self

    @property
    def expression(self) -> str:
        """The regular expression that is searched for."""
        if self.pattern:
            return self.pattern
        words = "|".join(pl.escape_regex(term.strip()) for term in self.terms)
        return rf"(?i)(?:^|\W)(?:{words})(?:\W|$)"


def read_rules(uri: str, task: str, tasks: Sequence[str], classes: Sequence[str]) -> tuple[Rule, ...]:
    """Read the rules of a task.

    Args:
        uri: a file of JSON Lines.
        task: the task whose rules are returned.
        tasks: all tasks; a rule must name its task where there are several.
        classes: the classes of the task, as the labels name them.

    Raises:
        LabelError: a line holds no rule, or a rule for an unknown class or task; the message names the line.
        StorageError: the file cannot be read.
    """
    rules = []
    for number, line in enumerate(read_bytes(normalize_uri(uri)).removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        if not line.strip():
            continue
        rule = _parsed(line, f"{uri}, line {number}")
        if (rule.task and rule.task not in tasks) or (not rule.task and len(tasks) > 1):
            named = ", ".join(filter(None, tasks)) or "none, so leave task out"
            raise LabelError(f"{uri}, line {number}: the task is {rule.task!r}, the tasks are: {named}")
        if rule.task not in {"", task}:
            continue
        if rule.label not in classes:
            some_classes = ", ".join(sorted(classes)[:10])
            raise LabelError(
                f"{uri}, line {number}: no labelled row has the class {rule.label!r} (classes: {some_classes}"
                f"{', …' if len(classes) > 10 else ''}): correct the rule, or label rows of this class"
            )
        rules.append(rule)
    return tuple(rules)


def _parsed(line: bytes, where: str) -> Rule:
    try:
        raw: Any = json.loads(line.decode())
        if not isinstance(raw, dict):
            raise LabelError(f"{where}: a rule is an object such as {{'class': 'a', 'terms': ['b']}}")
        return Rule.model_validate(raw)
    except UnicodeDecodeError as error:
        raise LabelError(
            f"{where}: this is not UTF-8 ({error.reason} at byte {error.start}): save the file as UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        raise LabelError(f"{where}: this is not JSON: {error}") from error
    except ValidationError as error:
        raise LabelError(f"{where}: {'; '.join(map(_told, error.errors(include_url=False)))}") from error


def _told(mistake: Any) -> str:
    """Return a mistake in a rule; that of a field with its name and value."""
    message = str(mistake["msg"]).removeprefix("Value error, ")
    if not mistake["loc"]:
        return message
    name, value = ".".join(map(str, mistake["loc"])), mistake["input"]
    if mistake["type"] == "missing":
        return f"a rule needs the field {name}"
    if mistake["type"] == "extra_forbidden":
        fields = ", ".join(field.alias or key for key, field in Rule.model_fields.items())
        return f"a rule has no field {name}, its fields are: {fields}"
    return f"{name} is {value!r}: {message[:1].lower()}{message[1:]}"


def rules_hash(rules: Sequence[Rule], column: str, max_weak_rows: int) -> str:
    """Return a hash of everything about rules that decides a head."""
    parts = [*(rule.model_dump_json() for rule in rules), column, str(max_weak_rows), str(CODE_VERSION)]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def rule_classes(rules: Sequence[Rule]) -> list[str]:
    """Return the K classes that rules speak for, sorted."""
    return sorted({rule.label for rule in rules})


def spoken_for(rules: Sequence[Rule], column: str) -> list[pl.Expr]:
    """Return for each of the K classes the largest weight of the rules that match, else 0."""
    text = pl.col(column).cast(pl.String)
    return [
        pl.max_horizontal(
            pl.when(text.str.contains(rule.expression)).then(rule.weight).otherwise(0.0)
            for rule in rules
            if rule.label == label
        ).alias(f"rule_{at}")
        for at, label in enumerate(rule_classes(rules))
    ]


def rule_features(rules: Sequence[Rule], texts: Sequence[str | None] | pl.Series) -> Float32:
    """Return how surely rules speak for each class, shape (N, K); 0 for a text that is missing."""
    frame = pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)})
    speaks_NK = frame.select(spoken_for(rules, "text")).to_numpy()
    return np.asarray(speaks_NK.reshape(len(frame), len(rule_classes(rules))), np.float32)
