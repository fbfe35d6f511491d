"""The results of a run about one task."""

from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.classification.groups import ColumnAbstentions
from sbert.apply.classification.heads import HeadDecision
from sbert.counted import counted

__all__ = ["ClassShares", "TaskReport"]


class ClassShares(BaseModel):
    """The classes of all rows of an output."""

    model_config = ConfigDict(frozen=True)

    num_rows: int
    num_abstained: int
    num_by_rules: int = Field(default=0, description="Rows that have another class because of rules.")
    num_without_class: int = Field(default=0, description="Rows that have none of the classes.")
    classes: dict[str, int] = Field(
        description="Rows of each class, the largest first; where a row can have several classes it counts for each."
    )

    def share(self, label: str) -> float:
        """Return the share of a class (0 to 1)."""
        return self.classes.get(label, 0) / self.num_rows if self.num_rows else 0.0


class TaskReport(BaseModel):
    """The head of a task, and the classes of the rows now and before the run."""

    model_config = ConfigDict(frozen=True)

    head: HeadDecision
    now: ClassShares
    before: ClassShares | None = Field(description="None for the first output.")
    groups: list[ColumnAbstentions] = Field(
        default=[], description="Abstentions on all rows by each group column that is one of the table."
    )

    def silence(self, promised_error: float) -> str:
        """Return why no row is answered, and which setting changes it; empty when rows are answered, or there are none."""
        if not self.now.num_rows or self.now.num_abstained < self.now.num_rows:
            return ""
        return (
            f"No row is answered: {counted(self.head.num_labels, 'labelled row')} cannot prove an error of at most "
            f"{100 * promised_error:g}%. Add labels, or accept more errors, for example --settings "
            f'\'{{"head": {{"promised_error": {min(0.9, 2 * promised_error):g}}}}}\''
        )
