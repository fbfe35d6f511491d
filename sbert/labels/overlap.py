"""Rows of a set that is measured on which were, or nearly were, trained on.

Train, dev and test of one source are held apart when they are split (`sbert.labels.splitting`). Sets that come from
elsewhere are only looked at here: nothing is taken out of them, so that they stay what they were for every version.
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
    """Count the rows of a measured set that are in the train rows.

    Of one kind, a row is when a train row has all its texts, in any order: what counts between given splits. Of two
    kinds, when each of its texts is in some train row.

    Args:
        name: the set's, in the report.
        rows: what is measured on, with the columns of `kind`.
        kind: its kind of labels.
        train: what is trained on, with the columns of `train_kind`.
        train_kind: its kind of labels.
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
        known = pl.concat(their_clusters).unique()
        leaking = pl.select(pl.all_horizontal([column.is_in(known.implode()) for column in our_clusters])).to_series()
    first = pl.concat(
        [
            pl.DataFrame({"cluster": column, "theirs": train[text]})
            for column, text in zip(their_clusters, KEY_COLUMNS[train_kind], strict=True)
        ]
    ).unique("cluster", keep="first", maintain_order=True)
    found = pl.DataFrame({"cluster": our_clusters[0], "ours": rows[KEY_COLUMNS[kind][0]]}).filter(leaking)
    examples = found.head(NUM_EXAMPLES).join(first, on="cluster", maintain_order="left")
    return LeakageReport(
        num_rows={name: rows.height},
        num_leaking={name: found.height},
        examples=tuple(zip(examples["ours"].to_list(), examples["theirs"].to_list(), strict=True)),
    )


def _clusters(columns: list[pl.Series], of_text: pl.DataFrame) -> list[pl.Series]:
    return [
        pl.DataFrame({"text": column}).join(of_text, on="text", how="left", maintain_order="left")["cluster"]
        for column in columns
    ]


def _whole(clusters: list[pl.Series]) -> pl.Series:
    """Give one key a row: the clusters of its texts, sorted."""
    named = [column.alias(str(number)) for number, column in enumerate(clusters)]
    return pl.select(
        pl.concat_list(named).list.sort().list.eval(pl.element().cast(pl.String)).list.join(",")
    ).to_series()
