"""The report for people: one HTML file that needs nothing else. Every text that comes from outside is escaped."""

import json
from importlib import resources
from typing import Any

import jinja2

from sbert.counted import counted
from sbert.evaluation.label_metrics import LOWER_IS_BETTER
from sbert.pages.page import page_style
from sbert.registry.version_record import VersionRecord
from sbert.retrain.judge import Judgement
from sbert.retrain.plots import curves_picture, gains_picture
from sbert.training.result import TrainingResult

__all__ = ["report_html"]

TEMPLATE = "report.html.j2"


def report_html(record: VersionRecord, judgement: Judgement, training: TrainingResult) -> str:
    """Return the report as HTML."""
    assert record.labels is not None
    decision = judgement.decision
    compared = [decision.primary, *decision.regression_sets, *decision.robustness]
    template = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    outcome, mood = _outcome(record, promoted=decision.promoted)
    return environment.from_string(template).render(
        style=page_style(),
        outcome=outcome,
        mood=mood,
        record=record,
        decision=decision,
        before=judgement.before,
        after=judgement.after,
        compared=compared,
        bias=list(zip(judgement.before.bias, judgement.after.bias, strict=True)),
        counts=", ".join(f"{count} {name}" for name, count in record.labels.counts.items()),
        training=training,
        evaluation=record.settings["evaluation"],
        settings=json.dumps(record.settings, indent=1, ensure_ascii=False),
        gains=gains_picture(compared, record.settings["gate"]["margin"]),
        curves=curves_picture(training.history, training.dev_before, training.best_step),
        counted=counted,
        arrow=lambda metric: "↓" if metric in LOWER_IS_BETTER else "↑",
        f=_number,
        signed=_signed,
    )


def _outcome(record: VersionRecord, *, promoted: bool) -> tuple[str, str]:
    """Return the outcome of the candidate, and the mood of the box: a page is written before a person decides."""
    if not promoted:
        return "refused", "bad"
    if record.awaits_approval:
        return "passed the gate, waits for a person", ""
    return "promoted", "good"


def _number(value: Any, digits: int = 4) -> str:
    return f"{value:,.{digits}f}"


def _signed(value: Any) -> str:
    return f"{value:+.4f}"
