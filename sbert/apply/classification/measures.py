"""The measures of a head on held-out rows, kept beside the report, so that a night without new labels looks no vectors up.

Held-out texts lie anywhere in a table. A look-up reads the vectors of nearly every shard, so its time grows with the table,
and the same head measures the same on the same rows. The file is ``OUT/_reports/measures.json``, one a task where there
are several. It quotes texts as the page does, and `sbert erase` removes both; the next run measures again.
"""

import hashlib
import json
from collections.abc import Sequence

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.apply.classification.head_kinds import AnyHead, Quality
from sbert.apply.classification.labelled_texts import LabelsInTable
from sbert.apply.classification.rules_effect import RulesEffect
from sbert.errors import MissingError
from sbert.storage.files import join, read_bytes, write_bytes
from sbert.table.delta import Table

__all__ = ["HeadMeasures", "find_measures", "keep_measures", "last_measures", "measures_key"]

CODE_VERSION = 1
"""Raise it when the same head measures otherwise on the same rows."""


class HeadMeasures(BaseModel):
    """What a head does on held-out rows."""

    model_config = ConfigDict(frozen=True)

    quality: Quality | None = Field(description="None without held-out rows.")
    rules: RulesEffect | None = Field(default=None, description="None for a head without rules.")
    in_table: LabelsInTable | None = Field(default=None, description="None in files of earlier releases.")


class _Kept(BaseModel):
    """The file of a task."""

    key: str
    head: str = Field(default="", description="Fingerprint of the head; empty in files of earlier releases.")
    measures: HeadMeasures


def measures_key(head: AnyHead, table: Table, test: pl.DataFrame, group_columns: Sequence[str]) -> str:
    """Return a hash of everything that the measures of a head depend on: the head, the rows, and how vectors are stored."""
    rows = test.select("text", "label", *group_columns).to_dict(as_series=False)
    parts = [str(CODE_VERSION), head.record.fingerprint, table.encoder.model_dump_json(), json.dumps(rows, default=str)]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def find_measures(out_uri: str, task: str, key: str) -> HeadMeasures | None:
    """Return the measures that an earlier run kept; None where there are none of this key, or they cannot be read."""
    kept = _kept(out_uri, task)
    return kept.measures if kept is not None and kept.key == key else None


def last_measures(out_uri: str, task: str, head: str) -> HeadMeasures | None:
    """Return the measures of a head, by its fingerprint, that an earlier run kept last; None where those are of another."""
    kept = _kept(out_uri, task)
    return kept.measures if kept is not None and kept.head == head else None


def _kept(out_uri: str, task: str) -> _Kept | None:
    try:
        return _Kept.model_validate_json(read_bytes(_uri(out_uri, task)))
    except (MissingError, ValidationError):
        return None


def keep_measures(out_uri: str, task: str, key: str, head: str, measures: HeadMeasures) -> None:
    """Keep measures of a head, named by its fingerprint, for the next run, in the place of those before."""
    write_bytes(_uri(out_uri, task), _Kept(key=key, head=head, measures=measures).model_dump_json().encode())


def _uri(out_uri: str, task: str) -> str:
    """Return the file of a task, whose name is that of a column and may hold any character."""
    name = f"measures_{hashlib.sha256(task.encode()).hexdigest()[:16]}.json" if task else "measures.json"
    return join(out_uri, "_reports", name)
