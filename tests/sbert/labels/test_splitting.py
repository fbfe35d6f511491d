"""Rows never move, near-identical texts never straddle, shares hold within classes."""

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sbert.errors import LeakageError
from sbert.labels.label_kinds import LabelKind
from sbert.labels.label_set import LabelSet
from sbert.labels.load import make_label_set
from sbert.labels.near_duplicates import normalize_texts, text_clusters
from sbert.labels.settings import LabelSettings

WORDS = "card cash limit lost stolen pin code bank app money order refund top up rate fee atm transfer pending cheque".split()


def questions(count: int, seed: int = 0) -> pl.DataFrame:
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(5, 12))) for _ in range(count)]
    return pl.DataFrame({"text": texts, "label": [str(number % 4) for number in range(count)]}).unique(
        "text", maintain_order=True
    )


def where(labels: LabelSet) -> dict[str, str]:
    return {row_id: name for name in ("train", "dev", "test") for row_id in getattr(labels, name)["row_id"].to_list()}


@settings(max_examples=15, deadline=None)
@given(cut=st.integers(40, 390), seed=st.integers(0, 5))
def test_a_row_never_moves_as_labels_grow(cut: int, seed: int) -> None:
    rows = questions(400, seed)
    early = where(make_label_set(rows.head(cut), LabelKind.CLASSES))
    late = where(make_label_set(rows.sample(fraction=1, shuffle=True, seed=1), LabelKind.CLASSES))
    moved = {row for row in early.keys() & late.keys() if early[row] != late[row]}
    assert not moved


def test_shares_hold_within_every_class() -> None:
    labels = make_label_set(questions(4000), LabelKind.CLASSES, LabelSettings(dev_share=0.2, test_share=0.1))
    for name, share in (("dev", 0.2), ("test", 0.1)):
        frame = getattr(labels, name)
        for label in "0123":
            size = sum(each.filter(label=label).height for each in (labels.train, labels.dev, labels.test))
            assert frame.filter(label=label).height / size == pytest.approx(share, abs=0.05)


def test_shares_of_scored_pairs_hold() -> None:
    """The lower of two hashes decides, which must not change the shares."""
    texts = questions(3000)["text"]
    rows = pl.DataFrame({"sentence1": texts[:1400], "sentence2": texts[1400:2800], "score": [0.2, 0.7] * 700})
    labels = make_label_set(rows, LabelKind.SCORED_PAIRS, LabelSettings(dev_share=0.2, test_share=0.2))
    assert labels.dev.height / 1400 == pytest.approx(0.2, abs=0.03)
    assert labels.test.height / 1400 == pytest.approx(0.2, abs=0.03)


def test_near_identical_texts_do_not_straddle() -> None:
    rows = questions(300)
    variants = rows.with_columns(pl.format("{} !!", pl.col("text").str.to_uppercase()).alias("text"))
    typos = rows.with_columns(pl.format("{}s", pl.col("text")).alias("text"))
    labels = make_label_set(pl.concat([rows, variants, typos]), LabelKind.CLASSES)
    assert labels.dev.height > 0
    parts = {name: normalize_texts(getattr(labels, name)["text"]) for name in ("train", "dev", "test")}
    everything = pl.concat(list(parts.values())).unique()
    cluster = dict(zip(everything.to_list(), text_clusters(everything, 0.85).tolist(), strict=True))
    of = {name: {cluster[text] for text in texts} for name, texts in parts.items()}
    assert not of["train"] & of["test"]
    assert not of["train"] & of["dev"]
    assert not of["dev"] & of["test"]
    assert labels.num_rejected["twin_held_out"] > 0


def test_pairs_of_one_answer_may_be_split_but_equal_questions_may_not() -> None:
    asked = questions(200)["text"]
    rows = pl.DataFrame({"anchor": asked, "positive": [f"the answer {number % 3}" for number in range(len(asked))]})
    labels = make_label_set(rows, LabelKind.PAIRS)
    assert labels.num_rejected.get("twin_held_out", 0) < 20
    turned = pl.DataFrame({"anchor": asked[:100], "positive": asked[100:200]})
    both = pl.concat([turned, turned.select(pl.col("positive").alias("anchor"), pl.col("anchor").alias("positive"))])
    labels = make_label_set(both, LabelKind.PAIRS)
    held = set(labels.test["anchor"]) | set(labels.test["positive"])
    assert not held & (set(labels.train["anchor"]) | set(labels.train["positive"]))


def with_variants(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    return pl.concat([rows, rows.with_columns(pl.format("{}s", pl.col(column)).alias(column))])


def test_dev_hashed_out_of_train_shares_no_text_with_it_and_refuses_nothing() -> None:
    asked = questions(430)["text"]
    pairs = pl.DataFrame({"anchor": asked, "positive": [f"answer {number}" for number in range(len(asked))]})
    train = with_variants(pairs.head(380), "anchor").with_columns(pl.lit("train").alias("split"))
    test = pairs.tail(40).with_columns(pl.lit("test").alias("split"))
    labels = make_label_set(pl.concat([train, test]), LabelKind.PAIRS)
    assert labels.splits_given == {"test"}
    assert labels.leakage.num_rows == {"test": 40}
    assert labels.leakage.share == 0
    assert labels.dev.height > 20
    assert labels.test.height == 40
    parts = {name: normalize_texts(getattr(labels, name)["anchor"]) for name in ("train", "dev")}
    everything = pl.concat(list(parts.values())).unique()
    cluster = dict(zip(everything.to_list(), text_clusters(everything, 0.85).tolist(), strict=True))
    assert not {cluster[text] for text in parts["train"]} & {cluster[text] for text in parts["dev"]}
    assert labels.num_rejected["twin_held_out"] > 10


def parts_of(rows: pl.DataFrame, **sizes: int) -> pl.DataFrame:
    """Name the first rows' split, then the next ones'."""
    names = [name for name, size in sizes.items() for _ in range(size)]
    return rows.head(len(names)).with_columns(pl.Series("split", names))


def test_a_given_dev_split_is_held_apart_although_no_test_split_is_given() -> None:
    rows = questions(200)
    apart = parts_of(rows, train=100, dev=30)
    shared = apart.filter(split="train").head(20).with_columns(pl.lit("dev").alias("split"))
    exact = LabelSettings(near_duplicate_similarity=1)
    with pytest.raises(LeakageError, match=r"20 of 50 dev rows \(40\.0%\) are also in another split"):
        make_label_set(pl.concat([apart, shared]), LabelKind.CLASSES, exact)
    labels = make_label_set(pl.concat([apart, shared]), LabelKind.CLASSES, exact.model_copy(update={"max_leakage": 1}))
    assert labels.splits_given == {"dev"}
    assert labels.leakage.num_leaking == {"dev": 20}
    assert labels.train.height == 80
    assert labels.dev.height == 50
    assert labels.test.height == 0


def test_held_out_rows_that_repeat_each_other_leak_each() -> None:
    apart = parts_of(questions(200), train=100, dev=20, test=20)
    learned = apart.filter(split="train").head(1)
    repeated = pl.concat([learned] * 10).with_columns(pl.lit("test").alias("split"))
    with pytest.raises(LeakageError, match=r"10 of 30 test rows \(33\.3%\)"):
        make_label_set(pl.concat([apart, repeated]), LabelKind.CLASSES, LabelSettings(near_duplicate_similarity=1))


def test_a_train_row_leaks_into_dev_and_test() -> None:
    apart = parts_of(questions(200), train=100, dev=20, test=20)
    both = [apart.head(1).with_columns(pl.lit(name).alias("split")) for name in ("dev", "test")]
    labels = make_label_set(
        pl.concat([apart, *both]), LabelKind.CLASSES, LabelSettings(near_duplicate_similarity=1, max_leakage=0.1)
    )
    assert labels.leakage.num_leaking == {"dev": 1, "test": 1}


def brute_force(texts: list[str], similarity: float) -> set[frozenset[str]]:
    def shingles(text: str) -> set[str]:
        padded = f"  {text} "
        return {padded[place : place + 3] for place in range(len(padded) - 2)}

    sets = [shingles(text) for text in texts]
    group = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            if len(sets[i] & sets[j]) / len(sets[i] | sets[j]) >= similarity and group[i] != group[j]:
                group = [group[i] if each == group[j] else each for each in group]
    return {frozenset(text for text, each in zip(texts, group, strict=True) if each == number) for number in set(group)}


def test_clusters_are_those_of_comparing_all_pairs() -> None:
    rng = random.Random(3)
    texts = questions(60, seed=4)["text"].to_list()
    for text in texts[:40]:
        words = text.split()
        words[rng.randrange(len(words))] = rng.choice(WORDS)
        texts.append(" ".join(words))
        texts.append(text + " now")
    texts = sorted(set(texts))
    clusters = text_clusters(pl.Series(texts), 0.8).tolist()
    groups = {
        frozenset(text for text, each in zip(texts, clusters, strict=True) if each == number)
        for number in set(clusters)
    }
    assert groups == brute_force(texts, 0.8)
    assert max(map(len, groups)) > 1


def test_other_scripts_keep_their_letters() -> None:
    texts = pl.Series(["一架飞机正在起飞。", "Größe: 5 €", "हिन्दी  में", "👍", "?!"])
    assert normalize_texts(texts).to_list() == ["一架飞机正在起飞", "größe 5", "हिन्दी में", "👍", "?!"]
