"""Every link, command, option, setting, variable, module and file that a document names exists, and guides stay short.

`CHANGELOG.md` and the benchmarks' `LOG.md` are history: they may name things that are gone, so only their links are checked.
"""

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import pytest
import typer
import yaml
from prefect.settings import Settings as PrefectSettings
from pydantic import AliasChoices, BaseModel

from flows.cli.commands import app
from flows.cli.settings import Settable, model_of
from sbert.errors import SettingsError
from sbert.settings import read_settings
from tests.support.documents import Document
from tests.test_layers import PACKAGES

ROOT = Path(__file__).parents[1]
IGNORED_FOLDERS = {"data", "shared", "node_modules", "build", "dist"}
HISTORY = {"CHANGELOG.md", "tests/benchmarks/LOG.md"}
README_BYTES = 9_216
GUIDE_BYTES = 12_288
ROOMS_TO_COME: set[str] = set()
"""Folders that documents may name before they exist: they say where something will go."""
SETTINGS_OF: dict[str, type[BaseModel]] = {command.value: model_of(command) for command in Settable}
SETTINGS_ROOTS: tuple[type[BaseModel], ...] = tuple(SETTINGS_OF.values())
SOURCE_ENDINGS = {".py", ".toml", ".yaml", ".yml", ".env", ".h", ".cpp", ".j2", ".Dockerfile", ""}
PATH = re.compile(r"[\w.\-]+(/[\w.\-]+)*(/|\.(py|md|toml|ya?ml|h|cpp|j2|env|Dockerfile))|Makefile")
DOTTED_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
SNAKE_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")
CALL = re.compile(r"\b([A-Za-z_]\w*)\(")
VARIABLE = re.compile(r"\b(?:SBERT|PREFECT)_[A-Z0-9_]+[A-Z0-9]\b")


def files_below(folder: Path) -> Iterator[Path]:
    """Return the files of the project below a folder, without environments, caches and data."""
    for path in sorted(folder.iterdir()):
        if (
            path.name in IGNORED_FOLDERS
            or path.name == "__pycache__"
            or (path.name.startswith(".") and path.name != ".ci")
        ):
            continue
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


FILES = [path for path in files_below(ROOT) if path != Path(__file__)]
DOCUMENTS = {str(path.relative_to(ROOT)): Document(path) for path in FILES if path.suffix == ".md"}
GUIDES = {name: document for name, document in DOCUMENTS.items() if name not in HISTORY}
MAKE_TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


@cache
def source_text() -> str:
    """Return the text of all source files, in which every name of a document must occur."""
    return "\n".join(path.read_text(encoding="utf-8") for path in FILES if path.suffix in SOURCE_ENDINGS)


@cache
def source_words() -> frozenset[str]:
    """Return all words of the source files."""
    return frozenset(re.findall(r"\w+", source_text()))


@cache
def command_options() -> dict[str, set[str]]:
    """Return the options of each `sbert` command."""
    group: Any = typer.main.get_command(app)
    return {
        name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        | {"--help"}
        for name, command in group.commands.items()
    } | {"": {option for parameter in group.params for option in parameter.opts} | {"--help"}}


@cache
def prefect_variables() -> frozenset[str]:
    """Return the environment variables that Prefect reads."""

    def names(model: type[BaseModel]) -> Iterator[str]:
        prefix = str(model.model_config.get("env_prefix", ""))
        for name, field in model.model_fields.items():
            inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
            for kind in inner:
                if issubclass(kind, BaseModel):
                    yield from names(kind)
            aliases = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else [name]
            for alias in aliases:
                yield str(alias).upper()
            yield f"{prefix}{name}".upper()

    return frozenset(names(PrefectSettings))


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Return the settings classes in a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def is_setting(root: type[BaseModel], path: list[str]) -> bool:
    """Return whether settings have a field at a path such as ``["deletion_limit", "max_drop_share"]``."""
    field = root.model_fields.get(path[0])
    if field is None:
        return False
    return len(path) == 1 or any(is_setting(model, path[1:]) for model in models_in(field.annotation))


def is_importable(name: str) -> bool:
    """Return whether a dotted name is a module, or an attribute of a module."""
    module, _, attribute = name.rpartition(".")
    for whole, part in ((name, None), (module, attribute)):
        try:
            imported = importlib.import_module(whole)
        except ImportError:
            continue
        if part is None or hasattr(imported, part):
            return True
    return False


def arguments_of(document: Document, program: str) -> list[list[str]]:
    """Return the arguments of each command of a program that a document shows."""
    return [words[1:] for words in document.commands if words[0] == program]


def options_in(words: list[str]) -> set[str]:
    """Return the options among the arguments of a command."""
    return {word.split("=")[0] for word in words if re.fullmatch(r"--?[a-z][a-z-]*(=.*)?", word)}


guides = pytest.mark.parametrize("document", GUIDES.values(), ids=GUIDES.keys())


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_every_relative_link_and_anchor_leads_somewhere(document: Document) -> None:
    broken = []
    for link in document.links:
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (document.path.parent / file).resolve() if file else document.path
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in Document(target).anchors):
            broken.append(link)
    assert broken == []


@guides
def test_a_guide_is_short_enough_to_be_read(document: Document) -> None:
    limit = README_BYTES if document.path == ROOT / "README.md" else GUIDE_BYTES
    size = len(document.text.encode())
    assert size <= limit, f"{document.path.relative_to(ROOT)} has {size:,} bytes, the limit is {limit:,}"


@guides
def test_every_sbert_command_exists_with_its_options(document: Document) -> None:
    options_by_command = command_options()
    wrong = []
    for words in arguments_of(document, "sbert"):
        names = [word for word in words if word in options_by_command] if "|" in words else words[:1]
        name = "" if not names or names[0].startswith("-") else names[0]
        if name not in options_by_command:
            wrong.append(f"no command: sbert {' '.join(words)}")
        elif options_in(words) - options_by_command[name]:
            wrong.append(f"no option {options_in(words) - options_by_command[name]}: sbert {' '.join(words)}")
    assert wrong == []


@guides
def test_every_option_that_stands_alone_is_one_of_a_command(document: Document) -> None:
    options = {option for names in command_options().values() for option in names}
    named = {option for span in document.spans if span.startswith("--") for option in options_in(span.split())}
    scripts = set(re.findall(r"[\"'](--[a-z][a-z-]*)[\"']", source_text()))
    assert named - options - scripts == set()


@guides
def test_settings_of_commands_are_accepted(document: Document) -> None:
    for words in arguments_of(document, "sbert"):
        if "--settings" in words[:-1]:
            text = words[words.index("--settings") + 1]
            if text.startswith("{"):
                try:
                    read_settings(SETTINGS_OF[words[0]], text)
                except SettingsError as error:
                    pytest.fail(f"sbert {' '.join(words)}: {error}")
        if "--engine" in words[:-1] and words[words.index("--engine") + 1].startswith("{"):
            read_settings(SETTINGS_OF["engine"], words[words.index("--engine") + 1])


@guides
def test_every_make_target_exists(document: Document) -> None:
    named = {word for words in arguments_of(document, "make") for word in words if re.fullmatch(r"[a-z][a-z-]*", word)}
    assert named - MAKE_TARGETS == set()


@guides
def test_every_python_command_names_a_module_or_a_file_with_its_options(document: Document) -> None:
    wrong = []
    for words in arguments_of(document, "python"):
        if words[:1] == ["-m"] and words[1:] and words[1].split(".")[0] in {"tests", "flows"}:
            file = ROOT / (words[1].replace(".", "/") + ".py")
        elif words[:1] and words[0].endswith(".py"):
            file = ROOT / words[0]
        else:
            continue
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        missing = [option for option in sorted(options_in(words[1:]) - {"-m", "--help"}) if f'"{option}"' not in text]
        if not text or missing:
            wrong.append(f"python {' '.join(words)}: {missing or 'no such file'}")
    assert wrong == []


@guides
def test_every_dotted_name_is_a_setting_a_module_or_a_word_of_the_code(document: Document) -> None:
    wrong = []
    for span in document.spans:
        if not DOTTED_NAME.fullmatch(span) or PATH.fullmatch(span):
            continue
        path = span.split(".")
        roots = [root for root in SETTINGS_ROOTS if path[0] in root.model_fields]
        is_known = any(is_setting(root, path) for root in roots) if roots else span in source_text()
        if not is_known and not is_importable(span):
            wrong.append(span)
    assert wrong == []


@guides
def test_every_name_with_an_underscore_occurs_in_the_code(document: Document) -> None:
    wrong = {span for span in document.spans if SNAKE_NAME.fullmatch(span) and span not in source_words()}
    assert wrong == set()


@guides
def test_every_function_that_is_called_occurs_in_the_code(document: Document) -> None:
    wrong = {name for span in document.spans for name in CALL.findall(span) if name not in source_words()}
    assert wrong == set()


@guides
def test_every_variable_of_ours_and_of_prefect_is_read_by_someone(document: Document) -> None:
    named = set(VARIABLE.findall(document.shell_text))
    ours = {name for name in named if name.startswith("SBERT_")}
    assert ours - source_words() == set()
    assert named - ours - prefect_variables() == set()


@guides
def test_every_file_and_folder_exists(document: Document) -> None:
    wrong = []
    for span in document.spans:
        if not PATH.fullmatch(span) or span in ROOMS_TO_COME:
            continue
        places = [document.path.parent / span, ROOT / span, ROOT / "sbert" / span]
        is_file = any(place.exists() for place in places) or any(str(path).endswith(f"/{span}") for path in FILES)
        is_in_storage = span.endswith("/") and span.strip("/").split("/")[0] in source_words()
        if not is_file and not is_in_storage:
            wrong.append(span)
    assert wrong == []


def test_rooms_to_come_leave_the_list_when_they_are_there() -> None:
    assert [room for room in sorted(ROOMS_TO_COME) if (ROOT / room).exists()] == []


@guides
def test_python_examples_compile_and_import_what_exists(document: Document) -> None:
    for block in document.blocks:
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {"sbert", "flows", "tasks"}:
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_examples_of_the_library_need_nothing_of_prefect() -> None:
    """The packages below `sbert/` do not import flows and tasks; so neither do their guides."""
    imported = {
        (name, (node.module or "").split(".")[0])
        for name, document in GUIDES.items()
        if name.startswith("sbert/")
        for block in document.blocks
        if block.language == "python"
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.ImportFrom)
    }
    assert imported
    assert {(name, package) for name, package in imported if package in {"flows", "tasks", "prefect"}} == set()


def test_the_architecture_guide_lists_the_packages_in_their_order() -> None:
    table = DOCUMENTS["sbert/README.md"].text.split("\n| package | offers |\n", 1)[1].split("\n\n", 1)[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == PACKAGES


def test_the_readme_names_every_deployment_and_no_other() -> None:
    deployed = yaml.safe_load((ROOT / "deployments/prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    table = DOCUMENTS["README.md"].text.split("\n| job | command | deployment |\n", 1)[1].split("\n\n", 1)[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`([a-z-]+)`", row.split("|")[3])}
    always = {deployment["name"] for deployment in deployed}
    where_asked = set(re.findall(r'"([a-z]+-on-publish)"', (ROOT / "deployments/table_deployments.py").read_text()))
    assert where_asked
    assert always <= named <= always | where_asked


def test_the_readme_shows_as_many_hits_as_make_run_prints() -> None:
    asked = re.search(r"sbert search .* -k (\d+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert asked is not None
    hits = re.findall(r"^ 0\.\d{3}  ", DOCUMENTS["README.md"].text, flags=re.MULTILINE)
    assert len(hits) == int(asked[1])


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (test_every_relative_link_and_anchor_leads_somewhere, "[a](nothing.md)"),
        (test_every_relative_link_and_anchor_leads_somewhere, "# Title\n[a](#another-title)"),
        (test_every_sbert_command_exists_with_its_options, "`sbert refesh RAW TABLE`"),
        (test_every_sbert_command_exists_with_its_options, "```\n.venv/bin/sbert refresh RAW TABLE \\\n --kep-columns a\n```"),
        (test_every_option_that_stands_alone_is_one_of_a_command, "`--kep-columns`"),
        (test_settings_of_commands_are_accepted, """```\nsbert retrain L M --settings '{"traning":\n {}}'\n```"""),
        (test_every_make_target_exists, "`make everything`"),
        (test_every_python_command_names_a_module_or_a_file_with_its_options, "`python -m tests.benchmarks.flw`"),
        (test_every_python_command_names_a_module_or_a_file_with_its_options, "`python -m tests.benchmarks.flow --rws 1`"),
        (test_every_dotted_name_is_a_setting_a_module_or_a_word_of_the_code, "`guard.max_dropped_share`"),
        (test_every_name_with_an_underscore_occurs_in_the_code, "`max_dropped_share`"),
        (test_every_function_that_is_called_occurs_in_the_code, "`report.estimate_and_trth()`"),
        (test_every_variable_of_ours_and_of_prefect_is_read_by_someone, "`SBERT_STORAGE_SECNDS`"),
        (test_every_variable_of_ours_and_of_prefect_is_read_by_someone, "`PREFECT_SERVER_API_PRT`"),
        (test_every_file_and_folder_exists, "`sbert/refresh/plans.py`"),
        (test_every_file_and_folder_exists, "`_spltis/`"),
        (test_python_examples_compile_and_import_what_exists, "```python\nfrom sbert.labels.load import load_label\n```"),
    ],
)  # fmt: skip
def test_each_check_fails_on_a_misspelt_name(check: Callable[[Document], None], text: str, tmp_path: Path) -> None:
    path = tmp_path / "guide.md"
    path.write_text(text)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(Document(path))
