"""The line at the bottom of the terminal."""

import io

import pytest
from rich.console import Console

from tasks.terminal import TerminalLine, fit

PARTS = ["encoding 1,024 of about 4,500 rows", "12 s left", "300 rows/s", "2 of 9 splits"]


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (200, "encoding 1,024 of about 4,500 rows, 12 s left, 300 rows/s, 2 of 9 splits"),
        (52, "encoding 1,024 of about 4,500 rows, 12 s left"),
        (34, "encoding 1,024 of about 4,500 rows"),
        (20, "encoding 1,024 of a…"),
    ],
)
def test_the_most_important_parts_are_shown_where_there_is_little_room(room: int, expected: str) -> None:
    assert fit(PARTS, room) == expected


def test_uses_within_each_other_share_one_line_that_leaves_nothing_behind() -> None:
    written = io.StringIO()
    line = TerminalLine(Console(file=written, force_terminal=True, width=80))
    with line.shown("starting"):
        with line.shown():
            line.update(PARTS, share=0.2)
        line.update(["committing"])
        line.hide()
        line.update(["nothing shows this"])
    text = written.getvalue()
    assert "starting" in text
    assert "nothing shows this" not in text


def test_nothing_is_written_where_there_is_no_terminal() -> None:
    written = io.StringIO()
    line = TerminalLine(Console(file=written, width=80))
    with line.shown("starting"):
        line.update(PARTS, share=0.2)
    assert written.getvalue() == ""
