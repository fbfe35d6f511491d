"""Labels in which a text has several classes: read from every format, and what is wrong with them."""

import json
from pathlib import Path

import polars as pl
import pytest

from sbert.errors import LabelError, TooFewLabelsError
from sbert.labels.class_lists import LISTS, ClassLists
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import load_labels
from sbert.labels.settings import LabelSettings

ALL = LabelSettings(
    kind=LabelKind.CLASSES,
    dev_share=0,
    test_share=0,
    near_duplicate_similarity=1,
    min_train_rows=1,
    max_contradictions=0,
)
TEXTS = ("my card was charged twice", "please hurry", "hello there", "nobody labelled this")
LISTS_OF_TEXTS = (["urgent", "billing", "urgent"], ["urgent"], [], None)
JOINED = ClassLists(join_rows=True)


def write(path: Path, *rows: dict[str, object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(uri: str, lists: ClassLists | None = None, **settings: object) -> LabelSet:
    return load_labels(uri, ALL.model_copy(update=settings), class_lists=lists or ClassLists())


@pytest.mark.parametrize("name", ["label", "labels", "category"])
@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
def test_lists_are_read_from_every_format(tmp_path: Path, ending: str, name: str) -> None:
    rows = pl.DataFrame({"text": TEXTS, name: pl.Series(LISTS_OF_TEXTS, dtype=LISTS)})
    path = tmp_path / f"labels.{ending}"
    if ending == "jsonl":
        rows.write_ndjson(path)
    elif ending == "parquet":
        rows.write_parquet(path)
    else:
        written = [None if names is None else json.dumps(names) for names in LISTS_OF_TEXTS]
        rows.with_columns(pl.Series(name, written)).write_csv(path)
    labels = read(str(path), JOINED if ending == "csv" else None)
    assert labels.is_multi_label
    assert dict(labels.train.select("text", "label").rows()) == {
        TEXTS[0]: ["billing", "urgent"],
        TEXTS[1]: ["urgent"],
        TEXTS[2]: [],
    }
    assert labels.num_rejected == {"no_label": 1}
    assert labels.classes == ["billing", "urgent"]


def test_one_class_a_row_stays_as_it_is_and_lists_are_refused_unless_someone_asks_for_them(tmp_path: Path) -> None:
    single = write(tmp_path / "single.jsonl", *({"text": text, "label": "ab"[at % 2]} for at, text in enumerate(TEXTS)))
    asked, plain = read(single), load_labels(single, ALL)
    assert not asked.is_multi_label
    assert asked.fingerprint == plain.fingerprint
    assert asked.train.equals(plain.train)
    lists = write(tmp_path / "lists.jsonl", {"text": TEXTS[0], "label": ["a"]})
    with pytest.raises(LabelError, match=r"row 1: column 'label' holds a JSON array, .*write each value as text"):
        load_labels(lists, ALL)


def test_rows_of_one_text_are_joined_only_where_the_settings_say_so(tmp_path: Path) -> None:
    rows = [("card lost", "billing"), ("Card lost!", "urgent"), ("good day", "praise"), ("bad day", "")]
    uri = write(tmp_path / "rows.jsonl", *({"text": text, "label": label} for text, label in rows))
    with pytest.raises(LabelError, match="2 of 3 train rows contradict"):
        read(uri)
    labels = read(uri, JOINED)
    assert dict(labels.train.select("text", "label").rows()) == {
        "card lost": ["billing", "urgent"],
        "good day": ["praise"],
    }
    assert labels.num_rejected == {"joined": 1, "no_label": 1}
    assert "1 joined with another row of the same text" in labels.account()


def test_lists_of_one_text_that_differ_contradict_each_other(tmp_path: Path) -> None:
    rows = [
        {"text": "card lost", "labels": ["a"]},
        {"text": "Card lost.", "labels": ["b"]},
        {"text": "hi", "labels": []},
    ]
    uri = write(tmp_path / "rows.jsonl", *rows)
    with pytest.raises(LabelError, match=r"""'card lost' is '\["a"\]' and '\["b"\]'"""):
        read(uri)
    assert read(uri, JOINED).train["label"].to_list() == [["a", "b"], []]


def test_equal_values_of_two_objects_are_one_class(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "first", "labels": [1, True]}, {"text": "second", "labels": ["x"]})
    pl.DataFrame({"text": ["third"], "labels": [["1.0", "True"]]}).write_parquet(tmp_path / "b.parquet")
    assert read(str(tmp_path)).classes == ["1", "true", "x"]


def test_an_object_without_a_value_fits_lists(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "first", "labels": None})
    write(tmp_path / "b.jsonl", {"text": "second", "labels": ["x"]}, {"text": "third", "labels": []})
    assert read(str(tmp_path)).counts() == {"train": 2, "dev": 0, "test": 0, "rejected": 1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([["a"], "b"], r"holds both lists and single classes, such as \[\"a\"\] and 'b': write a list in every row"),
        (["b", ["a"]], "holds both lists and single classes"),
        ([["a"], [["b"]]], r"holds \[\"b\"\], expected the names of classes: write each class as text"),
        ([["a"], [None]], r"holds null, expected the names of classes"),
        ([["a"], [" "]], "holds an empty text, expected the names of classes"),
        ([["a"], [{"name": "b"}]], r"holds \{\"name\": \"b\"\}, expected the names of classes"),
        ([["a"], {"b": 1}], r"holds \{\"b\": 1\}, expected the names of classes"),
        ([{"a": 1}, {"b": 1}], r"holds \{\"a\": 1\}, expected the names of classes"),
    ],
)
def test_values_that_are_no_lists_of_classes_are_named(tmp_path: Path, values: list[object], message: str) -> None:
    uri = write(tmp_path / "a.jsonl", *({"text": TEXTS[at], "labels": value} for at, value in enumerate(values)))
    with pytest.raises(LabelError, match=rf"a\.jsonl.*'labels'.*{message}"):
        read(uri)


def test_lists_in_one_object_and_single_classes_in_another_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": "first", "labels": ["x"]})
    write(tmp_path / "b.jsonl", {"text": "second", "labels": "y"})
    with pytest.raises(LabelError, match=r"a\.jsonl\S* holds lists of classes, \S*b\.jsonl\S* holds one class a row"):
        read(str(tmp_path))
    assert read(str(tmp_path), JOINED).train["label"].to_list() == [["x"], ["y"]]


def test_a_list_in_another_column_is_refused_unless_it_may_hold_lists(tmp_path: Path) -> None:
    uri = write(tmp_path / "a.jsonl", {"text": ["first"], "labels": ["x"]}, {"text": "second", "labels": []})
    with pytest.raises(LabelError, match="column 'text' holds a JSON array, expected one text"):
        read(uri)
    rows = [{"text": text, "mood": "ab"[at % 2], "tags": ["x"]} for at, text in enumerate(TEXTS)]
    uri = write(tmp_path / "b.jsonl", *rows)
    mood = read(uri, ClassLists(frozenset({"mood", "tags"})), columns={"label": "mood"})
    assert not mood.is_multi_label
    assert mood.classes == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "message"), [([], "have an empty list of classes"), (["a", "b"], "have the same classes, a, b")]
)
def test_rows_that_all_say_the_same_teach_nothing(tmp_path: Path, names: list[str], message: str) -> None:
    uri = write(tmp_path / "a.jsonl", *({"text": text, "labels": names} for text in TEXTS))
    with pytest.raises(TooFewLabelsError, match=f"all 4 train rows {message}: label texts that have a class"):
        read(uri)
