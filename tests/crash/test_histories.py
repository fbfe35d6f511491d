"""Random histories of a table: it always equals a table built from scratch, and no known text is encoded again.

The state machine keeps a model of the design: the splits of the table, the finished splits, and so the texts whose vectors are known.
Its steps change, rename and delete objects, switch settings and encoders, kill runs, and roll back, compact and vacuum the table.
"""

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import SettingsError, TableError
from sbert.refresh.refresh_report import RefreshReport
from sbert.rows.cleaning import CleaningSettings, clean_texts, hash_texts
from sbert.table.compaction import compact_table
from sbert.table.delta import Table
from sbert.table.rollback import roll_back
from sbert.table.shards import ShardSettings
from sbert.table.split_records import SPLITS_FOLDER
from sbert.table.vacuum import vacuum_table
from sbert.table.verify import verify_table
from tests.crash import corpora
from tests.crash.points import Strike, watched
from tests.support.refreshing import refreshed
from tests.support.tiny_models import save_tiny

NAMES = tuple(f"{letter}.jsonl" for letter in "abcdef")
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
"""A simulated death leaves files open, as a real one does; only then the operating system closes them."""
TOLERANCES = {"float32": 1e-5, "int8": 8e-3}
"""For int8, one step of the scale, which is at most 1/127."""

Texts = st.lists(st.integers(0, 40), min_size=1, max_size=12)
Kinds = st.sampled_from(["write", "write", "edit", "edit", "delete", "rename", "model", "cleaning", "columns"])
Changes = st.lists(st.tuples(Kinds, st.integers(0, 20), Texts), max_size=4)
POINTS_PER_SPLIT = 20
"""Approximate number of writes for a small split."""


class Killed(BaseException):
    """Stands for the death of the process: nothing is written after it."""


@dataclass(frozen=True)
class Split:
    """The facts that decide the rows of a split: name, version, columns, cleaning, encoder. Every object is a split here."""

    name: str
    version: int
    masks: bool
    keeps: bool
    model: int
    """Number of the encoder modulo 2; numbers from 2 store int8."""


@dataclass(frozen=True)
class Version:
    """The splits, columns and encoder of one version of the table."""

    splits: frozenset[Split] = frozenset()
    keeps: bool = False
    model: int = -1


@dataclass
class World:
    """Encoders and their vectors, made once for all histories."""

    models: tuple[str, str]
    encoders: tuple[SentenceEncoder, SentenceEncoder]
    vectors: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)

    def vector(self, model: int, text: str) -> np.ndarray:
        """Return the float32 vector of a text, computed alone."""
        model %= 2
        if (model, text) not in self.vectors:
            self.vectors[model, text] = self.encoders[model].encode([text])[0]
        return self.vectors[model, text]


_worlds: list[World] = []


def world() -> World:
    if not _worlds:
        folder = Path(tempfile.mkdtemp(prefix="sbert-histories-"))
        models = (save_tiny(folder / "0"), save_tiny(folder / "1", seed=1))
        _worlds.append(World(models, tuple(SentenceEncoder.from_pretrained(model) for model in models)))  # type: ignore[arg-type]
    return _worlds[0]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Run the stages one after the other, so that a history can be repeated exactly; remove the models at the end."""
    monkeypatch.setattr("sbert.refresh.stream.prefetch", lambda items, _: (item for item in items))
    caplog.set_level("ERROR", logger="sbert")
    yield
    gc.collect()  # closes files that a death left open, while their warnings are ignored
    while _worlds:
        shutil.rmtree(Path(_worlds.pop().models[0]).parent)


class Histories(RuleBasedStateMachine):
    """One table and its source."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="sbert-history-"))
        self.raw, self.table = self.folder / "raw", self.folder / "table"
        self.raw.mkdir()
        self.clock = 1_000_000_000
        self.contents: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self.objects: dict[str, int] = {}
        self.masks, self.keeps, self.model = False, False, 0
        self.versions: list[Version] = []
        self.splits_by_record: dict[str, Split] = {}

    def teardown(self) -> None:
        if self.versions:
            assert verify_table(str(self.table)).findings == []
        if self.versions and self.versions[-1].splits == self.wanted():
            scratch = self.folder / "scratch"
            self.refresh(scratch)
            corpora.assert_same(
                corpora.contents(str(self.table)), corpora.contents(str(scratch)), TOLERANCES[precision_of(self.model)]
            )
        shutil.rmtree(self.folder)

    # Changes of the source and of settings, before a night.

    @initialize(objects=st.lists(Texts, min_size=2, max_size=4))
    def begin(self, objects: list[list[int]]) -> None:
        for name, texts in zip(NAMES, objects, strict=False):
            self.write(name, texts)

    def change(self, kind: str, which: int, texts: list[int]) -> None:
        name = sorted(self.objects)[which % len(self.objects)]
        lines = self.contents[name, self.objects[name]]
        match kind:
            case "write":
                self.write(NAMES[which % len(NAMES)], texts)
            case "edit":
                self.write(name, [*(line["number"] for line in lines[1:]), texts[0]])
            case "delete" if len(self.objects) > 1:
                (self.raw / name).unlink()
                del self.objects[name]
            case "rename":
                to = NAMES[texts[0] % len(NAMES)]
                (self.raw / name).rename(self.raw / to)
                self.objects[to] = self.objects.pop(name)
                self.contents[to, self.objects[to]] = lines
            case "model":
                self.model = (self.model + 1 + texts[0] % 3) % 4
            case "cleaning":
                self.masks = not self.masks
            case "columns":
                self.keeps = not self.keeps

    # Steps that change the table.

    @rule(changes=Changes)
    def night(self, changes: list[tuple[str, int, list[int]]]) -> None:
        for change in changes:
            self.change(*change)
        expected = self.num_unknown()
        report = self.refresh(self.table)
        assert report.num_texts_encoded == expected
        self.published(report.version)

    @rule(changes=Changes, moment=st.floats(0, 1), after=st.booleans())
    def night_with_a_kill(self, changes: list[tuple[str, int, list[int]]], moment: float, after: bool) -> None:
        for change in changes:
            self.change(*change)
        now = self.versions[-1].splits if self.versions else frozenset()
        point = int(moment * (POINTS_PER_SPLIT * len(self.wanted() - now) + 2))
        before, expected = len(self.versions), self.num_unknown()

        def die() -> None:
            raise Killed

        try:
            with watched(Strike(point, "after" if after else "before"), die):
                report = self.refresh(self.table)
        except Killed:
            self.note_records()
            if (self.table / "_delta_log").exists() and Table.open(str(self.table)).version >= before:
                self.published(before)
        else:
            assert report.num_texts_encoded == expected
            self.published(report.version)

    @precondition(lambda self: len(self.versions) > 1)
    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        wanted = data.draw(st.integers(0, len(self.versions) - 2))
        now, then = (Table.open(str(self.table), version) for version in (None, wanted))
        names = {shard.name for shard in then.shards()}
        if not all((self.table / name).exists() for name in names):
            with pytest.raises(TableError, match="vacuumed"):
                roll_back(str(self.table), wanted)
            return
        if names == {shard.name for shard in now.shards()} and now.encoder == then.encoder:
            with pytest.raises(SettingsError, match="already"):
                roll_back(str(self.table), wanted)
            return
        assert roll_back(str(self.table), wanted).version == len(self.versions)
        self.versions.append(self.versions[wanted])

    @precondition(lambda self: self.versions)
    @rule(shard_rows=st.sampled_from([6, 12, 1000]))
    def compact(self, shard_rows: int) -> None:
        version = compact_table(str(self.table), ShardSettings(shard_rows=shard_rows, row_group_rows=4)).version
        if version == len(self.versions):
            self.versions.append(self.versions[-1])

    @precondition(lambda self: self.versions)
    @rule()
    def vacuum(self) -> None:
        vacuum_table(str(self.table), retention_hours=0, apply=True)

    # Invariants.

    @invariant()
    def table_equals_what_it_should(self) -> None:
        if not self.versions:
            assert not (self.table / "_delta_log").exists()
            return
        version = self.versions[-1]
        assert Table.open(str(self.table)).version == len(self.versions) - 1
        rows = corpora.contents(str(self.table))
        expected = [
            row for split in sorted(version.splits, key=lambda split: split.name) for row in self.rows_of(split)
        ]
        columns = ["source", "id", "text_hash", *(["kind"] if version.keeps else [])]
        assert sorted(set(rows.columns) - {"embedding", "scale", "num_tokens", "truncated"}) == sorted(columns)
        frame = pl.DataFrame(expected, schema={**{name: rows.schema[name] for name in columns}, "text": pl.String})
        frame = frame.sort("source", "id")
        assert rows.select(columns).equals(frame.select(columns))
        vectors = np.stack([world().vector(version.model, text) for text in frame["text"]])
        precision = precision_of(version.model)
        assert ("scale" in rows.columns) == (precision == "int8")
        np.testing.assert_allclose(corpora.matrix(rows), vectors, atol=TOLERANCES[precision], rtol=0)

    # The model of the design.

    def write(self, name: str, numbers: list[int]) -> None:
        self.clock += 1
        lines = [
            {"id": f"{at}", "text": text_of(number), "kind": "odd" if number % 2 else "even", "number": number}
            for at, number in enumerate(numbers)
        ]
        path = self.raw / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(path, (self.clock, self.clock))
        self.objects[name] = self.clock
        self.contents[name, self.clock] = lines

    def wanted(self) -> frozenset[Split]:
        return frozenset(
            Split(name, version, self.masks, self.keeps, self.model) for name, version in self.objects.items()
        )

    def finished(self) -> set[Split]:
        return {self.splits_by_record[name] for name in corpora.records(str(self.table)) if self.is_whole(name)}

    def is_whole(self, record: str) -> bool:
        split_record = json.loads((self.table / SPLITS_FOLDER / f"{record}.json").read_text())
        return all((self.table / shard["name"]).exists() for shard in split_record["shards"])

    def num_unknown(self) -> int:
        """Return how many texts a refresh must encode according to the design."""
        now = self.versions[-1] if self.versions else Version()
        resumed = (self.wanted() - now.splits) & self.finished() if self.table.exists() else set()
        embedded = self.texts_of(resumed) | (self.texts_of(now.splits) if now.model == self.model else set())
        return len(self.texts_of(self.wanted() - now.splits - resumed) - embedded)

    def texts_of(self, splits: set[Split] | frozenset[Split]) -> set[str]:
        return {row["text"] for split in splits for row in self.rows_of(split)}

    def rows_of(self, split: Split) -> list[dict[str, Any]]:
        lines = self.contents[split.name, split.version]
        cleaned = clean_texts(pl.Series([line["text"] for line in lines]), CleaningSettings(mask_emails=split.masks))
        rows = [
            {"source": str(self.raw / split.name), "id": line["id"], "text": text, "text_hash": text_hash}
            for line, text, text_hash in zip(lines, cleaned, hash_texts(cleaned), strict=True)
        ]
        return [{**row, "kind": line["kind"]} if split.keeps else row for row, line in zip(rows, lines, strict=True)]

    def refresh(self, table: Path) -> RefreshReport:
        named_settings = {
            "splits": {"pack_below_bytes": 0},
            "reading": {"block_rows": 5},
            "shards": {"shard_rows": 6, "row_group_rows": 4},
            "cleaning": {"mask_emails": self.masks},
            "source": {"keep_columns": ["kind"]} if self.keeps else {},
            "keep_no_columns": not self.keeps,
            "deletion_limit": {"max_drop_share": 1},
            "encoding": {"precision": precision_of(self.model), "min_recall": 0},
        }
        return refreshed(self.raw, table, world().models[self.model % 2], named_settings).report

    def note_records(self) -> None:
        """Record the splits that the last run finished."""
        by_uri = {str(self.raw / split.name): split for split in self.wanted()}
        for name in corpora.records(str(self.table)) - self.splits_by_record.keys() if self.table.exists() else ():
            split_record = json.loads((self.table / SPLITS_FOLDER / f"{name}.json").read_text())
            self.splits_by_record[name] = by_uri[split_record["spans"][0]["uri"]]

    def published(self, version: int) -> None:
        self.note_records()
        if version == len(self.versions):
            self.versions.append(Version(self.wanted(), self.keeps, self.model))
        assert version == len(self.versions) - 1
        assert self.versions[-1] == Version(self.wanted(), self.keeps, self.model)


def precision_of(model: int) -> str:
    return "int8" if model >= 2 else "float32"


def text_of(number: int) -> str:
    """Return a text; texts with an e-mail address can become equal when cleaning masks the address."""
    return f"mail {number}@example.org {corpora.text(number // 4)}" if number % 4 == 0 else corpora.text(number)


@contextmanager
def hypothesis_profile(examples: int, steps: int) -> Iterator[Any]:
    yield settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def test_a_table_with_a_short_random_history_equals_a_rebuild() -> None:
    with hypothesis_profile(examples=6, steps=12) as profile:
        run_state_machine_as_test(Histories, settings=profile)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_table_with_a_long_random_history_equals_a_rebuild() -> None:
    with hypothesis_profile(examples=60, steps=30) as profile:
        run_state_machine_as_test(Histories, settings=profile)
