"""The results of a run as data: decisions, frequent questions without an answer, answers that are never used."""

from pydantic import BaseModel, ConfigDict, Field

from sbert.apply.answers.model import AnswerModel
from sbert.derived.run import DerivedReport

__all__ = ["AnswersReport", "QuestionGroup", "UnusedAnswer"]


class QuestionGroup(BaseModel):
    """Unanswered questions that ask about the same."""

    model_config = ConfigDict(frozen=True)

    num_questions: int
    source: str = Field(description="Source of the question in the middle of the group.")
    id: str = Field(description="Its id.")
    text: str | None = Field(description="Its text, if the table keeps it.")


class UnusedAnswer(BaseModel):
    """An answer that is the best of no answered question."""

    model_config = ConfigDict(frozen=True)

    source: str
    id: str
    text: str | None


class AnswersReport(BaseModel):
    """The results of a run; scripts rely on the keys."""

    model_config = ConfigDict(frozen=True)

    output: DerivedReport
    model: AnswerModel
    num_answers: int = Field(description="Rows of the answers table.")
    decisions: dict[str, int] = Field(description="Questions by decision.")
    reasons: dict[str, int] = Field(description="Questions that are not answered, by reason.")
    expected_error: float | None = Field(description="Mean of 1 - probability over the given answers.")
    num_unused: int = Field(description="Answers that are the best of no answered question.")
    unused: tuple[UnusedAnswer, ...] = Field(description="The first of them.")
    unanswered: tuple[QuestionGroup, ...] = Field(description="The largest groups of unanswered questions.")
    report_uri: str = Field(description="The report for people, an HTML file.")

    def summary(self) -> str:
        """Return the outcome in one line."""
        decisions = ", ".join(f"{name} {count:,}" for name, count in self.decisions.items())
        return f"{self.output.summary()}; decisions: {decisions}"
