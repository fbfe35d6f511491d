"""Tables of the command line in windows of several widths."""

import pytest

from flows.cli.output import TextConsole, out
from flows.cli.text_tables import Column, print_properties, print_rows

COLUMNS = [
    Column("version", is_number=True, is_lead=True),
    Column("by", is_lead=True),
    Column("encoder"),
    Column("run"),
]
ROWS = [
    ["12", "mend statistics", "sentence-transformers/all-MiniLM-L6-v2", "0f48826b"],
    ["3", "refresh", "sentence-transformers/all-MiniLM-L6-v2", ""],
]


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write like a terminal, whose lines do not go on beyond the window."""
    monkeypatch.setattr(out, "soft_wrap", False)


@pytest.mark.usefixtures("window")
@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_every_value_is_whole_and_no_line_is_wider_than_the_window(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(out, "_width", width)
    print_rows("versions", COLUMNS, ROWS)
    shown = capsys.readouterr().out
    assert all(len(line) <= width for line in shown.splitlines())
    joined = "".join(shown.split())
    assert all("".join(value.split()) in joined for row in ROWS for value in row)
    assert "\u2026" not in shown


@pytest.mark.usefixtures("window")
def test_a_narrow_window_gets_a_block_for_each_row_and_no_empty_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(out, "_width", 60)
    print_rows("versions", COLUMNS, ROWS)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "versions",
        "12  mend statistics",
        "    encoder sentence-transformers/all-MiniLM-L6-v2 \u00b7 run",
        "    0f48826b",
        "3  refresh",
        "    encoder sentence-transformers/all-MiniLM-L6-v2",
    ]


@pytest.mark.usefixtures("window")
def test_a_value_without_spaces_goes_on_in_the_next_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(out, "_width", 40)
    path = "s3://bucket/" + "x" * 60
    print_properties("a table", [("report", path)])
    shown = capsys.readouterr().out
    assert path in "".join(part for part in shown.replace("\u2502", "").split()[2:])


@pytest.mark.usefixtures("window")
def test_a_fact_that_belongs_to_the_one_above_it_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    print_properties("table", [("splits built", "2"), ("  new object", "2")])
    above, below = (line for line in capsys.readouterr().out.splitlines() if "2" in line)
    assert below.index("new object") == above.index("splits built") + 2


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as where nobody exported COLUMNS."""
    monkeypatch.delenv("COLUMNS", raising=False)


def printed(text: str, capsys: pytest.CaptureFixture[str], *, soft_wrap: bool = False) -> list[str]:
    TextConsole(width=40, soft_wrap=soft_wrap, highlight=False).print(text, markup=False)
    return capsys.readouterr().out.splitlines()


def test_the_rest_of_a_long_line_is_moved_to_the_right_and_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    text = "table version 3: 10,003 rows, computed from version 0\n  1 shard built (10,003 rows), 0 kept, 0 dropped"
    lines = printed(text, capsys)
    assert lines == [
        "table version 3: 10,003 rows, computed",
        "  from version 0",
        "  1 shard built (10,003 rows), 0 kept, 0",
        "    dropped",
    ]
    assert printed(text, capsys, soft_wrap=True) == text.split("\n")  # in a file a line stays one line


def test_a_pipe_keeps_lines_whole_unless_columns_names_a_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "one two three four"
    assert printed(text, capsys, soft_wrap=True) == [text]
    monkeypatch.setenv("COLUMNS", "10")
    assert printed(text, capsys, soft_wrap=True) == ["one two", "  three", "  four"]
    TextConsole(stderr=True, soft_wrap=True, highlight=False).print(text)
    assert capsys.readouterr().err == f"{text}\n"  # an error is one line


def test_a_location_that_is_wider_than_the_window_stays_whole(capsys: pytest.CaptureFixture[str]) -> None:
    location = "s3://bucket/" + "x" * 60
    assert printed(f"report: {location}, made now", capsys) == ["report:", f"  {location},", "  made now"]


def test_characters_of_two_columns_count_twice_and_columns_stay(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed("漢字" * 8 + " " + "漢字" * 4, capsys) == ["漢字" * 8, "  " + "漢字" * 4]
    assert printed("      0       317 rows  card, new", capsys) == ["      0       317 rows  card, new"]
    assert printed("one\n\ntwo", capsys) == ["one", "", "two"]
