"""Pages show data as text, load nothing, and hold their pictures."""

import base64

import numpy as np
import pytest

from sbert.pages.page import PageTable, Section, Verdict, render_page
from sbert.pages.pictures import as_picture, date_axis, new_axes, plain

HOSTILE = "<script>alert('1')</script> & \"quoted\""
ESCAPED = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; &#34;quoted&#34;"


def test_everything_that_comes_from_data_is_escaped() -> None:
    table = PageTable(["name", HOSTILE], [[HOSTILE, "1"]], caption=HOSTILE)
    page = render_page(
        HOSTILE,
        {HOSTILE: HOSTILE},
        [Section(HOSTILE, [HOSTILE], tables=[table], parts=[Section(HOSTILE, [HOSTILE])])],
        verdict=Verdict(HOSTILE, "bad"),
    )
    assert "<script>" not in page
    assert page.count(ESCAPED) == 13


def test_a_page_may_load_nothing() -> None:
    page = render_page("Title", {}, [])
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page


def test_parts_are_closed_until_they_are_opened() -> None:
    page = render_page("Title", {}, [Section("All", parts=[Section("Texts", ["hello"])])])
    assert "<details><summary>Texts</summary>" in page
    assert "hello" in page


def test_a_picture_is_in_the_page() -> None:
    figure, axes = new_axes(x="step", y="loss")
    axes.plot([1, 2], [3, 4], label=plain("costs $5 and $6"))
    axes.legend()
    picture = as_picture(figure, "Loss", "Lower is better.")
    assert b"<svg" in base64.b64decode(picture.image.removeprefix("data:image/svg+xml;base64,"))
    page = render_page("Title", {}, [Section("Plots", pictures=[picture])])
    assert f'<img alt="Loss" src="{picture.image}">' in page
    assert "<span>Lower is better.</span>" in page


def test_a_row_with_another_number_of_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, the table has 2 columns"):
        PageTable(["a", "b"], [["1"]])


def test_short_cells_stay_in_one_line_and_long_texts_do_not() -> None:
    table = PageTable(["text", "class", "rows"], [["a text that is longer than a line of a narrow column", "up", "1"]],
                      text_columns=["class"])  # fmt: skip
    page = render_page("Title", {}, [Section("All", tables=[table])])
    assert '<td class="text" data-name="text">' in page
    assert '<td class="text short" data-name="class">' in page
    assert '<td class=short data-name="rows">' in page


def test_dates_under_a_picture_are_few() -> None:
    figure, axes = new_axes()
    axes.plot(np.arange("2026-01-01", "2026-03-01", dtype="datetime64[D]"), np.arange(59))
    date_axis(axes, "Europe/Berlin")
    figure.canvas.draw()
    assert 2 <= len(axes.get_xticklabels()) <= 7
