"""Markdown for artifacts, from the templates beside this file. Every value that a template shows is escaped."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sbert.counted import counted

__all__ = ["escaped", "markdown_table", "render", "report_markdown"]

SPECIAL = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "|": "&#124;",
        "`": "&#96;",
        "[": "&#91;",
        "]": "&#93;",
    }
)
"""Characters that would end a table's cell, or begin HTML, code or a link."""


def render(template: str, **values: Any) -> str:
    """Return a template filled in; an undefined value is an error."""
    return _environment().get_template(template).render(**values).strip() + "\n"


def escaped(text: str) -> str:
    """Return text as one line that is safe inside a Markdown table and inside HTML."""
    one_line = " ".join(text.splitlines()).encode("utf-8", "backslashreplace").decode()
    return one_line.translate(SPECIAL)


def markdown_table(header: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    """Return a table of two columns, the second to the right; the caller escapes what comes from outside."""
    lines = [f"| {left} | {right} |" for left, right in rows]
    return "\n".join([f"| {header[0]} | {header[1]} |", "| --- | ---: |", *lines])


def report_markdown(title: str, uri: str, properties: Sequence[tuple[str, str]], *parts: str) -> str:
    """Return a report: a heading with a location, a table of properties, and further parts; empty ones are left out."""
    heading = f"# {title} `{escaped(uri)}`"
    return "\n\n".join([heading, markdown_table(("", ""), properties), *filter(None, parts)])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tasks"),
        undefined=StrictUndefined,
        finalize=_safe,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  (`finalize` escapes for Markdown as well as for HTML)
    )
    environment.filters["count"] = lambda number: "" if number is None else f"{number:,}"
    environment.filters["amount"] = _amount
    environment.filters["counted"] = counted
    environment.filters["mebibytes"] = lambda number: f"{_amount(number / 2**20)} MiB"
    return environment


def _amount(amount: float) -> str:
    """Return three digits of a number, or all digits before the point."""
    return f"{amount:,.0f}" if abs(amount) >= 100 else f"{amount:.3g}"


def _safe(value: Any) -> str:
    return str(value) if isinstance(value, Markup) else escaped(str(value))
