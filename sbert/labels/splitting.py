"""Split rows into train, dev and test so that rows never move and no text is in two splits.

The one idea: the hash of its first text alone decides where a row belongs. So a row stays in its split for ever, whatever
labels join it. Splits have a rank: test, then dev, then train. A row whose text is nearly the same as a text of a split of
higher rank is left out, not moved. In expectation the hash gives every class and every range of scores the same shares.
"""

import numpy as np
import polars as pl

from sbert.errors import LeakageError
from sbert.labels.label_kinds import KEY_COLUMNS, LabelKind
from sbert.labels.label_set import LeakageReport
from sbert.labels.near_duplicates import normalize_texts, text_clusters
from sbert.labels.settings import LabelSettings
from sbert.rows.cleaning import hash_texts

__all__ = ["assign_splits", "leave_out_twins"]

RANKS = {"train": 0, "dev": 1, "test": 2}
NUM_EXAMPLES = 5


def assign_splits(rows: pl.DataFrame, kind: LabelKind, settings: LabelSettings) -> pl.DataFrame:
    """Fill ``split`` where the source does not name it.

    When the source names a test split and no dev split, dev is hashed out of train. When it names neither, both are hashed
    out. When it names a dev split and no test split, train stays as it is.
    """
    given = set(rows["split"].drop_nulls().unique().to_list())
    test_share = 0.0 if "test" in given else settings.test_share
    dev_share = 0.0 if "dev" in given else settings.dev_share
    open_rows = pl.col("split").is_null()
    if "test" in given and "dev" not in given:
        open_rows = open_rows | (pl.col("split") == "train")
    place = pl.Series("place", _places(rows, kind, settings))
    hashed = (
        pl.when(place < test_share)
        .then(pl.lit("test"))
        .when(place < test_share + dev_share)
        .then(pl.lit("dev"))
        .otherwise(pl.lit("train"))
    )
    return rows.with_columns(pl.when(open_rows).then(hashed).otherwise("split").alias("split"))


def _places(rows: pl.DataFrame, kind: LabelKind, settings: LabelSettings) -> np.ndarray:
    """Return a number in [0, 1) for each row, from the hash of its first text; for a scored pair the lower of two."""
    names = KEY_COLUMNS[kind] if kind is LabelKind.SCORED_PAIRS else KEY_COLUMNS[kind][:1]
    columns = []
    for name in names:
        keys = pl.select(pl.format("{}\x1f{}", pl.lit(settings.split_seed), normalize_texts(rows[name]))).to_series()
        digests = np.frombuffer(b"".join(hash_texts(keys).to_list()), dtype=">u8")[::2]
        columns.append(digests.astype(np.float64) / 2.0**64)
    return np.min(columns, axis=0) if len(columns) == 1 else _spread(np.min(columns, axis=0))


def _spread(lowest: np.ndarray) -> np.ndarray:
    """Make the lower of two uniform numbers uniform again."""
    return 1.0 - (1.0 - lowest) ** 2


def leave_out_twins(
    rows: pl.DataFrame, kind: LabelKind, settings: LabelSettings, *, given: frozenset[str]
) -> tuple[pl.DataFrame, LeakageReport]:
    """Drop the rows that have a nearly identical twin in a split of higher rank, and report them.

    In a hashed split one shared text makes two rows twins. Two equal positives alone do not: many questions have one
    answer. In a `given` split (dev or test that the source names) all texts must be shared, because the source may have
    split rows that share one text on purpose.

    Raises:
        LeakageError: when more than `max_leakage` of the rows of a given split are also in a split of lower rank.
    """
    names = KEY_COLUMNS[kind]
    clusters = _clusters(rows, names, settings.near_duplicate_similarity)
    marked = rows.with_columns(
        *(pl.Series(f"cluster:{name}", column) for name, column in zip(names, clusters, strict=True)),
        pl.col("split").replace_strict(RANKS, return_dtype=pl.Int8).alias("rank"),
        pl.col("split").is_in(sorted(given)).alias("given"),
    ).with_row_index("number")
    of_row = pl.concat_list([f"cluster:{name}" for name in names]).list.sort().list.eval(pl.element().cast(pl.String))
    marked = marked.with_columns(of_row.list.join(",").alias("key"))
    whole, by_text = _whole_twins(marked), _text_twins(marked, names)
    report = _report(marked, whole if given else by_text, names, given=given)
    if given and report.share > settings.max_leakage:
        worst = max(report.num_rows, key=lambda name: report.num_leaking.get(name, 0) / max(1, report.num_rows[name]))
        examples = "; ".join(f"{ours!r} = {theirs!r}" for ours, theirs in report.examples[:2])
        raise LeakageError(
            f"{report.num_leaking[worst]} of {report.num_rows[worst]} {worst} rows ({report.share:.1%}) are also in another "
            f"split, above max_leakage {settings.max_leakage:.1%}: {examples}. Split the labels anew "
            "(use_given_splits=false, no split_column), or remove these rows from train"
        )
    losers = pl.concat([whole["number"], by_text["number"]]).unique()
    kept = marked.filter(~pl.col("number").is_in(losers.implode()))
    return kept.select(rows.columns), report


def _clusters(rows: pl.DataFrame, names: tuple[str, ...], similarity: float) -> list[np.ndarray]:
    columns = [normalize_texts(rows[name]) for name in names]
    distinct = pl.concat(columns).unique().sort()
    of_text = pl.DataFrame({"text": distinct, "cluster": text_clusters(distinct, similarity)})
    return [
        pl.DataFrame({"text": column}).join(of_text, on="text", how="left", maintain_order="left")["cluster"].to_numpy()
        for column in columns
    ]


def _whole_twins(marked: pl.DataFrame) -> pl.DataFrame:
    """Return pairs of rows that share all texts, in any order; the second row is in a given split of higher rank."""
    keyed = marked.select("number", "rank", "given", "key")
    best = keyed.filter("given").sort("rank", "number", descending=[True, False])
    best = best.unique("key", keep="first", maintain_order=True).drop("given")
    joined = keyed.join(best.rename({"number": "twin", "rank": "twin_rank"}), on="key")
    return joined.filter(pl.col("rank") < pl.col("twin_rank")).select("number", "twin")


def _text_twins(marked: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """Return pairs of rows that share any text; the second row is in a hashed split of higher rank."""
    long = pl.concat(
        [
            marked.select(
                "number",
                "rank",
                "given",
                pl.col(f"cluster:{name}").alias("cluster"),
                pl.lit(name == "positive").alias("is_answer"),
            )
            for name in names
        ]
    )
    twins = []
    for ours in (False, True):
        others = long.filter(~pl.col("given"))
        others = others.filter(~pl.col("is_answer")) if ours else others
        best = others.sort("rank", "number", descending=[True, False]).unique(
            "cluster", keep="first", maintain_order=True
        )
        joined = long.filter(pl.col("is_answer") == ours).join(
            best.select("cluster", pl.col("number").alias("twin"), pl.col("rank").alias("twin_rank")), on="cluster"
        )
        twins.append(joined.filter(pl.col("rank") < pl.col("twin_rank")).select("number", "twin"))
    return pl.concat(twins)


def _report(
    marked: pl.DataFrame, twins: pl.DataFrame, names: tuple[str, ...], *, given: frozenset[str]
) -> LeakageReport:
    """Count rows that have a twin. In given splits the held-out rows are counted, in hashed splits the rows left out."""
    text = pl.concat_str(list(names), separator=" / ").alias("text")
    described = marked.select("number", "split", text)
    pairs = twins.join(described, on="number").join(described.rename({"number": "twin"}), on="twin", suffix="_twin")
    counted = marked.filter("given") if given else marked
    in_lower = pl.col("number").is_in(twins["number"].unique().implode())
    if given:
        lowest = marked.group_by("key").agg(pl.col("rank").min().alias("lowest"))
        counted, in_lower = counted.join(lowest, on="key"), pl.col("lowest") < pl.col("rank")
    leaking = counted.filter(in_lower).group_by("split").len()
    rows = dict(counted.group_by("split").len().iter_rows())
    sample = pairs.sort("number").head(NUM_EXAMPLES)
    return LeakageReport(
        num_rows=dict(sorted(rows.items())),
        num_leaking=dict(sorted(leaking.iter_rows())),
        examples=tuple(zip(sample["text_twin"].to_list(), sample["text"].to_list(), strict=True)),
    )
