"""``sbert settings`` lists what ``--settings`` takes."""

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from flows.cli.commands import app
from flows.cli.settings import MODELS, Settable, model_of
from sbert.refresh.job import RefreshSettings


def listed(command: str) -> dict[str, dict[str, Any]]:
    result = CliRunner().invoke(app, ["settings", command, "--json"])
    assert result.exit_code == 0, result.output
    return {item["name"]: item for item in json.loads(result.stdout)["settings"]}


def commands_with_settings() -> set[str]:
    group: Any = typer.main.get_command(app)
    return {
        name for name, command in group.commands.items() if any("--settings" in item.opts for item in command.params)
    }


def test_nested_settings_have_their_full_name_type_default_and_meaning() -> None:
    shown = listed("refresh")["source.text_column"]
    assert shown.pop("meaning").startswith("Column that holds the text")
    assert shown == {"name": "source.text_column", "type": "text", "default": "text"}


@pytest.mark.parametrize("command", list(Settable))
def test_every_setting_has_a_meaning(command: str) -> None:
    settings = listed(command)
    assert len(settings) >= 4
    assert [name for name, item in settings.items() if not item["meaning"]] == []


def test_every_command_with_settings_has_a_list_of_them() -> None:
    assert {"refresh", "retrain", "monitor"} <= commands_with_settings()
    assert commands_with_settings() - set(Settable) == set()
    assert MODELS.keys() == set(Settable)


def test_every_listed_name_can_be_set() -> None:
    for name, item in listed("refresh").items():
        if item["default"] == "(required)" or "[]" in name:
            continue
        value = item["default"]
        for part in reversed(name.split(".")):
            value = {part: value}
        RefreshSettings.model_validate_json(json.dumps(value))


@pytest.mark.parametrize("command", sorted(Settable))
def test_the_example_is_one_that_the_command_takes(command: str) -> None:
    shown = " ".join(CliRunner().invoke(app, ["settings", command]).stdout.split())
    has_option = command in commands_with_settings()
    assert ("--settings '" in shown) == has_option
    if has_option:
        model_of(Settable(command)).model_validate_json(shown.rpartition("--settings '")[2].rpartition("'")[0])


@pytest.mark.parametrize("width", [60, 80])
def test_people_see_name_and_default_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    shown = CliRunner().invoke(app, ["settings", "engine"]).stdout
    assert "kind local or ray or dask, default local" in " ".join(shown.split())
    assert max(len(line.rstrip()) for line in shown.splitlines()[:-1]) <= width
