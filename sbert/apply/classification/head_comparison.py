"""Compare a new head with the head in use, and say in words why the one or the other makes the output."""

from dataclasses import dataclass

import polars as pl

from sbert.apply.classification.head import Float32
from sbert.apply.classification.head_kinds import AnyHead, Quality, compare_heads, is_multi_label
from sbert.apply.classification.job import HeadName
from sbert.apply.classification.measures import HeadMeasures
from sbert.apply.classification.settings import ClassificationSettings
from sbert.counted import counted
from sbert.table.delta import Table

__all__ = ["HeadComparison", "compare_with_head_in_use", "reason_of_use"]

MIN_GROUP_ROWS = 20
"""Groups with fewer held-out rows are shown, but refuse no head."""
NAMED_CLASSES = 5
"""Classes that a message names."""


@dataclass(frozen=True)
class HeadComparison:
    """The outcome of a comparison."""

    objection: str | None = None
    """Why the head in use stays; None when the new one replaces it."""
    gain: str = ""
    """Macro-F1 of both on the same held-out rows, in words; empty where they were not compared."""


def compare_with_head_in_use(
    new: AnyHead,
    old: AnyHead | None,
    table: Table,
    test_ND: Float32,
    test: pl.DataFrame,
    quality: Quality | None,
    settings: ClassificationSettings,
) -> HeadComparison:
    """Compare two heads on held-out rows.

    Args:
        new: the head of the present labels.
        old: the head in use; None where it cannot be compared.
        table: the embeddings table.
        test_ND: vectors of the held-out rows.
        test: the rows, with the columns ``text`` and ``label``.
        quality: the new head on these rows; None without rows.
        settings: the limits.
    """
    if old is None or old.record.encoder_fingerprint != table.encoder.fingerprint or quality is None:
        return HeadComparison()
    if settings.max_group_gap is not None:
        for group in quality.groups:
            if group.num_rows >= MIN_GROUP_ROWS and group.gap.low > settings.max_group_gap:
                return HeadComparison(
                    f"the error of {group.column} = {group.value!r} is higher than that of the other rows by "
                    f"{group.gap.value:.3f} [{group.gap.low:.3f}, {group.gap.high:.3f}], surely above max_group_gap "
                    f"{settings.max_group_gap:g}"
                )
    after, before, gain = compare_heads(new, old, test_ND, test)
    rows = counted(test.height, "held-out row")
    if gain.value >= -settings.tolerance:
        values = f"macro-F1 {before:.4f} → {after:.4f} on {rows}"
        within = f", a drop within the tolerance of {settings.tolerance:g}" if gain.value < 0 else ""
        return HeadComparison(gain=values + within)
    return HeadComparison(
        f"macro-F1 drops by {-gain.value:.4f} ({before:.4f} → {after:.4f}, interval of the gain "
        f"[{gain.low:+.4f}, {gain.high:+.4f}]) on {rows}, more than the tolerance of {settings.tolerance:g}"
    )


def reason_of_use(
    in_use: HeadName | None,
    old: AnyHead | None,
    new: AnyHead,
    table: Table,
    gain: str,
    *,
    quality: Quality | None,
    before: HeadMeasures | None,
) -> str:
    """Return why the head of the present labels is used.

    Args:
        in_use: the head that made the output; None for a first output.
        old: that head; None where it is not there, or cannot be compared.
        new: the head that is used.
        table: the embeddings table.
        gain: as `HeadComparison` says it.
        quality: the new head on held-out rows; None without rows.
        before: what the last run measured of the head before; None where it is not known.
    """
    if in_use is None:
        return "the first head"
    if in_use.fingerprint == new.record.fingerprint:
        return "labels, encoder and settings did not change"
    if in_use.is_multi_label != is_multi_label(new):
        several = "can have several classes" if is_multi_label(new) else "has one class"
        return f"a row {several} now, which the head before cannot give"
    if old is None:
        return "the head before is no longer there, or the table no longer keeps the texts that it reads"
    if old.record.encoder_fingerprint != table.encoder.fingerprint:
        reason = "the table has another encoder, whose vectors the head before cannot classify"
        if quality is not None and before is not None and before.quality is not None:
            was, now = before.quality.macro_f1.value, quality.macro_f1.value
            reason += f": macro-F1 {now:.4f} on held-out rows, {was:.4f} of the head before when it was last measured"
    else:
        reason = gain or "there are no held-out rows to compare it with the head before"
    return reason + _changed_classes(old, new)


def _changed_classes(old: AnyHead, new: AnyHead) -> str:
    """Return the classes that only one of two heads has, in words; empty where both have the same."""
    parts = []
    for what, names in (("new", set(new.classes) - set(old.classes)), ("gone", set(old.classes) - set(new.classes))):
        if names:
            shown = ", ".join(map(repr, sorted(names)[:NAMED_CLASSES])) + ", …" * (len(names) > NAMED_CLASSES)
            parts.append(f"{counted(len(names), 'class', 'classes')} {what}: {shown}")
    return f" ({'; '.join(parts)})" if parts else ""
