"""Estimate rows, tokens and seconds of a plan, from the rates that an earlier run measured.

Before objects are read, only their sizes are known, and the rows of the files of source tables. Rows and tokens per byte,
and bytes per second, come from the commit of the newest run that encoded something. Texts that the table has show only in
reading, so tokens are an upper bound.
"""

from pydantic import BaseModel, ConfigDict, Field

from sbert.refresh.plan import Plan
from sbert.table.commit_record import recorded_in

__all__ = ["Estimate", "estimate_plan"]

MAX_COMMITS = 30
"""Commits that are searched for rates, from the newest back."""


class Estimate(BaseModel):
    """Work that a plan will take; rows, tokens and seconds are empty where no earlier run measured any."""

    model_config = ConfigDict(frozen=True)

    num_objects: int = Field(description="Source objects to read.")
    num_bytes: int = Field(description="Bytes to read, as they are stored.")
    num_rows: int | None = Field(default=None, description="Rows to read, by the rows a byte of an earlier run.")
    num_tokens: int | None = Field(default=None, description="Tokens to encode at most, if no text is known.")
    seconds: dict[str, float] = Field(
        default_factory=dict, description="Time by stage: plan, build, publish (seconds)."
    )
    measured_in: int | None = Field(default=None, description="Version whose run measured the rates.")


def estimate_plan(plan: Plan, plan_seconds: float) -> Estimate:
    """Estimate the work of a plan that took `plan_seconds` to make."""
    objects = {span.object.uri for planned in plan.build for span in planned.split.spans}
    num_bytes = plan.num_bytes_to_read
    counted = _rows_in_logs(plan)
    sizes = Estimate(
        num_objects=len(objects), num_bytes=num_bytes, num_rows=counted, seconds={"plan": round(plan_seconds, 3)}
    )
    table = plan.open_base()
    if table is None or not plan.build:
        return sizes
    for entry in table.history(MAX_COMMITS):
        past = recorded_in(entry)
        stages, read = past.get("stages") or {}, past.get("num_bytes_read") or 0
        if not (read and past.get("num_texts_encoded") and stages.get("build")):
            continue  # a run that encoded nothing has no rate of encoding
        num_rows = round(num_bytes * past["num_rows_read"] / read) if counted is None else counted
        tokens_per_row = past["num_tokens_encoded"] / past["num_texts_encoded"]
        seconds = {"build": stages["build"] * num_bytes / read, "publish": stages.get("publish", 0.0)}
        return sizes.model_copy(
            update={
                "num_rows": num_rows,
                "num_tokens": round(num_rows * tokens_per_row),
                "seconds": sizes.seconds | {stage: round(value, 3) for stage, value in seconds.items()},
                "measured_in": entry.get("version"),
            }
        )
    return sizes


def _rows_in_logs(plan: Plan) -> int | None:
    """Return the rows of the splits to build as the logs of source tables have them; None if an object is in no log."""
    num_rows = 0.0
    for span in (span for planned in plan.build for span in planned.split.spans):
        item = span.object
        if item.num_rows is None:
            return None
        share = 1.0 if span.start is None or span.stop is None else (span.stop - span.start) / item.num_bytes
        num_rows += item.num_rows * share
    return round(num_rows) if plan.build else None
