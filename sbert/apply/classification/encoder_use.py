"""The part of the encoder's own classifier in a head, and the rows that decide, in numbers for records and in words."""

from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted

__all__ = ["ClassifierUse", "LearnedUse", "told_of_encoder"]


class ClassifierUse(BaseModel):
    """The part that the encoder's own classifier has in a head."""

    model_config = ConfigDict(frozen=True)

    is_used: bool = Field(default=False, description="Whether the head is this classifier.")
    reason: str = Field(default="", description="Why it was not considered; empty where it was.")
    num_unseen: int = Field(
        default=0, description="Labelled rows that the encoder has not learned from; they alone choose and calibrate."
    )
    with_dev: bool = Field(
        default=False, description="Whether rows that chose the encoder's checkpoint are among them."
    )
    drops_rules: bool = Field(
        default=False, description="Whether there are rules, which do nothing because the classifier reads none."
    )
    macro_f1: float | None = Field(default=None, description="Macro-F1 of the classifier on these rows.")
    macro_f1_fitted: float | None = Field(
        default=None, description="Macro-F1 of the best fitted head on these rows, in cross-validation."
    )

    def told(self) -> str:
        """Return in a sentence or two whether the classifier is used, and why."""
        if self.reason:
            return f"The classifier that was trained together with the encoder is not considered: {self.reason}."
        head = "the classifier that was trained together with the encoder" if self.is_used else "a fitted one"
        numbers = ""
        if self.macro_f1 is not None and self.macro_f1_fitted is not None:
            numbers = (
                f": macro-F1 {100 * self.macro_f1:.1f} of the classifier and {100 * self.macro_f1_fitted:.1f} of the best "
                "fitted head"
            )
        rules = " It reads no rules, so that the file of rules does nothing." if self.drops_rules else ""
        dev = ", some of which chose the encoder's checkpoint" if self.with_dev else ""
        return (
            f"The head is {head}{numbers}, on {counted(self.num_unseen, 'labelled row')} that the encoder has not learned "
            f"from{dev}. These rows alone chose and calibrated it.{rules}"
        )


class LearnedUse(BaseModel):
    """Which labelled rows choose and calibrate a head, where the encoder has learned from some of them."""

    model_config = ConfigDict(frozen=True)

    num_seen: int = Field(default=0, description="Labelled rows that choose and calibrate nothing.")
    num_unseen: int = Field(
        default=0, description="Labelled rows that the encoder has not learned from; they alone choose and calibrate."
    )
    with_dev: bool = Field(
        default=False, description="Whether rows that chose the encoder's checkpoint are among the unseen ones."
    )
    reason: str = Field(
        default="", description="Why all labelled rows choose and calibrate nevertheless; empty where they do not."
    )

    def told(self) -> str:
        """Return in a sentence which rows choose and calibrate the head."""
        if self.reason:
            return f"All labelled rows choose and calibrate the head: {self.reason}."
        dev = ", some of which chose the encoder's checkpoint," if self.with_dev else ""
        return (
            f"{counted(self.num_unseen, 'labelled row')} that the encoder has not learned from{dev} alone chose and "
            f"calibrated the head; the other {self.num_seen:,} only taught it."
        )


def told_of_encoder(classifier: ClassifierUse | None, learned: LearnedUse | None) -> list[str]:
    """Return in sentences what became of the encoder's classifier, and which rows decided; none for most encoders."""
    told = [] if classifier is None else [classifier.told()]
    if learned is None or (classifier is not None and classifier.reason in {"", learned.reason}):
        return told  # the classifier was considered, or not for the reason for which all rows decide
    return [*told, learned.told()]
