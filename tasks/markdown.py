"""Markdown that is safe to show: tables, and text from outside escaped."""

__all__ = ["escaped", "markdown_table"]


def markdown_table(header: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    """Give a table of two columns, the second to the right."""
    lines = [
        f"| {header[0]} | {header[1]} |",
        "| --- | ---: |",
        *(f"| {left} | {right} |" for left, right in rows),
    ]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Make text safe inside a Markdown table and inside HTML."""
    text = " ".join(text.splitlines()).encode("utf-8", "backslashreplace").decode()
    for raw, safe in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "&#124;"),
        ("`", "&#96;"),
    ):
        text = text.replace(raw, safe)
    return text
