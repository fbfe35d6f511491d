"""The sample corpus: the documentation of Python's own standard library, on every machine and without a licence question.

Introspection imports some 200 modules, so it runs in a Python process of its own: ``python -m sbert.source.sample``
prints the documents as JSON Lines.
"""

import contextlib
import importlib
import inspect
import io
import json
import pkgutil
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from sbert.errors import SbertError
from sbert.storage.files import join, normalize_uri, write_bytes

__all__ = ["module_documents", "write_sample"]

SKIPPED_MODULES = frozenset(
    {
        "antigravity",
        "this",
        "idlelib",
        "turtledemo",
        "turtle",
        "lib2to3",
        "test",
        "tkinter",
        "ensurepip",
        "__main__",
        "distutils",
    }
)
"""Modules that open windows or browsers, print, or are tests."""
PRIVATE_HOMES = frozenset({"posix", "nt", "builtins"})
"""Modules whose contents are documented under another name."""
MIN_DOC_CHARACTERS = 20
TIMEOUT_SECONDS = 300


def write_sample(raw_uri: str) -> int:
    """Write the sample corpus as JSON Lines, and return the number of documents.

    Args:
        raw_uri: a folder, which gets one object for modules, classes, functions and methods each, or one ``.jsonl``.

    Raises:
        StorageError: when the place cannot be written.
    """
    documents = _collect()
    uri = normalize_uri(raw_uri)
    if uri.endswith(".jsonl"):
        write_bytes(uri, _lines(documents))
        return len(documents)
    by_kind: dict[str, list[dict[str, str]]] = defaultdict(list)
    for document in documents:
        by_kind[document["kind"]].append(document)
    for kind, members in sorted(by_kind.items()):
        write_bytes(join(uri, f"python-{kind}.jsonl"), _lines(members))
    return len(documents)


def module_documents(names: Iterable[str]) -> list[dict[str, str]]:
    """Return the documents of some modules of the standard library, by id, in this process; modules that fail are left out.

    The modules are imported: name only modules that do nothing else.
    """
    modules = [module for name in names if (module := _import(name)) is not None]
    documents = {document["id"]: document for document in _documents(modules)}
    return [documents[identity] for identity in sorted(documents)]


def _lines(documents: list[dict[str, str]]) -> bytes:
    return b"".join(
        json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for document in documents
    )


def _collect() -> list[dict[str, str]]:
    """Introspect in another process, whose imports then cannot disturb this one."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "sbert.source.sample"],
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise SbertError(f"the sample corpus could not be collected: {done.stderr.decode(errors='replace')[-500:]}")
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def _modules() -> Iterator[ModuleType]:
    """Import the public modules of the standard library, packages with their public parts."""
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in SKIPPED_MODULES:
            continue
        module = _import(name)
        if module is None:
            continue
        yield module
        for part in pkgutil.walk_packages(getattr(module, "__path__", []), f"{name}."):
            parts = part.name.split(".")
            if any(piece.startswith("_") or piece in {"test", "tests"} for piece in parts):
                continue
            inner = _import(part.name)
            if inner is not None:
                yield inner


def _import(name: str) -> ModuleType | None:
    with (
        contextlib.suppress(BaseException),
        contextlib.redirect_stdout(io.StringIO()),
    ):  # whatever a module may do
        return importlib.import_module(name)
    return None


def _documents(modules: Iterable[ModuleType]) -> Iterator[dict[str, str]]:
    """Return a document for every public module, class, function and method that has documentation of its own."""
    seen: set[int] = set()
    for module in modules:
        name = module.__name__
        yield from _document(name, "module", name, "", inspect.getdoc(module))
        public = getattr(module, "__all__", None) or [key for key in vars(module) if not key.startswith("_")]
        for key in sorted(set(public)):
            value = getattr(module, key, None)
            if id(value) in seen or _belongs_elsewhere(value, name):
                continue
            seen.add(id(value))
            if inspect.isclass(value):
                yield from _document(
                    f"{name}.{key}", "class", name, key, inspect.getdoc(value) if value.__doc__ else None
                )
                yield from _methods(name, key, value)
            elif inspect.isroutine(value):
                yield from _document(f"{name}.{key}", "function", name, key + _signature(value), inspect.getdoc(value))


def _belongs_elsewhere(value: object, name: str) -> bool:
    """Return whether an object that a module shows is at home in another public module, where it is documented."""
    home = getattr(value, "__module__", None) or name
    if home.lstrip("_") == name or home in PRIVATE_HOMES or home.startswith("_"):
        return False
    return home in sys.modules and not any(part.startswith("_") for part in home.split("."))


def _methods(module: str, owner: str, cls: type) -> Iterator[dict[str, str]]:
    for key in sorted(vars(cls)):
        if key.startswith("_"):
            continue
        value = inspect.getattr_static(cls, key)
        member = getattr(value, "__func__", value)
        if isinstance(value, property) or inspect.isroutine(member) or inspect.ismethoddescriptor(member):
            title = f"{owner}.{key}" + ("" if isinstance(value, property) else _signature(member))
            yield from _document(f"{module}.{owner}.{key}", "method", module, title, getattr(member, "__doc__", None))


class _Unshown:
    """Stands for a default value that is not part of a document."""

    def __repr__(self) -> str:
        return "..."


def _signature(value: Any) -> str:
    """Return the signature; of default values only constants and classes are shown.

    The text of another object can hold the environment of this process (`os.environ`), or an address.
    """
    try:
        signature = inspect.signature(value)
        parameters = [
            one if _is_constant(one.default) else one.replace(default=_Unshown())
            for one in signature.parameters.values()
        ]
        return str(signature.replace(parameters=parameters))
    except Exception:  # noqa: BLE001  (signatures of some C functions evaluate names that are not there)
        return "()"


def _is_constant(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    return value is None or isinstance(value, type | bool | int | float | str | bytes)


def _document(identity: str, kind: str, module: str, title: str, doc: str | None) -> Iterator[dict[str, str]]:
    doc = inspect.cleandoc(doc or "")
    if len(doc) < MIN_DOC_CHARACTERS:
        return
    text = f"{identity}: {doc}" if kind == "module" else f"{module}.{title}\n{doc}"
    yield {"id": identity, "text": text, "module": module, "kind": kind}


def _print_documents() -> None:
    """Print every document once, by id."""
    warnings.simplefilter("ignore")
    documents = {document["id"]: document for document in _documents(_modules())}
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    for identity in sorted(documents):
        sys.stdout.write(json.dumps(documents[identity]) + "\n")


if __name__ == "__main__":
    _print_documents()
