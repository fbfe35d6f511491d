"""The receipt of an erasure: every place, the action there, and the look afterwards.

A receipt may be shown to the person whose rows were erased, and kept for years. So it holds nothing that was erased: no
text, no id, no source, no text hash, no vector. Keys appear as keyed hashes (`sbert.table.tombstones`).
"""

import datetime as dt
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted, listed

__all__ = ["RECEIPTS_FOLDER", "OutOfReach", "PlaceReport", "Receipt", "SeenBy", "receipt_markdown"]

RECEIPTS_FOLDER = "_erased/receipts"


class PlaceReport(BaseModel):
    """The work of an erasure in one place, and the result of the look afterwards."""

    model_config = ConfigDict(frozen=True)

    place: str = Field(description="Name of the place, such as `shards` or `vector store`.")
    location: str = Field(description="Where it is.")
    num_found: int = Field(default=0, description="Rows that were found there, in all versions and files.")
    action: str = Field(default="nothing to do", description="The action that was taken.")
    look: str = Field(default="", description="Result of the look afterwards.")
    num_left: int = Field(default=0, description="Rows that the look afterwards found.")
    problem: str = Field(default="", description="Why rows are left, or may be; empty when the place is clean.")

    @property
    def is_clean(self) -> bool:
        """Whether no row is left in this place."""
        return not (self.num_left or self.problem)


class SeenKind(StrEnum):
    """Labels and models that had seen an erased row; an erasure leaves them as they are."""

    LABELS = "labels"
    MODEL = "model"


class SeenBy(BaseModel):
    """Labels or a model that had seen erased rows. A person decides whether to change them."""

    model_config = ConfigDict(frozen=True)

    kind: SeenKind
    location: str
    num_rows: int = Field(
        description="Rows of the labels that have an erased key or text; or erased texts that a model learned from."
    )
    detail: str = ""


class OutOfReach(BaseModel):
    """A place that this command cannot search."""

    model_config = ConfigDict(frozen=True)

    place: str
    advice: str = Field(description="Advice for a person.")


class Receipt(BaseModel):
    """The results of an erasure; scripts rely on `num_rows_erased` and `receipt`."""

    model_config = ConfigDict(frozen=True)

    erasure: str = Field(description="Id of the erasure.")
    table_uri: str
    table_id: str
    begun_at: dt.datetime
    ended_at: dt.datetime
    requested_by: str = Field(description="User and machine that ran the command.")
    is_dry_run: bool = False
    num_keys: int = Field(description="Ids and pairs of source and id that were asked for.")
    hashed_keys: list[str] = Field(description="Keyed hashes of these.")
    num_rows_erased: int = Field(description="Rows that left the newest version of the table.")
    version_before: int
    version: int = Field(description="The table's version after the erasure.")
    refused_versions: list[int] = Field(description="Earlier versions that cannot be read any more.")
    places: list[PlaceReport]
    seen_by: list[SeenBy] = Field(description="Labels and models that had seen erased rows, left as they are.")
    out_of_reach: list[OutOfReach]
    num_not_found: int = Field(
        default=0, description="Keys that were found nowhere and that no earlier erasure named; their tombstones stay."
    )
    ids_not_found: list[str] = Field(
        default_factory=list, exclude=True, description="These keys, for the person who asked; never stored."
    )
    seconds: float = 0.0
    receipt: str = Field(default="", description="Where the receipt is; empty when nothing was changed.")

    def summary(self) -> str:
        """Return the outcome in one line; it names no key, since Prefect stores it."""
        if self.is_nothing:
            return f"Nothing to erase: {counted(self.num_keys, 'key')} asked for"
        verb = "Planned only: would erase" if self.is_dry_run else "Erased"
        return f"{verb} {counted(self.num_rows_erased, 'row')}, asked for {counted(self.num_keys, 'key')}"

    @property
    def is_nothing(self) -> bool:
        """Whether the erasure changed nothing, because no row was found and no key is new."""
        return not (self.is_dry_run or self.receipt)

    @property
    def left(self) -> list[PlaceReport]:
        """Places where rows are left, or may be."""
        return [place for place in self.places if not place.is_clean]

    @property
    def is_complete(self) -> bool:
        """Whether no row is left within reach."""
        return not self.left


def receipt_markdown(receipt: Receipt) -> str:
    """Return a receipt for people."""
    verdict = "complete" if receipt.is_complete else f"NOT COMPLETE: {counted(len(receipt.left), 'place')} left"
    if receipt.is_dry_run:
        verdict = "dry run: nothing was changed"
    if receipt.is_nothing:
        verdict = "nothing was found, every key was erased before: nothing was changed and no receipt is kept"
    refused = listed("version", receipt.refused_versions) if receipt.refused_versions else "none"
    lines = [
        f"# Erasure {receipt.erasure}",
        "",
        f"- **{verdict}**",
        f"- table: `{receipt.table_uri}` (id {receipt.table_id}), version {receipt.version_before} before, "
        f"{receipt.version} after",
        f"- begun {receipt.begun_at:%Y-%m-%d %H:%M:%S} UTC, ended {receipt.ended_at:%Y-%m-%d %H:%M:%S} UTC, by "
        f"{receipt.requested_by}",
        f"- keys that were asked for: {receipt.num_keys:,}; found nowhere: {receipt.num_not_found:,}",
        f"- {counted(receipt.num_rows_erased, 'row')} left the newest version",
        f"- earlier versions that cannot be read any more: {refused}",
        "",
        "## Places",
        "",
        "| place | location | rows found | what was done | look afterwards | left |",
        "|---|---|---|---|---|---|",
    ]
    for place in receipt.places:
        left = place.problem or (counted(place.num_left, "row") if place.num_left else "nothing")
        cells = (place.place, place.location, f"{place.num_found:,}", place.action, place.look, left)
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    lines += ["", "## Had seen the rows, and were left as they are", ""]
    lines += [
        f"- {seen.kind.value} `{_cell(seen.location)}`: {counted(seen.num_rows, 'row')}"
        f"{f' ({seen.detail})' if seen.detail else ''}"
        for seen in receipt.seen_by
    ] or ["- nothing was found, or nothing was named to look into"]
    lines += ["", "## Out of the reach of this command", ""]
    lines += [f"- {item.place}: {item.advice}" for item in receipt.out_of_reach]
    lines += ["", "## Keys, as keyed hashes", "", *(f"- `{key}`" for key in receipt.hashed_keys), ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
