"""The columns that a task of several classes a row adds to the output."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sbert.apply.classification.head import Float32, Float64
from sbert.apply.classification.multi_label_head import MultiLabelHead
from sbert.apply.classification.words import Texts

__all__ = ["MULTI_LABEL_FIELDS", "multi_label_values", "ordered_lists"]

MULTI_LABEL_FIELDS = (
    pa.field("labels", pa.list_(pa.string())),
    pa.field("probabilities", pa.list_(pa.float32())),
    pa.field("probability", pa.float32()),
    pa.field("possible", pa.list_(pa.string())),
    pa.field("abstained", pa.bool_()),
)
"""The classes of a row, the likeliest first; the probability of each; that of the whole list; the classes that are not ruled
out; and whether the head abstains."""


def multi_label_values(head: MultiLabelHead, vectors_ND: Float32, texts: Texts | None) -> dict[str, pa.Array]:
    """Return the columns of a block of rows, and ``by_rules`` where the head has rules."""
    probabilities_NC = head.probabilities(vectors_ND, texts)
    named_NC = head.named(probabilities_NC)
    classes = pa.array(head.classes, pa.string())
    labels, probabilities = ordered_lists(named_NC, probabilities_NC, classes)
    values = {
        "labels": labels,
        "probabilities": probabilities,
        "probability": pa.array(head.list_probabilities(probabilities_NC).astype(np.float32)),
        "possible": ordered_lists(head.possible(probabilities_NC), probabilities_NC, classes)[0],
        "abstained": pa.array(head.abstains(probabilities_NC)),
    }
    if head.record.text_column:
        silent_NC = head.named(head.probabilities(vectors_ND, texts, with_rules=False))
        values["by_rules"] = pa.array((named_NC != silent_NC).any(axis=1))
    return values


def ordered_lists(
    taken_NC: npt.NDArray[np.bool_], probabilities_NC: Float64, classes: pa.Array
) -> tuple[pa.ListArray, pa.ListArray]:
    """Return the classes that are taken for each row, the likeliest first, and their probabilities in the same order."""
    order_NC = np.argsort(-probabilities_NC, axis=1, kind="stable")
    ordered_NC = np.take_along_axis(taken_NC, order_NC, axis=1)
    offsets = pa.array(np.concatenate([[0], np.cumsum(ordered_NC.sum(axis=1))]).astype(np.int32))
    values = np.take_along_axis(probabilities_NC, order_NC, axis=1)[ordered_NC].astype(np.float32)
    return (
        pa.ListArray.from_arrays(offsets, classes.take(pa.array(order_NC[ordered_NC]))),
        pa.ListArray.from_arrays(offsets, pa.array(values)),
    )
