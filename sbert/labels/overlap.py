"""Find evaluation rows that also occur, exactly or nearly, in the training rows.

Train, dev and test of one source are separated when they are split (`sbert.labels.splitting`). Evaluation sets from
elsewhere are only checked here. No row is removed from them, so that every version is measured on the same rows.
"""

import polars as pl

from sbert.labels.label_kinds import KEY_COLUMNS, LabelKind
from sbert.labels.label_set import LeakageReport
from sbert.labels.near_duplicates import normalize_texts, text_clusters

__all__ = ["find_overlap"]

NUM_EXAMPLES = 5


def find_overlap(
    name: str, rows: pl.DataFrame, kind: LabelKind, train: pl.DataFrame, train_kind: LabelKind, similarity: float
) -> LeakageReport:
    """Count the rows of an evaluation set that also occur in the train rows.

    When both have the same kind of labels, a row occurs in train when a train row has all its texts, in any order. When
    the kinds differ, it occurs when each of its texts is in some train row.

    Args:
        name: name of the set in the report.
        rows: the evaluation rows, with the columns of `kind`.
        kind: their kind of labels.
        train: the train rows, with the columns of `train_kind`.
        train_kind: their kind of labels.
        similarity: Jaccard similarity of 3-character shingles from which two texts count as the same (0 to 1).
    """
    ours = [normalize_texts(rows[column]) for column in KEY_COLUMNS[kind]]
    theirs = [normalize_texts(train[column]) for column in KEY_COLUMNS[train_kind]]
    distinct = pl.concat([*ours, *theirs]).unique().sort()
    of_text = pl.DataFrame({"text": distinct, "cluster": text_clusters(distinct, similarity)})
    our_clusters, their_clusters = _clusters(ours, of_text), _clusters(theirs, of_text)
    if kind is train_kind:
        keys = _whole(their_clusters).unique()
        leaking = _whole(our_clusters).is_in(keys.implode())
    else:
        train_clusters = pl.concat(their_clusters).unique()
        leaking = pl.select(
            pl.all_horizontal([column.is_in(train_clusters.implode()) for column in our_clusters])
        ).to_series()
    first = pl.concat(
        [
            pl.DataFrame({"cluster": column, "theirs": train[text]})
            for column, text in zip(their_clusters, KEY_COLUMNS[train_kind], strict=True)
        ]
    ).unique("cluster", keep="first", maintain_order=True)
    leaking_rows = pl.DataFrame({"cluster": our_clusters[0], "ours": rows[KEY_COLUMNS[kind][0]]}).filter(leaking)
    examples = leaking_rows.head(NUM_EXAMPLES).join(first, on="cluster", maintain_order="left")
    return LeakageReport(
        num_rows={name: rows.height},
        num_leaking={name: leaking_rows.height},
        examples=tuple(zip(examples["ours"].to_list(), examples["theirs"].to_list(), strict=True)),
    )


def _clusters(columns: list[pl.Series], of_text: pl.DataFrame) -> list[pl.Series]:
    return [
        pl.DataFrame({"text": column}).join(of_text, on="text", how="left", maintain_order="left")["cluster"]
        for column in columns
    ]


def _whole(clusters: list[pl.Series]) -> pl.Series:
    """Return one key for each row: the sorted clusters of its texts."""
    named = [column.alias(str(number)) for number, column in enumerate(clusters)]
    return pl.select(
        pl.concat_list(named).list.sort().list.eval(pl.element().cast(pl.String)).list.join(",")
    ).to_series()
