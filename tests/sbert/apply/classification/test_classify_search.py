"""A search of head settings as a part of a whole run."""

from pathlib import Path
from typing import Any

import pytest

from sbert.apply.classification import head_search
from sbert.apply.classification.settings import HeadSearchSettings
from sbert.apply.classification.trained import HeadChoice, LabelledRows, train_head
from sbert.errors import SettingsError
from sbert.retrain import study
from tests.sbert.apply.classification.made_labels import (
    QUICK,
    SETTINGS,
    give_vectors,
    rows,
    run,
    write_labels,
)
from tests.support.made_tables import make_version


@pytest.fixture(autouse=True)
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of the labelled texts."""
    give_vectors(monkeypatch)


def test_a_search_that_was_killed_goes_on_and_its_journal_goes_with_the_stored_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, labels, out = tmp_path / "table", write_labels(tmp_path / "labels", range(100)), tmp_path / "out"
    make_version(str(table), {"a.jsonl": rows(0, 20)})
    settings = SETTINGS.with_search(4)
    began: list[HeadChoice] = []

    def train(labelled: LabelledRows, choice: HeadChoice, *others: Any) -> Any:
        began.append(choice)
        if len(began) == 5:
            raise KeyboardInterrupt
        return train_head(labelled, choice, *others)

    monkeypatch.setattr(head_search, "train_head", train)
    with pytest.raises(KeyboardInterrupt):
        run(str(table), labels, out, settings)
    [journal] = out.rglob("search.jsonl")
    assert journal.parent.parent.name == "_heads"
    assert "text" not in journal.read_text()
    report = run(str(table), labels, out, settings)
    assert began[5] == began[4]  # the trial that was running
    head = report.tasks[0].head
    assert head.search is not None
    assert head.search.num_trials == 4
    assert head.fingerprint == journal.parent.name
    assert not journal.exists()
    page = Path(report.report_uri).read_text()
    assert all(f"trial {number}" in page for number in range(1, 5))
    assert page.count(head.search.told()) == 1
    assert "landmarks" in page
    num_began = len(began)
    again = run(str(table), labels, out, settings)
    assert again.tasks[0].head.search == head.search
    assert again.output.num_rows_built == 0
    assert len(began) == num_began  # a stored head is not searched again
    plain = run(str(table), labels, out)
    assert plain.tasks[0].head.fingerprint != head.fingerprint
    assert plain.tasks[0].head.search is None
    assert "landmarks" not in Path(plain.report_uri).read_text()


def test_trials_that_were_stopped_are_in_the_report_with_the_reason(tmp_path: Path) -> None:
    table, labels = tmp_path / "table", write_labels(tmp_path / "labels", range(100))
    make_version(str(table), {"a.jsonl": rows(0, 20)})
    search = HeadSearchSettings(trials=9, max_minutes=1e-6)
    settings = SETTINGS.model_copy(update={"head": QUICK.model_copy(update={"search": search})})
    report = run(str(table), labels, tmp_path / "out", settings)
    page = Path(report.report_uri).read_text()
    assert "stopped: the time limit of 1e-06 minutes" in page
    assert "The search tried 1 of 9 settings beside the grid, until its time was over (1 stopped early)." in page


def test_without_optuna_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, labels = tmp_path / "table", write_labels(tmp_path / "labels", range(100))
    make_version(str(table), {"a.jsonl": rows(0, 20)})
    monkeypatch.setattr(study, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'sbert-prefect\[search\]'"):
        run(str(table), labels, tmp_path / "out", SETTINGS.with_search(3))
    assert not (tmp_path / "out").exists()
