"""Artifacts' Markdown: what comes from outside cannot break a table, be HTML or be a link."""

import pytest

from tasks.markdown import escaped, render, report_markdown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", "a&#124;b"),
        ("<b>", "&lt;b&gt;"),
        ("[x](javascript:y)", "&#91;x&#93;(javascript:y)"),
        ("`code`", "&#96;code&#96;"),
        ("two\nlines", "two lines"),
        ("empty_text", "empty_text"),
    ],
)
def test_text_is_one_safe_line(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_every_value_of_a_template_is_escaped() -> None:
    names = ("run_name", "flow_name", "ending", "ended", "message", "reason", "next_steps")
    shown = render("ending.md.j2", **{name: f"<{name}>" for name in names})
    assert "<" not in shown
    assert all(f"&lt;{name}&gt;" in shown for name in names)


def test_a_report_has_its_location_escaped_its_properties_and_the_parts_that_are_not_empty() -> None:
    shown = report_markdown("Index of", "/data/`a`", [("rows", "2")], "", "Report: /page.html")
    assert shown.split("\n\n") == [
        "# Index of `/data/&#96;a&#96;`",
        "|  |  |\n| --- | ---: |\n| rows | 2 |",
        "Report: /page.html",
    ]
