"""Dependencies point one way: deployments → flows → tasks → sbert. The library never imports Prefect."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sbert

ROOT = Path(__file__).parent.parent
LAYERS = ("sbert", "tasks", "flows", "deployments")
"""A layer may import itself and the layers before it."""
PACKAGES = (
    "storage",
    "runtime",
    "pages",
    "rows",
    "source",
    "vectors",
    "registry",
    "encoder",
    "table",
    "index",
    "refresh",
    "derived",
    "explanation",
    "labels",
    "evaluation",
    "training",
    "retrain",
    "suggest",
    "sync",
    "erase",
    "apply",
)
"""The packages of `sbert`, from the ground up. A package may import itself and the packages before it."""
GROUND = {"sbert.counted", "sbert.errors", "sbert.settings"}
"""Modules that every package may import."""


def imported_by(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(path.relative_to(ROOT).parts[0] if node.level else str(node.module).split(".")[0])
    return names


def modules_imported_by(path: Path) -> set[str]:
    """Return the modules of `sbert` that a file imports from, anywhere in it."""
    modules = [
        str(node.module) for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)
    ]
    return {module for module in modules if module.startswith("sbert.")}


def module_of(path: Path) -> str:
    """Return the dotted name of a module of `sbert`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def files_of(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_itself_and_those_below(layer: str) -> None:
    above = set(LAYERS[LAYERS.index(layer) + 1 :]) | {"tests"}
    wrong = {str(path.relative_to(ROOT)): imported_by(path) & above for path in files_of(layer)}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_every_package_of_the_library_has_a_place_in_the_order() -> None:
    folders = {path.parent.name for path in (ROOT / "sbert").glob("*/__init__.py")}
    assert folders == set(PACKAGES)
    assert {module_of(path) for path in (ROOT / "sbert").glob("*.py")} == GROUND | {"sbert"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_itself_and_those_before_it(package: str) -> None:
    allowed = {f"sbert.{name}" for name in PACKAGES[: PACKAGES.index(package) + 1]} | GROUND
    wrong = {
        module_of(path): sorted(
            name for name in modules_imported_by(path) if ".".join(name.split(".")[:2]) not in allowed
        )
        for path in (ROOT / "sbert" / package).rglob("*.py")
    }
    assert {module: names for module, names in wrong.items() if names} == {}


def test_applications_share_modules_beside_them_and_import_no_other() -> None:
    allowed = {("monitoring", "classification")}  # shares are corrected by the errors of the head
    applications = {path.parent.name for path in (ROOT / "sbert/apply").glob("*/__init__.py")}
    wrong = [
        f"{module_of(path)} imports {module}"
        for name in applications
        for path in (ROOT / "sbert/apply" / name).rglob("*.py")
        for module in modules_imported_by(path)
        if module.startswith("sbert.apply.")
        and (other := module.split(".")[2]) in applications - {name}
        and (name, other) not in allowed
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module_of(path): modules_imported_by(path) for path in files_of("sbert")}
    circles = []
    for start, imported in graph.items():
        reached, waiting = set(), list(imported)
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += graph.get(module, ())
        if start in reached:
            circles.append(start)
    assert circles == []


def names_imported_from(path: Path) -> set[tuple[str, str]]:
    """Return module and name of everything that a file imports from a module."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    return {(str(node.module), alias.name) for node in nodes for alias in node.names}


def test_names_are_imported_from_where_they_are_defined() -> None:
    files = [path for layer in LAYERS for path in files_of(layer)]
    borrowed = {module_of(path): {name for _, name in names_imported_from(path)} for path in files}
    faces = {"sbert", "flows.cli.commands"}  # the library's public names; the application with all its commands
    wrong = [
        f"{module_of(path)}: {name} from {module}"
        for path in files
        for module, name in names_imported_from(path)
        if name in borrowed.get(module, ()) and module not in faces and f"{module}.{name}" not in borrowed
    ]
    assert wrong == []


def test_the_library_never_imports_prefect() -> None:
    files = files_of("sbert")
    assert len(files) > 20
    assert [str(path) for path in files if any(name.startswith("prefect") for name in imported_by(path))] == []


def test_the_library_runs_where_prefect_is_not_installed() -> None:
    script = (
        "import sys, pkgutil, importlib\n"
        "class Nothing:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0].startswith('prefect'): raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Nothing())\n"
        "import sbert\n"
        "for name in sbert.__all__: getattr(sbert, name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_public_names_can_be_imported_from_the_package() -> None:
    assert set(sbert.__all__) >= {
        "ComputeDtype",
        "EncodingSettings",
        "RefreshJob",
        "RefreshSettings",
        "SentenceEncoder",
        "Table",
        "TruncationPolicy",
        "make_plan",
        "search_table",
    }
    assert all(getattr(sbert, name) is not None for name in sbert.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sbert.nothing


@pytest.mark.parametrize("layer", ["sbert", "tasks", "flows"])
def test_the_public_names_of_a_module_are_unique_and_not_private(layer: str) -> None:
    for path in files_of(layer):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        declared = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        ]
        for names in declared:
            assert not [name for name in names if name.startswith("_")], path
            assert len(set(names)) == len(names), path


def test_no_module_of_flows_hides_a_package() -> None:
    """Prefect's script loader puts ``flows/`` first on the path, so a file named like a package would hide it."""
    assert not {"sbert.py", "tasks.py", "flows.py", "prefect.py"} & {path.name for path in (ROOT / "flows").iterdir()}
