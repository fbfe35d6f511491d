"""A map that is coloured by the topics of `sbert topics`: their words, outliers as such, rows that joined since then."""

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sbert.apply.map import derived_topics as module
from sbert.apply.map.run import draw_map, write_map
from sbert.apply.map.settings import MapSettings
from sbert.apply.named_topics import TOPICS_FOLDER
from sbert.apply.neighbours.job import NeighboursJob
from sbert.apply.topics.report import TopicsReport
from sbert.apply.topics.run import find_topics
from sbert.apply.topics.settings import FitSettings, TopicSettings
from sbert.derived.derived_table import DerivedTable
from sbert.derived.run import derive
from sbert.errors import NotATableError, TableError
from sbert.table.delta import Table
from tests.sbert.apply.map.test_page import content
from tests.support.made_texts import Row, make_text_version

DIM = 6
SUBJECTS = ["lost card", "exchange rate", "top up", "new passcode"]
SETTINGS = TopicSettings(fit=FitSettings(num_topics=4, num_parents=2, outlier_share=0.1, min_topic_rows=3))


def rows_about(subject: int, num: int, first: int = 0) -> list[Row]:
    """Return rows near one axis; every tenth is far from all others."""
    source = np.random.default_rng([subject, first])
    rows = []
    for n in range(first, first + num):
        vector = np.eye(DIM)[subject] + source.normal(scale=0.05, size=DIM)
        if n % 10 == 9:
            vector = -np.eye(DIM)[n // 10 % DIM] + source.normal(scale=0.3, size=DIM)
        rows.append((f"{subject}-{n}", f"about the {SUBJECTS[subject]} {n}", vector.tolist()))
    return rows


def made() -> dict[str, list[Row]]:
    return {str(subject): rows_about(subject, 30 + 10 * subject) for subject in range(len(SUBJECTS))}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, str, TopicsReport]:
    """A table, an output of topics, and the report of its run."""
    folder = tmp_path_factory.mktemp("topics")
    kinds = {row: f"kind {source}" for source, rows in made().items() for row, _, _ in rows}
    table = make_text_version(str(folder / "table"), made(), kept={"kind": kinds})
    report = find_topics(table.uri, str(folder / "topics"), SETTINGS)
    return table, str(folder / "topics"), report


def entries(html: str, colouring: str) -> dict[str, str]:
    """Return the legend entry of each row of a page, by the row's id."""
    properties, values = content(html)
    names = [item["name"] for item in properties["colourings"]]
    labels = properties["colourings"][names.index(colouring)]["labels"]
    ids = values[f"t{properties['columns'].index('id')}"]
    return {row: labels[code] for row, code in zip(ids, values[f"c{names.index(colouring)}"], strict=True)}


def test_each_row_has_the_topic_of_the_output_under_its_words(places: tuple[Table, str, TopicsReport]) -> None:
    table, out, report = places
    page = draw_map(table, topics_uri=out)
    words = {topic.topic: f"{topic.topic} {', '.join(topic.words[:3])}" for topic in report.topics}
    shown = entries(page.html, "topic")
    rows = DerivedTable.open(out).scan().collect()
    assert report.num_outliers > 0
    assert shown == {
        row: words.get(topic, "outliers, of no topic") for row, topic in rows.select("id", "topic").iter_rows()
    }
    properties, _ = content(page.html)
    assert properties["colouring"] == 0
    labels = properties["colourings"][0]["labels"]
    assert page.topics == tuple(labels[:-1]) == tuple(words[topic.topic] for topic in report.topics)
    assert properties["colourings"][0]["rest"] == 1  # outliers are grey


def test_the_upper_level_is_a_colouring_too(places: tuple[Table, str, TopicsReport]) -> None:
    table, out, report = places
    page = draw_map(table, topics_uri=out)
    by_topic, by_group = entries(page.html, "topic"), entries(page.html, "group of topics")
    assert len({topic.parent for topic in report.topics}) == 2
    for topic in report.topics:
        label = f"{topic.topic} {', '.join(topic.words[:3])}"
        groups = {by_group[row] for row, shown in by_topic.items() if shown == label}
        assert len(groups) == 1
        assert topic.words[0] in groups.pop()
    of_none = {row for row, shown in by_topic.items() if shown == "outliers, of no topic"}
    assert of_none == {row for row, shown in by_group.items() if shown == "outliers, of no topic"}
    properties, _ = content(draw_map(table, MapSettings(color_by="kind"), topics_uri=out).html)
    assert properties["colourings"][properties["colouring"]]["name"] == "kind"


def test_rows_that_joined_or_changed_since_then_have_no_topic_yet(tmp_path: Path) -> None:
    table, out = str(tmp_path / "table"), str(tmp_path / "topics")
    rows = made()
    make_text_version(table, rows)
    find_topics(table, out, SETTINGS)
    row, _, vector = rows["0"][0]
    changed = [(row, "another text", vector), *rows["0"][1:]]
    now = make_text_version(table, {**rows, "0": changed, "new": [("joined", "a text that joined", vector)]})
    shown = entries(draw_map(now, topics_uri=out).html, "topic")
    assert {row for row, label in shown.items() if label == "no topic yet"} == {"0-0", "joined"}
    find_topics(table, out, SETTINGS)
    assert "no topic yet" not in entries(draw_map(now, topics_uri=out).html, "topic").values()


def test_more_topics_than_a_legend_holds_share_a_grey_entry(
    places: tuple[Table, str, TopicsReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out, report = places
    monkeypatch.setattr(module, "MAX_ENTRIES", 2)
    page = draw_map(table, topics_uri=out)
    properties, _ = content(page.html)
    counts = Counter(entries(page.html, "topic").values())
    assert properties["colourings"][0]["labels"][2:] == ["other topics", "outliers, of no topic"]
    assert properties["colourings"][0]["rest"] == 2
    assert counts["other topics"] == sum(topic.num_rows for topic in report.topics[2:])


def test_a_topic_without_words_is_named_by_its_number(tmp_path: Path) -> None:
    table = make_text_version(str(tmp_path / "table"), {"a": [(str(n), "?", np.eye(4)[0].tolist()) for n in range(12)]})
    find_topics(table.uri, str(tmp_path / "topics"), TopicSettings(fit=FitSettings(num_topics=1, outlier_share=0.0)))
    properties, _ = content(draw_map(table, topics_uri=str(tmp_path / "topics")).html)
    assert properties["colourings"][0]["labels"] == ["0"]
    assert "group of topics" not in [item["name"] for item in properties["colourings"]]


def test_topics_that_cannot_be_drawn_are_refused_before_anything_is_laid_out(
    places: tuple[Table, str, TopicsReport], tmp_path: Path
) -> None:
    table, out, _ = places
    coordinates = str(tmp_path / "coordinates")
    other = make_text_version(str(tmp_path / "other"), {"a": rows_about(0, 20)})
    with pytest.raises(TableError, match=r"these are the topics of .*/table, not of .*/other: name the topics of this"):
        draw_map(other, coordinates_uri=coordinates, topics_uri=out)
    derive(NeighboursJob(k=2), table.uri, str(tmp_path / "neighbours"))
    with pytest.raises(
        TableError, match="output of the job neighbours, which has no topics: name one of `sbert topics`"
    ):
        draw_map(table, coordinates_uri=coordinates, topics_uri=str(tmp_path / "neighbours"))
    with pytest.raises(NotATableError, match="there is no table here"):
        draw_map(table, coordinates_uri=coordinates, topics_uri=str(tmp_path / "nowhere"))
    assert not Path(coordinates).exists()


def test_topics_whose_words_are_gone_or_damaged_say_what_helps(tmp_path: Path) -> None:
    table = make_text_version(str(tmp_path / "table"), made())
    out = tmp_path / "topics"
    find_topics(table.uri, str(out), SETTINGS)
    (record,) = out.glob(f"{TOPICS_FOLDER}/*/topics.json")
    record.write_text("{}")
    with pytest.raises(TableError, match=r"topics\.json: the topics are damaged: run `sbert topics` into a new folder"):
        draw_map(table, topics_uri=str(out))
    record.unlink()
    with pytest.raises(TableError, match=r"are gone: run `sbert topics` into a new folder"):
        draw_map(table, topics_uri=str(out))


def test_the_report_says_which_topics_were_drawn(places: tuple[Table, str, TopicsReport], tmp_path: Path) -> None:
    table, out, report = places
    written = write_map(table.uri, str(tmp_path / "map.html"), topics_uri=out)
    assert written.topics_uri == out
    assert len(written.topics) == report.num_topics
    assert pl.Series(written.topics).str.contains("card|rate|top|passcode").all()
