"""Labels from objects of every format: their kind, columns, splits and fingerprint."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from sbert.errors import (
    BrokenObjectError,
    ColumnError,
    LabelError,
    LeakageError,
    MissingError,
    SettingsError,
    TooFewLabelsError,
)
from sbert.labels.label_kinds import LabelKind
from sbert.labels.load import list_label_objects, load_labels, make_label_set, new_label_objects
from sbert.labels.settings import LabelSettings
from tests.sbert.labels.small_labels import ALL, TWENTY, classes
from tests.support.toy_training import toy_rows


@pytest.mark.parametrize("kind", list(LabelKind))
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "jsonl.gz"])
def test_kind_is_recognised_and_rows_are_kept(kind: LabelKind, ending: str, tmp_path: Path) -> None:
    rows = toy_rows(kind, 40)
    path = tmp_path / f"labels.{ending}"
    if ending == "csv":
        rows.write_csv(path)
    elif ending == "parquet":
        rows.write_parquet(path)
    elif ending == "jsonl":
        rows.write_ndjson(path)
    else:
        path.write_bytes(gzip.compress(rows.write_ndjson().encode()))
    labels = load_labels(str(tmp_path), ALL)
    assert labels.kind is kind
    assert sum(labels.counts().values()) == labels.num_rows_read == rows.height
    assert sorted(labels.train.select(rows.columns).rows()) == sorted(set(rows.rows()))


def test_a_csv_without_a_header_is_read_with_named_columns_and_its_own_range(tmp_path: Path) -> None:
    lines = [f"the cat number {number},a dog number {number},{number % 6}.0" for number in range(12)]
    Path(tmp_path, "sts.csv").write_text("\n".join(lines))
    settings = LabelSettings(csv_columns=("sentence1", "sentence2", "score"), score_max=5, dev_share=0, test_share=0)
    labels = load_labels(str(tmp_path), settings)
    assert labels.kind is LabelKind.SCORED_PAIRS
    assert sorted(labels.train["score"].unique()) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


def test_usual_other_names_and_named_columns_are_understood(tmp_path: Path) -> None:
    pl.DataFrame({"utterance": [f"text {n}" for n in range(10)], "category": list("ab" * 5)}).write_csv(
        tmp_path / "labels.csv"
    )
    assert load_labels(str(tmp_path), ALL).kind is LabelKind.CLASSES
    pl.DataFrame({"satz": [f"text {n}" for n in range(10)], "thema": list("ab" * 5)}).write_csv(tmp_path / "labels.csv")
    named = ALL.model_copy(update={"columns": {"text": "satz", "label": "thema"}})
    assert load_labels(str(tmp_path), named).classes == ["a", "b"]


def test_given_splits_are_kept_and_dev_comes_out_of_train(tmp_path: Path) -> None:
    rows = toy_rows(LabelKind.CLASSES, 200)
    rows.head(160).write_csv(tmp_path / "train.csv")
    rows.tail(40).write_csv(tmp_path / "test.csv")
    labels = load_labels(str(tmp_path), LabelSettings(near_duplicate_similarity=1, max_leakage=1))
    assert labels.splits_given == {"test"}
    assert sorted(labels.test["text"]) == sorted(rows.tail(40)["text"])
    assert labels.dev.height > 5
    assert set(labels.dev["text"]) <= set(rows.head(160)["text"])


def test_objects_that_were_not_learned_from_are_new(tmp_path: Path) -> None:
    rows = toy_rows(LabelKind.CLASSES, 60)
    rows.head(30).write_csv(tmp_path / "monday.csv")
    first = load_labels(str(tmp_path), ALL)
    rows.tail(30).write_csv(tmp_path / "tuesday.csv")
    fresh = new_label_objects(list_label_objects(str(tmp_path)), first.object_keys)
    assert [Path(item.uri).name for item in fresh] == ["tuesday.csv"]
    second = load_labels(str(tmp_path), ALL)
    assert set(second.new_rows(first.object_keys)["text"]) <= set(rows.tail(30)["text"])
    assert second.new_rows(second.object_keys).height == 0
    assert second.fingerprint != first.fingerprint


def test_fingerprint_does_not_depend_on_order(tmp_path: Path) -> None:
    rows = toy_rows(LabelKind.CLASSES, 40)
    one = make_label_set(rows, LabelKind.CLASSES, ALL)
    other = make_label_set(rows.reverse(), LabelKind.CLASSES, ALL)
    assert one.fingerprint == other.fingerprint


@pytest.mark.s3
def test_labels_are_read_from_object_storage(s3_bucket: str) -> None:
    import fsspec

    rows = toy_rows(LabelKind.PAIRS, 30)
    with fsspec.open(f"{s3_bucket}/labels/a.jsonl", "wb") as file:
        file.write(rows.write_ndjson().encode())
    labels = load_labels(f"{s3_bucket}/labels", ALL)
    assert labels.train.height == rows.unique().height
    assert labels.objects[0].uri == f"{s3_bucket}/labels/a.jsonl"
    with pytest.raises(MissingError):
        load_labels(f"{s3_bucket}/nothing", ALL)


def test_files_without_rows_are_named(tmp_path: Path) -> None:
    first = tmp_path / "a.csv"
    first.touch()
    with pytest.raises(
        LabelError, match=r"a\.csv: there are no labels in it: add rows, for example with the columns text"
    ):
        load_labels(str(first))
    (tmp_path / "b.csv").write_text("text,label\n")
    with pytest.raises(LabelError, match=r"a\.csv and 1 other file: there are no labels in them: add rows"):
        load_labels(str(tmp_path))


def test_labels_that_are_only_measured_on_need_no_train_rows(tmp_path: Path) -> None:
    toy_rows(LabelKind.SCORED_PAIRS, 40).write_ndjson(tmp_path / "test.jsonl")
    labels = load_labels(str(tmp_path), to_train=False)
    assert labels.train.height == 0
    assert labels.dev.height == 0
    assert labels.test.height == 40
    with pytest.raises(
        TooFewLabelsError, match=r"0 rows to train on.* label more. 40 rows read: 0 train, 0 dev, 40 test"
    ):
        load_labels(str(tmp_path))


def test_columns_to_keep_stay_with_their_rows(tmp_path: Path) -> None:
    rows = classes(TWENTY, ["a", "b"] * 10).with_columns(lang=pl.Series(["de", "en"] * 10), year=pl.Series(range(20)))
    rows.head(10).write_ndjson(tmp_path / "a.jsonl")
    rows.tail(10).drop("lang").write_csv(tmp_path / "b.csv")
    settings = ALL.model_copy(update={"keep_columns": ("lang", "year", "label", "object")})
    labels = load_labels(str(tmp_path), settings)
    assert labels.train.columns == ["text", "label", "lang", "year", "row_id", "object"]
    expected = rows.with_columns(
        pl.when(pl.col("year") < 10).then("lang").alias("lang"), pl.col("year").cast(pl.String)
    )
    assert labels.train.select(rows.columns).sort("text").equals(expected.sort("text"))
    assert labels.fingerprint == load_labels(str(tmp_path), ALL).fingerprint
    with pytest.raises(
        ColumnError, match=r"no column 'country' to keep .* in any of 2 objects, .* 'text', 'label', 'lang', 'year'"
    ):
        load_labels(str(tmp_path), ALL.model_copy(update={"keep_columns": ("country",)}))


def test_unknown_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    pl.DataFrame({"foo": ["a"], "bar": ["b"]}).write_csv(path)
    with pytest.raises(ColumnError, match=r"the columns foo, bar are of no kind of labels .*csv_columns"):
        load_labels(str(path))
    with pytest.raises(ColumnError, match="classes need a column 'text', the columns are: 'foo', 'bar'"):
        load_labels(str(path), LabelSettings(kind=LabelKind.CLASSES))
    with pytest.raises(ColumnError, match="no column 'topic', the columns are: 'foo', 'bar'"):
        load_labels(str(path), LabelSettings(columns={"label": "topic"}))
    with pytest.raises(SettingsError, match="columns names 'topic'"):
        load_labels(str(path), LabelSettings(columns={"topic": "foo"}))
    with pytest.raises(ColumnError, match="has 2 columns, csv_columns names 3"):
        load_labels(str(path), LabelSettings(csv_columns=("a", "b", "c")))


def test_labels_behind_a_link_whose_target_is_gone_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").symlink_to(tmp_path / "not-mounted" / "labels.csv")
    with pytest.raises(BrokenObjectError, match=r"labels.csv: cannot be opened: a link to .*not-mounted"):
        load_labels(str(tmp_path))


def test_objects_of_two_kinds_are_refused(tmp_path: Path) -> None:
    toy_rows(LabelKind.CLASSES, 20).write_csv(tmp_path / "a.csv")
    toy_rows(LabelKind.PAIRS, 20).write_csv(tmp_path / "b.csv")
    with pytest.raises(LabelError, match=r"b.csv: holds pairs, other objects hold classes"):
        load_labels(str(tmp_path))


def test_leakage_between_given_splits_is_reported_and_refused(tmp_path: Path) -> None:
    train = classes([f"how do i reset password {number} please" for number in range(40)], ["a", "b"] * 20)
    test = classes([f"where is the train to hamburg {number}" for number in range(18)], ["a", "b"] * 9)
    twins = classes(["How do I reset password 3, please?", "how do i reset password 7 please"], ["b", "b"])
    train.write_csv(tmp_path / "train.csv")
    pl.concat([test, twins]).write_csv(tmp_path / "test.csv")
    settings = LabelSettings(dev_share=0, near_duplicate_similarity=0.98)
    with pytest.raises(
        LeakageError, match=r"2 of 20 test rows \(10.0%\) are also in another split, above max_leakage 5.0%"
    ):
        load_labels(str(tmp_path), settings)
    labels = load_labels(str(tmp_path), settings.model_copy(update={"max_leakage": 0.2}))
    assert labels.leakage.num_leaking == {"test": 2}
    assert labels.leakage.share == 0.1
    assert labels.test.height == 20
    assert labels.train.height == 38  # the twins are not learned from
    assert labels.num_rejected == {"twin_held_out": 2}


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"score_min 1.0 is not below score_max 1.0"):
        LabelSettings(score_min=1)
    with pytest.raises(ValidationError, match="leave nothing to train on"):
        LabelSettings(dev_share=0.5, test_share=0.5)
