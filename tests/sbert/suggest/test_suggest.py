"""Suggestions for labelling: each criterion by hand, the choice as a whole, the label format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from flows.cli.commands import app
from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.errors import ColumnError, LabelError, SettingsError
from sbert.labels import label_files
from sbert.labels.label_kinds import LabelKind
from sbert.labels.settings import LabelSettings
from sbert.registry.store import Registry
from sbert.suggest.criteria import density, k_center, margin_uncertainty, nearest, neighbor_disagreement, ranked
from sbert.suggest.settings import SuggestSettings
from sbert.suggest.suggest import load_labelled, suggest
from sbert.suggest.suggestion_file import write_suggestions
from sbert.suggest.suggestion_kinds import SuggestionKind
from sbert.table.delta import Table
from tests.support.refreshing import refreshed
from tests.support.tiny_models import prompted_encoder
from tests.support.toy_training import toy_labels, toy_rows

ONLY_UNCERTAIN = SuggestSettings(
    density=0, shortlist_factor=2, labels=LabelSettings(near_duplicate_similarity=1, min_train_rows=1)
)


def test_nearest_neighbours_and_density_are_those_worked_by_hand() -> None:
    angles = np.radians([0.0, 10.0, 25.0, 90.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    neighbors, cosines = nearest(vectors, 2)
    assert neighbors.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert cosines[0] == pytest.approx(np.cos(np.radians([10.0, 25.0])), abs=1e-6)
    assert int(np.argmax(density(cosines))) == 1  # in the middle of the others
    assert int(np.argmin(density(cosines))) == 3


def test_disagreement_and_uncertainty_are_those_worked_by_hand() -> None:
    disagreement = neighbor_disagreement(np.array([[1, 2], [0, 2], [0, 1]]), np.array([[2, 1], [0, 3], [3, 4]]))
    assert disagreement.tolist() == [0.0, pytest.approx(1 - 1 / 3), 1.0]
    margins = margin_uncertainty(np.array([[0.9, 0.05, 0.05], [0.5, 0.45, 0.05]]))
    assert margins == pytest.approx([0.15, 0.95])
    assert ranked(np.array([5.0, 1.0, 3.0])).tolist() == [1.0, 0.0, 0.5]


def test_k_center_spreads_and_knows_what_is_labelled() -> None:
    directions = np.eye(3)[[0, 0, 0, 1, 1, 2]] + 0.01 * np.arange(6)[:, None]
    vectors = directions.astype(np.float32)
    assert {k_center(vectors, 3, 0)[at] // 3 for at in (1, 2)} == {1}
    centers = k_center(vectors, 3, 0)
    assert {(0, 0, 0, 1, 1, 2)[at] for at in centers} == {0, 1, 2}
    labelled = k_center(vectors, 2, 0, np.array([[0.0, 1.0, 0.0]], dtype=np.float32))
    assert (0, 0, 0, 1, 1, 2)[labelled[1]] == 2  # the second direction is covered


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, model: str, prefect_server: None) -> Table:
    from flows.refresh import refresh_embeddings

    folder = tmp_path_factory.mktemp("suggest")
    texts = toy_rows(LabelKind.TEXTS, 150, seed=5)["text"].to_list()
    rows = [{"id": str(number), "text": text} for number, text in enumerate([*texts, texts[0]])]
    (folder / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    uri = str(folder / "table")
    refresh_embeddings(raw_uri=str(folder / "raw.jsonl"), table_uri=uri, model=model, keep_columns=["text"])
    return Table.open(uri)


def test_texts_to_classify_are_unlabelled_texts_of_the_table(table: Table, model: str) -> None:
    encoder = SentenceEncoder.from_pretrained(model)
    candidate = SentenceEncoder.from_pretrained(model)
    labels = toy_labels(LabelKind.CLASSES, 120)
    suggested = suggest(table, 12, encoder=encoder, candidate=candidate, labels=labels)
    assert suggested.criteria == ("density", "disagreement", "uncertainty")
    assert suggested.rows.columns[:4] == ["text", "label", "id", "source"]
    assert suggested.rows.height == suggested.rows["text"].n_unique() == 12
    assert suggested.rows["label"].null_count() == 12
    assert set(suggested.rows["disagreement"]) == {0.0}  # the candidate is the same encoder
    assert not set(suggested.rows["text"]) & set(labels.train["text"])
    texts = dict(table.scan().select("id", "text").collect().iter_rows())
    assert all(texts[row["id"]] == row["text"] for row in suggested.rows.to_dicts())
    assert suggest(table, 12, encoder=encoder, candidate=candidate, labels=labels).rows.equals(suggested.rows)


def test_uncertain_texts_come_first(table: Table, model: str) -> None:
    encoder, labels = SentenceEncoder.from_pretrained(model), toy_labels(LabelKind.CLASSES, 120)
    only = SuggestSettings(disagreement=0, density=0, shortlist_factor=1)
    uncertainty = suggest(table, 10, encoder=encoder, labels=labels, settings=only).rows["uncertainty"]
    everything = suggest(table, 1_000, encoder=encoder, labels=labels, settings=only).rows["uncertainty"]
    assert uncertainty.min() >= everything.sort(descending=True)[9] - 1e-9  # type: ignore[operator]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_texts_of_several_classes_are_suggested_by_the_least_sure_class(
    table: Table, model: str, tmp_path: Path, ending: str
) -> None:
    rows = toy_rows(LabelKind.CLASSES, 60, seed=9)
    lists = [
        [label, *(["long"] if len(text) % 2 else [])] if at % 5 else [] for at, (text, label) in enumerate(rows.rows())
    ]
    rows.select("text", labels=pl.Series(lists)).write_ndjson(tmp_path / "labels.jsonl")
    labels, labelled = load_labelled(str(tmp_path / "labels.jsonl"), ONLY_UNCERTAIN)
    assert labels.is_multi_label
    encoder = SentenceEncoder.from_pretrained(model)
    suggested = suggest(table, 8, encoder=encoder, labels=labels, labelled=labelled, settings=ONLY_UNCERTAIN)
    assert suggested.rows.columns[:2] == ["text", "labels"]
    everything = suggest(table, 1_000, encoder=encoder, labels=labels, labelled=labelled, settings=ONLY_UNCERTAIN).rows
    assert suggested.rows["uncertainty"].min() >= everything["uncertainty"].sort(descending=True)[15] - 1e-6  # type: ignore[operator]
    train, texts, doubts = encoder.encode(labels.train["text"]), everything["text"], []
    for name in labels.classes:
        probe = LogisticRegression(C=10.0, max_iter=1_000)
        probe.fit(train, [name in names for names in labels.train["label"]])
        doubts.append(margin_uncertainty(probe.predict_proba(encoder.encode(texts))))
    np.testing.assert_allclose(everything["uncertainty"], np.max(doubts, axis=0), atol=1e-3)
    target = tmp_path / f"todo.{ending}"
    write_suggestions(suggested.rows, str(target))
    filled = {text: ["a"] if at % 2 else ["a", "b"] for at, text in enumerate(suggested.rows["text"])}
    if ending == "csv":
        answers = pl.read_csv(target).with_columns(
            labels=pl.Series([json.dumps(filled[text]) for text in suggested.rows["text"]])
        )
        answers.write_csv(target)
    else:
        read = pl.read_ndjson(target) if ending == "jsonl" else pl.read_parquet(target)
        answers = read.with_columns(labels=pl.Series(list(filled.values())))
        answers.write_ndjson(target) if ending == "jsonl" else answers.write_parquet(target)
    back, _ = load_labelled(str(target), ONLY_UNCERTAIN, is_multi_label=True)
    assert back.is_multi_label
    assert back.classes == ["a", "b"]


def test_pairs_to_score_are_pairs_of_different_texts(table: Table, model: str) -> None:
    encoder = SentenceEncoder.from_pretrained(model)
    settings = SuggestSettings(kind=SuggestionKind.SCORED_PAIRS)
    suggested = suggest(table, 10, encoder=encoder, labels=toy_labels(LabelKind.SCORED_PAIRS), settings=settings).rows
    assert suggested.columns[:3] == ["sentence1", "sentence2", "score"]
    assert suggested["score"].null_count() == suggested.height == 10
    assert not (suggested["sentence1"] == suggested["sentence2"]).any()


def test_suggestions_that_cannot_be_made_are_refused(table: Table, model: str) -> None:
    encoder = SentenceEncoder.from_pretrained(model)
    with pytest.raises(ColumnError, match=r"keeps no column 'body' \(kept: text\).*--keep-columns body"):
        suggest(table, 5, encoder=encoder, settings=SuggestSettings(text_column="body"))
    with pytest.raises(LabelError, match="the labels are pairs, but kind is classes: set kind"):
        suggest(table, 5, encoder=encoder, labels=toy_labels(LabelKind.PAIRS))
    with pytest.raises(SettingsError, match="has weight 0: set the weight of one, or name enough labels"):
        suggest(table, 5, encoder=encoder, settings=SuggestSettings(density=0))
    with pytest.raises(SettingsError, match="n is 0"):
        suggest(table, 0, encoder=encoder)
    with pytest.raises(ValidationError, match="all weights are 0"):
        SuggestSettings(uncertainty=0, disagreement=0, prediction=0, density=0)


def test_the_command_line_writes_suggestions(table: Table, tmp_path: Path) -> None:
    target = tmp_path / "todo.jsonl"
    result = CliRunner().invoke(app, ["suggest", table.uri, str(target), "-n", "7", "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["num_rows"] == 7
    assert answer["criteria"] == ["density"]
    assert answer["num_pool"] == 150
    assert pl.read_ndjson(target)["text"].n_unique() == 7
    shown = CliRunner().invoke(app, ["suggest", table.uri, str(tmp_path / "again.csv"), "-n", "3"])
    assert "3 from 150 texts" in " ".join(shown.stdout.split())


def test_labelled_rows_that_training_leaves_out_are_not_asked_for_again(
    table: Table, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = table.scan().select("text").collect()["text"].unique().sort().to_list()
    repeated, twin, empty, contradicted = texts[:4]
    rows = toy_rows(LabelKind.CLASSES, 60, seed=9)
    more = [(f"{repeated}!", "a"), (f" {repeated} ", "a"), (f"{twin} red", "b"), (twin, "b"), (empty, None)]
    more += [(contradicted, "a"), (contradicted, "b")]
    uri = str(tmp_path / "labels.jsonl")
    pl.concat([rows, pl.DataFrame(more, schema=rows.schema, orient="row")]).write_ndjson(uri)
    settings = SuggestSettings(
        labels=LabelSettings(near_duplicate_similarity=0.4, split_seed=3, max_contradictions=0.5)
    )
    real, read = label_files.read_label_object, []
    monkeypatch.setattr(
        label_files,
        "read_label_object",
        lambda item, *rest, **named: (read.append(item), real(item, *rest, **named))[1],
    )
    labels, labelled = load_labelled(uri, settings)
    assert len(read) == 1
    left_in = pl.concat([labels.train, labels.dev, labels.test])["text"]
    assert repeated not in left_in  # a repeat, left out
    encoder = SentenceEncoder.from_pretrained(model)
    everything = suggest(table, 1_000, encoder=encoder, labels=labels, labelled=labelled, settings=settings).rows[
        "text"
    ]
    assert not {repeated, twin, contradicted} & set(everything)
    assert empty in everything
    without = suggest(table, 1_000, encoder=encoder, labels=labels, settings=settings).rows["text"]
    assert repeated not in without  # the row that was kept is the same text with another ending
    assert contradicted in without  # only `labelled` knows the rows that were left out


@pytest.mark.parametrize("spelling", ["  {} ", "{}\n", "{}.", "two  spaces: {}"])
def test_a_labelled_text_with_other_white_space_is_not_asked_for_again(
    tmp_path: Path, model: str, spelling: str
) -> None:
    """The table keeps the text as the source has it; labels are read without white space around texts."""
    texts = toy_rows(LabelKind.TEXTS, 60, seed=5)["text"].unique(maintain_order=True).to_list()
    written = [spelling.format(texts[0]), *texts[1:]]
    (tmp_path / "raw.jsonl").write_text(
        "".join(json.dumps({"id": str(number), "text": text}) + "\n" for number, text in enumerate(written))
    )
    uri = str(tmp_path / "table")
    refreshed(tmp_path / "raw.jsonl", uri, model=model, settings={"source": {"keep_columns": ["text"]}})
    labelled = pl.DataFrame({"text": [" ".join(written[0].split())]})
    encoder = SentenceEncoder.from_pretrained(model)
    asked = set(suggest(Table.open(uri), 1_000, encoder=encoder, labelled=labelled).rows["text"])
    assert len(asked) > 20
    assert not {written[0], written[0].strip()} & asked


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["a", "b", "a"], "3 rows to train on, but at least 8 are needed (min_train_rows)"),
        (["a"], "1 row to train on, but at least 8 are needed (min_train_rows)"),
        (["a"] * 10, "all 10 train rows are of one class, 'a'"),
        ([None] * 3, "0 rows to train on, but at least 8 are needed (min_train_rows)"),
    ],
    ids=["a handful", "one", "one class", "none filled in"],
)
def test_labels_too_few_to_learn_from_only_leave_their_texts_out(
    table: Table, tmp_path: Path, labels: list[str | None], reason: str
) -> None:
    texts = table.scan().select("text").collect()["text"].unique().sort()[: len(labels)].to_list()
    uri = str(tmp_path / "few.jsonl")
    pl.DataFrame({"text": texts, "label": labels}, schema={"text": pl.String, "label": pl.String}).write_ndjson(uri)
    settings = '{"labels": {"dev_share": 0, "test_share": 0, "near_duplicate_similarity": 1.0}}'
    asked = ["suggest", table.uri, "--labels", uri, "-n", "1000", "--settings", settings]
    answer = json.loads(CliRunner().invoke(app, [*asked, str(tmp_path / "todo.jsonl"), "--json"]).stdout)
    assert answer["criteria"] == ["density"]
    assert answer["note"] == (
        f"{reason}: the labelled texts are left out, the others are chosen without uncertainty, by diversity"
    )
    suggested = set(pl.read_ndjson(tmp_path / "todo.jsonl")["text"])
    num_labelled = len(labels) - labels.count(None)
    assert answer["num_pool"] == len(suggested) == 150 - num_labelled
    assert set(texts) & suggested == (set() if num_labelled else set(texts))
    shown = CliRunner().invoke(app, [*asked, str(tmp_path / "again.jsonl")])
    assert answer["note"] in shown.stdout.splitlines()


def test_texts_far_from_a_handful_of_labels_come_first(table: Table, model: str, tmp_path: Path) -> None:
    """The labelled texts count as chosen already: the second suggestion is the text farthest from them and the first."""
    encoder = SentenceEncoder.from_pretrained(model)
    rows = table.scan().select("text", "embedding").collect().unique("text").sort("text")
    vectors = np.array(rows["embedding"].to_list())
    few = pl.DataFrame({"text": rows["text"][:3], "label": ["a", "b", "a"], "split": ["train", "dev", "test"]})
    few.write_ndjson(tmp_path / "few.jsonl")
    settings = SuggestSettings(shortlist_factor=1_000)
    labels, labelled = load_labelled(str(tmp_path / "few.jsonl"), settings)
    first, second = suggest(table, 2, encoder=encoder, labels=labels, labelled=labelled, settings=settings).rows["text"]
    others = [at for at, text in enumerate(rows["text"]) if at > 2 and text != first]
    at_first = rows["text"].to_list().index(first)
    nearest_cosine = (vectors[others] @ vectors[[0, 1, 2, at_first]].T).max(axis=1)
    assert second == rows["text"][others[int(np.argmin(nearest_cosine))]]


def test_a_handful_of_scored_pairs_leaves_the_pairs_out(table: Table, model: str, tmp_path: Path) -> None:
    encoder, settings = SentenceEncoder.from_pretrained(model), SuggestSettings(kind=SuggestionKind.SCORED_PAIRS)
    without = suggest(table, 5_000, encoder=encoder, settings=settings)
    few = without.rows.head(2).select("sentence1", "sentence2", score=pl.Series([0.1, 0.9]))
    few.write_ndjson(tmp_path / "few.jsonl")
    labels, labelled = load_labelled(str(tmp_path / "few.jsonl"), settings)
    suggestions = suggest(table, 5_000, encoder=encoder, labels=labels, labelled=labelled, settings=settings)
    assert without.note == ""
    assert "are needed (min_train_rows): the labelled pairs are left out" in suggestions.note
    keys = ["sentence1", "sentence2"]
    left = without.rows.join(few, on=keys, how="anti").select(keys)
    assert suggestions.rows.height == without.rows.height - 2
    assert set(suggestions.rows.select(keys).rows()) == set(left.rows())


def test_pairs_that_training_leaves_out_are_not_asked_for_again(table: Table, model: str, tmp_path: Path) -> None:
    encoder, settings = SentenceEncoder.from_pretrained(model), SuggestSettings(kind=SuggestionKind.SCORED_PAIRS)
    first = suggest(table, 1, encoder=encoder, settings=settings).rows.row(0, named=True)
    rows = toy_rows(LabelKind.SCORED_PAIRS, 80)
    more = [(f"{first['sentence1']}.", first["sentence2"], 1.0), (first["sentence2"], first["sentence1"], 1.0)]
    uri = str(tmp_path / "labels.jsonl")
    pl.concat([rows, pl.DataFrame(more, schema=rows.schema, orient="row")]).write_ndjson(uri)
    labels, labelled = load_labelled(uri, settings)
    suggested = suggest(table, 5_000, encoder=encoder, labels=labels, labelled=labelled, settings=settings).rows
    pairs = {frozenset(pair) for pair in zip(suggested["sentence1"], suggested["sentence2"], strict=True)}
    assert frozenset((first["sentence1"], first["sentence2"])) not in pairs


def test_the_command_line_takes_models_a_candidate_labels_and_a_kind(
    table: Table, models: Registry, tmp_path: Path
) -> None:
    scores = toy_rows(LabelKind.SCORED_PAIRS, 80).with_columns(score=pl.col("score") * 5)
    scores.write_ndjson(tmp_path / "sts.jsonl")

    def asked(name: str, *options: str) -> dict[str, Any]:
        arguments = ["suggest", table.uri, str(tmp_path / name), "-n", "4", "--json", *options]
        answer: dict[str, Any] = json.loads(CliRunner().invoke(app, arguments).stdout)
        return answer

    answer = asked("a.jsonl", "--models", models.uri)
    assert answer["candidate"] == models.model_uri("v0003")
    assert answer["criteria"] == ["density", "disagreement"]
    assert asked("b.jsonl", "--models", models.uri, "--candidate", "v0002")["candidate"] == models.model_uri("v0002")
    pairs = ("--kind", "scored_pairs", "--labels", str(tmp_path / "sts.jsonl"))
    assert "set score_min and score_max" in asked("c.jsonl", *pairs)["error"]["message"]
    answer = asked("d.jsonl", *pairs, "--settings", '{"labels": {"score_max": 5}}')
    assert answer["num_rows"] == 4
    assert answer["criteria"] == ["density", "uncertainty"]
    assert pl.read_ndjson(tmp_path / "d.jsonl").columns[:3] == ["sentence1", "sentence2", "score"]
    answer = asked("e.jsonl", "--labels", str(tmp_path / "sts.jsonl"))
    assert "classes need a column 'text'" in answer["error"]["message"]


@pytest.mark.parametrize("prompt", [None, "two three "], ids=["the encoder's own prompt", "a prompt in the settings"])
def test_suggestions_encode_texts_as_the_rows_of_the_table_were(tmp_path: Path, prompt: str | None) -> None:
    prompted_encoder().save_pretrained(tmp_path / "model")
    texts = toy_rows(LabelKind.TEXTS, 150, seed=5)["text"].to_list()
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps({"id": text, "text": text}) + "\n" for text in texts))
    settings = {"source": {"keep_columns": ["text"]}, "encoding": {"prompt": prompt}}
    refreshed(tmp_path / "raw.jsonl", tmp_path / "table", model=str(tmp_path / "model"), settings=settings)
    table = Table.open(str(tmp_path / "table"))
    encoder = SentenceEncoder.from_pretrained(tmp_path / "model")
    labels = toy_labels(LabelKind.CLASSES, 120)
    suggested = suggest(table, 12, encoder=encoder, candidate=encoder, labels=labels)
    assert set(suggested.rows["disagreement"]) == {0.0}  # the candidate is the table's own encoder
    probe = LogisticRegression(C=10.0, max_iter=1_000).fit(
        encoder.encode(labels.train["text"], prompt=table.encoder.prompt), labels.train["label"].to_list()
    )
    asked = encoder.encode(suggested.rows["text"], prompt=table.encoder.prompt)
    expected = margin_uncertainty(probe.predict_proba(asked))
    np.testing.assert_allclose(suggested.rows["uncertainty"], expected, atol=1e-4)
