"""Documents: what is text in Markdown, HTML and PDF, their headings and titles, and documents that are none."""

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sbert.errors import BrokenObjectError, ColumnError
from sbert.source.blocks import RowBlock
from sbert.source.formats.document import Document
from sbert.source.formats.html import HtmlFormat, html_document
from sbert.source.formats.markdown import MarkdownFormat
from sbert.source.formats.pdf import PdfFormat
from sbert.source.listing import list_objects
from sbert.source.objects import Span
from sbert.source.reading import read_span
from sbert.source.schema import infer_kept_schema
from sbert.source.settings import ReadSettings, SourceSettings
from tests.support.pdf_files import make_pdf
from tests.support.refreshing import refreshed
from tests.support.tables import read

MARKDOWN = """\
---
title: "The pump book"
author: someone
---
# Pumps *move* water

See [the manual](https://example.org/manual.html) and `code`,
on two lines. ![A pump](pump.png)

- first
- second

| part | price |
|---|---|
| seal | 3 |

## Oil
```
# no heading
```
<p>Some <b>HTML</b>.</p>
"""

HTML = """\
<!doctype html><html><head><title>The  pump &amp; you</title><style>p {color: red}</style></head>
<body><header>Site name</header><nav><ul><li><a href="/">Home</a></li><nav>inner</nav></ul></nav>
<main><h1>Pumps <em>move</em> water</h1>
<p>They need    <b>pow</b>er.<br>A line.</p><script>var x = "<p>no</p>";</script>
<h2>Oil</h2><ul><li>first</li><li>second</li></ul><div aria-hidden="true">icon</div>
</main><footer>Imprint</footer></body></html>
"""


def headings(document: Document) -> list[tuple[int, str]]:
    """Return level and text of each heading, where the outline says that they are."""
    return [(mark["level"], document.text[mark["start"] : mark["end"]]) for mark in document.outline]


def read_one(path: Path, source: SourceSettings | None = None, read: ReadSettings | None = None) -> RowBlock:
    """Read an object whose rows come in one block."""
    source = source or SourceSettings()
    objects = list_objects(str(path))
    kept = infer_kept_schema(objects, source)
    blocks = list(read_span(Span(object=objects[0]), source, read or ReadSettings(), kept))
    assert len(blocks) == 1
    return blocks[0]


def test_markdown_is_read_without_its_marks() -> None:
    document = MarkdownFormat().parse(MARKDOWN.encode(), "uri", None)
    assert document.title == "The pump book"
    assert headings(document) == [(1, "Pumps move water"), (2, "Oil")]
    assert document.text == (
        "Pumps move water\n\nSee the manual and code,\non two lines. A pump\n- first\n- second\n\npart | price\nseal | 3\n\n"
        "Oil\n\n# no heading\n\nSome HTML."
    )


@pytest.mark.parametrize(
    "destination",
    [
        "data:image/svg+xml;base64,PHN2Zz4=",
        pytest.param("data:image/png;base64," + 1_000 * "iVBORw0KGgo=", id="large"),
        pytest.param("data:image/png;base64," + 1_000 * "iVBORw0KGgo=" + " 'a title'", id="large with title"),
        "javascript:open()",
        "häuser.png",
    ],
)
def test_destinations_of_markdown_links_are_no_text(destination: str) -> None:
    document = MarkdownFormat().parse(f"See ![the pump]({destination}) and [oil]({destination}).".encode(), "uri", None)
    assert document.text == "See the pump and oil."


def test_data_in_code_are_text() -> None:
    code = f"fetch(data:text/plain;base64,{400 * 'A'})"
    assert MarkdownFormat().parse(f"```\n{code}\n```".encode(), "uri", None).text.strip() == code


def test_the_highest_heading_is_the_title_where_none_is_named() -> None:
    assert MarkdownFormat().parse(b"## Small\n\n# Large\n\ntext", "uri", None).title == "Large"
    assert MarkdownFormat().parse(b"only text", "uri", None).title is None


def test_html_is_read_without_navigation_scripts_and_styles() -> None:
    document = html_document(HTML)
    assert document.title == "The pump & you"
    assert headings(document) == [(1, "Pumps move water"), (2, "Oil")]
    assert document.text == "Pumps move water\n\nThey need power.\nA line.\n\nOil\n\nfirst\n\nsecond"


def test_html_that_is_no_whole_page_is_read_too() -> None:
    assert html_document("Just <b>some</b> text<p>and more").text == "Just some text\n\nand more"
    assert html_document("<nav>only navigation</nav>").text == ""
    assert html_document("<main></main><p>outside</p>").text == "outside"
    assert html_document("<div hidden><div hidden>a</div>b</div>c").text == "c"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("<meta charset='iso-8859-1'><p>Größe €".encode("cp1252"), "Größe €"),
        ("<p>Größe".encode("utf-8-sig"), "Größe"),
        ("<p>Größe".encode("utf-16"), "Größe"),
        ("<meta charset=unknown><p>Größe".encode(), "Größe"),
    ],
)
def test_html_is_decoded_as_it_declares(data: bytes, text: str) -> None:
    assert HtmlFormat().parse(data, "uri", None).text == text


def test_html_on_one_long_line_is_one_document() -> None:
    document = html_document("<p>" + "A sentence of it. " * 20_000 + "</p><script>" + "x" * 100_000 + "</script>")
    assert document.text.startswith("A sentence of it. A")
    assert len(document.text) == 20_000 * 18 - 1


def test_the_pages_of_a_pdf_are_one_document_with_marks() -> None:
    document = PdfFormat().parse(
        make_pdf([["First page, a divi-", "ded word."], ["Second page."]], title="A  title"), "uri", None
    )
    assert document.title == "A title"
    assert document.text == "First page, a divided word.\nSecond page."
    assert [(mark["start"], mark["title"]) for mark in document.outline] == [(0, "1"), (28, "2")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (make_pdf([["text"]], password="secret"), "encrypted with a password"),
        (b"%PDF-1.4 and nothing else", "the PDF is damaged"),
        (b"no pdf", "the PDF is damaged"),
    ],
)
def test_a_pdf_that_cannot_be_read_is_named_and_the_others_are_read(
    tmp_path: Path, model: str, data: bytes, message: str
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "bad.pdf").write_bytes(data)
    (raw / "good.pdf").write_bytes(make_pdf([["Good text."]]))
    report = refreshed(raw, tmp_path / "table", model).report
    assert [uri.rsplit("/", 1)[-1] for uri in report.broken_objects] == ["bad.pdf"]
    assert message in next(iter(report.broken_objects.values()))
    assert read(tmp_path / "table")["passage"].to_list() == ["Good text."]


def test_a_pdf_of_pictures_is_rejected_with_that_reason(tmp_path: Path, model: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "pictures.pdf").write_bytes(make_pdf([[], []]))
    (raw / "text.md").write_text("# Some\n\ntext")
    report = refreshed(raw, tmp_path / "table", model).report
    assert report.rejects_by_reason == {"empty_text": 1}
    assert report.num_documents_read == 2
    assert report.num_documents_written == 1
    rejected = pl.read_parquet(f"{tmp_path}/table/_rejected/*.parquet")
    assert "only pictures" in rejected["detail"][0]
    assert report.broken_objects == {}


def test_documents_are_cut_and_rows_beside_them_stay_whole(tmp_path: Path, model: str) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "book.md").write_text(MARKDOWN)
    (raw / "page.html.gz").write_bytes(gzip.compress(HTML.encode()))
    (raw / "paper.pdf").write_bytes(make_pdf([["One page."], [f"Another {number} page." for number in range(40)]]))
    (raw / "rows.jsonl").write_text('{"id": "7", "text": "A row. It stays whole."}\n')
    settings = {"source": {"keep_columns": ["title", "page"], "passages": {"of": "documents"}}}
    outcome = refreshed(raw, tmp_path / "table", model, settings)
    table = read(tmp_path / "table")
    by_id = {row["id"]: row for row in table.iter_rows(named=True)}
    assert by_id["book.md:1#1"]["headings"] == "Pumps move water"
    assert by_id["book.md:1#1"]["title"] == "The pump book"
    assert by_id["page.html.gz:1#2"]["passage"] == "first\n\nsecond"
    assert by_id["page.html.gz:1#2"]["headings"] == "Pumps move water > Oil"
    assert by_id["paper.pdf:1#1"]["page"] == 1
    assert table.filter(pl.col("document_id") == "paper.pdf:1")["page"].max() == 2
    row: dict[str, Any] = by_id["7"]
    assert row["document_id"] == "7"
    assert row["passage"] is None
    assert row["title"] is None
    assert outcome.report.num_documents_read == 4
    assert refreshed(raw, tmp_path / "table").plan.is_empty


def test_documents_stay_whole_on_request(tmp_path: Path, model: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/book.md").write_text(MARKDOWN)
    settings = {"source": {"passages": {"of": "nothing"}, "keep_columns": ["headings"]}}
    refreshed(tmp_path / "raw", tmp_path / "table", model, settings)
    table = read(tmp_path / "table")
    assert table["id"].to_list() == ["book.md:1"]
    assert table["headings"].to_list() == ['["Pumps move water","Oil"]']
    assert "passage" not in table.columns


def test_documents_among_rows_are_passed_over_until_passages_are_named(tmp_path: Path, model: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/rows.jsonl").write_text('{"id": "7", "text": "A row."}\n')
    refreshed(tmp_path / "raw", tmp_path / "table", model)
    (tmp_path / "raw/README.md").write_text(MARKDOWN)
    assert refreshed(tmp_path / "raw", tmp_path / "table").plan.is_empty
    outcome = refreshed(tmp_path / "raw", tmp_path / "table", settings={"source": {"passages": {"of": "documents"}}})
    assert [change.name for change in outcome.plan.changes] == ["source.passages"]
    assert outcome.report.num_rows_carried == 1
    table = read(tmp_path / "table")
    assert table.filter(pl.col("id") == "7")["document_id"].to_list() == ["7"]
    assert "README.md:1" in table["document_id"].to_list()


def test_a_readme_beside_labels_is_no_label_file(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"text": "a", "label": "b"}\n')
    (tmp_path / "README.md").write_text(MARKDOWN)
    assert [item.format for item in list_objects(str(tmp_path), documents=False)] == ["jsonl"]


def test_a_document_that_is_too_large_or_not_utf_8_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("x" * 2_000)
    assert read_one(tmp_path / "a.md", read=ReadSettings(max_row_bytes=1_024)).rejects["reason"].to_list() == [
        "too_long"
    ]
    (tmp_path / "b.md").write_bytes(b"caf\xe9 \xff")
    assert read_one(tmp_path / "b.md").rejects["reason"].to_list() == ["invalid_utf8"]


def test_columns_that_documents_do_not_have_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("text")
    with pytest.raises(ColumnError, match="no column 'price'"):
        read_one(tmp_path / "a.md", SourceSettings(keep_columns=("price",)))
    objects = list_objects(str(tmp_path / "a.md"))
    with pytest.raises(BrokenObjectError, match="md documents have the columns title, headings, but key is required"):
        list(read_span(Span(object=objects[0]), SourceSettings(id_column="key"), ReadSettings(), {}))
