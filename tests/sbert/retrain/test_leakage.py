"""Sets that are measured on share no rows with what is trained on, or it is said, or refused."""

from pathlib import Path

import polars as pl
import pytest

from sbert.errors import LeakageError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.load import load_labels
from sbert.labels.overlap import find_overlap
from sbert.labels.settings import LabelSettings
from sbert.retrain.label_rows import check_leakage, deciding_labels, evaluation_sets
from sbert.retrain.retrain_inputs import find_inputs
from sbert.retrain.settings import LabelledSet, RetrainJob, RetrainSettings
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_rows

LOOSE = LabelSettings(near_duplicate_similarity=1.0, test_share=0.3, dev_share=0.3)
WHOLE = LabelSettings(near_duplicate_similarity=1.0, max_leakage=0.1)
PAIRS = pl.DataFrame(
    {
        "sentence1": ["How do I reset my password?", "a train to hamburg is late", "the cat sat on the mat"],
        "sentence2": ["i cannot remember my password", "the train is delayed", "a cat is sitting"],
        "score": [0.9, 0.8, 0.7],
    }
)


@pytest.mark.parametrize(
    ("held", "num_leaking"),
    [
        ([("i cannot remember my password", "how do I reset my password")], 1),  # the other way round, other signs
        ([("the cat sat on the mat!", "a cat is sitting on a mat")], 0),  # one text alone is another pair
        ([("a train to hamburg is late", "the train is delayed"), ("one", "two")], 1),
    ],
)
def test_a_pair_is_shared_when_both_texts_are(held: list[tuple[str, str]], num_leaking: int) -> None:
    rows = pl.DataFrame([(*pair, 0.5) for pair in held], schema=PAIRS.columns, orient="row")
    overlap = find_overlap("sts", rows, LabelKind.SCORED_PAIRS, PAIRS, LabelKind.SCORED_PAIRS, 0.85)
    assert overlap.num_rows == {"sts": len(held)}
    assert overlap.num_leaking == {"sts": num_leaking}
    assert len(overlap.examples) == num_leaking


def test_of_another_kind_a_row_is_shared_when_its_texts_are() -> None:
    rows = pl.DataFrame({"text": ["the train is delayed", "no such text"], "label": ["a", "b"]})
    overlap = find_overlap("topics", rows, LabelKind.CLASSES, PAIRS, LabelKind.SCORED_PAIRS, 0.85)
    assert overlap.share == 0.5
    assert overlap.examples == (("the train is delayed", "the train is delayed"),)


def with_regression_set(folder: Path, num_shared: int, kind: LabelKind = LabelKind.SCORED_PAIRS) -> RetrainJob:
    """Labels, and a regression set of 100 test rows; the first `num_shared` of them are train rows."""
    uri = str(folder / "labels.jsonl")
    toy_rows(kind, 200).write_ndjson(uri)
    train = load_labels(uri, LOOSE).train
    names = [name for name in ("sentence1", "sentence2", "score", "text") if name in train.columns]
    strange = toy_rows(kind, 100 - num_shared, seed=5)
    test = pl.concat([train.select(names).head(num_shared), strange.select(names).cast(train.select(names).schema)])
    if kind is LabelKind.TEXTS:
        test = test.with_columns(pl.Series("label", [f"topic {number % 2}" for number in range(100)]))
    (folder / "skill").mkdir()
    test.write_ndjson(folder / "skill/test.jsonl")
    if kind is LabelKind.TEXTS:  # of classes, a classifier is fitted
        toy_rows(LabelKind.CLASSES, 30, seed=6).write_ndjson(folder / "skill/train.jsonl")
    skill = LabelledSet(name="old", uri=str(folder / "skill"), labels=WHOLE)
    held_out = skill.model_copy(update={"name": "sts"}) if kind is LabelKind.TEXTS else None
    settings = RetrainSettings(labels=LOOSE, regression_sets=(skill,), held_out=held_out)
    return RetrainJob(labels_uri=uri, models_uri=str(folder / "models"), base=save_tiny(folder), settings=settings)


def test_a_regression_set_that_is_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LeakageError, match=r"old: 11 of 100 rows \(11\.0%\) are also among the train rows .* 10\.0%"):
        find_inputs(with_regression_set(tmp_path, 11), "run")
    assert not (tmp_path / "models").exists()


def test_a_small_overlap_is_reported_and_accepted(tmp_path: Path) -> None:
    [record] = find_inputs(with_regression_set(tmp_path, 10), "run").labels.leakage
    assert record.name == "old"
    assert record.num_leaking == 10
    assert record.num_rows == 100


def test_plain_texts_give_no_label_away(tmp_path: Path) -> None:
    job = with_regression_set(tmp_path, 50, LabelKind.TEXTS)
    labels = load_labels(job.labels_uri, LOOSE)
    sets = evaluation_sets(job, deciding_labels(job, labels))
    shares = [report.share for report in check_leakage(job, labels, sets)]
    assert shares == [0.5, 0.5]  # the held-out set and the regression set
