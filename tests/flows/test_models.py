"""``sbert models``: list, compare, roll back; and how it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.registry.pointer import PointerReason
from sbert.registry.store import Registry
from sbert.registry.version_record import VersionRecord
from tests.support.tiny_models import save_tiny


def evaluation(spearman: float, fingerprint: str) -> dict[str, Any]:
    value = {"value": spearman, "low": spearman - 0.1, "high": spearman + 0.1, "num_rows": 50}
    return {"sets": {"held-out": {"name": "held-out", "fingerprint": fingerprint, "metrics": {"spearman": value}}}}


@pytest.fixture
def models_uri(tmp_path: Path) -> str:
    folder = Path(save_tiny(tmp_path / "tiny"))
    registry = Registry(str(tmp_path / "models"))
    for number, (promoted, fingerprint) in enumerate([(True, "rows"), (True, "rows"), (False, "others")]):
        primary = {"metric": "spearman", "before": 0.5, "after": 0.6}
        decision = {"promoted": promoted, "reasons": ["[bold]because"], "primary": primary}
        record = VersionRecord(
            version="", encoder_fingerprint=f"{number}" * 64, dim=32, base="base", run_id="run",
            decision=decision if number else None, after=evaluation(0.5 + number / 10, fingerprint),
        )  # fmt: skip
        stored = registry.add(record, folder)
        if promoted:
            action = PointerReason.PROMOTION if number else PointerReason.FIRST
            registry.promote(
                stored.version, current=registry.production(), reason="better", run_id="run", action=action
            )
    return registry.uri


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["models", *arguments])


def answer(*arguments: str, exit_code: int = 0) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def test_the_list_shows_the_state_of_each_version_and_the_history(models_uri: str) -> None:
    listing = answer(models_uri)
    assert listing["production"] == "v0002"
    first, promoted, refused = listing["versions"]
    assert [line["version"] for line in listing["versions"]] == ["v0001", "v0002", "v0003"]
    assert first["accepted"]
    assert not first["production"]
    assert promoted["accepted"]
    assert promoted["production"]
    assert promoted["after"] == 0.6
    assert not refused["accepted"]
    assert not refused["production"]
    assert [entry["action"] for entry in listing["history"]] == ["first", "promotion"]
    shown = run(models_uri).stdout
    assert "production" in shown
    assert "refused" in shown
    assert "[bold]" in shown.replace("\n", "")  # text is shown as it is


def test_compare_says_whether_rows_are_the_same(models_uri: str) -> None:
    [line] = answer(models_uri, "compare", "v0001", "v0002")["metrics"]
    assert line["left"] == 0.5
    assert line["right"] == 0.6
    assert line["same_rows"]
    [line] = answer(models_uri, "compare", "v0001", "v0003")["metrics"]
    assert line["same_rows"] is False
    assert "0.6000" in run(models_uri, "compare", "v0001", "v0002").stdout


def test_rollback_goes_to_the_version_before_or_to_a_named_one(models_uri: str) -> None:
    assert answer(models_uri, "rollback")["version"] == "v0001"
    assert answer(models_uri, "rollback", "--version", "v0003")["version"] == "v0003"
    assert answer(models_uri, "rollback", "v0002")["previous"] == "v0003"
    assert answer(models_uri)["production"] == "v0002"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "v0001"], "compare needs two versions, but got 1: name two"),
        (["compare", "v0001", "v0009"], "no version v0009; the versions are: v0001, v0002, v0003"),
        (["rollback", "v0001", "v0003"], "name it once"),
        (["list", "v0001"], "list takes no versions"),
    ],
)
def test_wrong_arguments_are_refused_with_the_remedy(models_uri: str, arguments: list[str], message: str) -> None:
    assert message in answer(models_uri, *arguments, exit_code=1)["error"]["message"]


def test_a_folder_that_is_not_there_or_is_no_registry_is_an_error(tmp_path: Path) -> None:
    missing = run(str(tmp_path / "nowhere"))
    assert missing.exit_code == 1
    assert "there is no folder or model registry here" in missing.output
    (tmp_path / "table" / "_delta_log").mkdir(parents=True)
    (tmp_path / "table" / "_runs").mkdir()
    (tmp_path / "table" / "part-0.parquet").touch()
    other = run(str(tmp_path / "table"))
    assert other.exit_code == 1
    assert "this folder is no model registry (2 other entries, first: _delta_log)" in other.output
    (tmp_path / "file").touch()
    assert run(str(tmp_path / "file")).exit_code == 1


def test_an_empty_folder_is_a_registry_that_has_yet_to_begin(tmp_path: Path) -> None:
    assert answer(str(tmp_path))["versions"] == []
    result = run(str(tmp_path))
    assert "no versions yet" in result.output
