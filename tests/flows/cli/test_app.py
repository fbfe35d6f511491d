"""The application: groups of commands, an example for each, the version."""

import re
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from flows.cli.app import Panel
from flows.cli.commands import COMMANDS, app

NAMES = [module.replace("_", "-") for module in COMMANDS]


def help_of(*words: str, width: str = "100") -> str:
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": width, "TERMINAL_WIDTH": width})
    assert result.exit_code == 0
    return result.stdout


def test_help_shows_the_commands_in_groups_main_jobs_first() -> None:
    shown = help_of()
    places = [shown.index(title) for title in Panel]
    assert places == sorted(places)
    names = re.findall(r"^│ ([a-z][a-z-]*) {2,}", shown, re.MULTILINE)
    assert names == NAMES


@pytest.mark.parametrize("command", NAMES)
def test_each_command_has_an_example_that_its_parser_takes(command: str) -> None:
    shown = " ".join(help_of(command, width="200").split())
    assert f"Example: sbert {command} " in shown


@pytest.mark.parametrize("command", NAMES)
def test_help_shows_names_and_no_python_types_and_no_default_is_lost(command: str) -> None:
    shown = help_of(command, width="120")
    assert re.findall("<[a-z|]+>", shown) == []
    assert "[]" not in shown


def test_the_usage_line_names_arguments_as_the_manual_does() -> None:
    assert "models [OPTIONS] MODELS_URI [ACTION] [VERSION]..." in help_of("models")
    assert "search [OPTIONS] TABLE_URI [QUERY]" in help_of("search")


def test_the_version_is_the_packages() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"sbert {version('sbert-prefect')}\n"
