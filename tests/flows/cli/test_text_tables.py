"""Tables of the command line in windows of several widths."""

import pytest

from flows.cli.output import out
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
