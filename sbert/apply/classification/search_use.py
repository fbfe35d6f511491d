"""The search of a head's settings in words and numbers."""

from pydantic import BaseModel, ConfigDict, Field

from sbert.counted import counted

__all__ = ["MIN_SEARCH_GAIN", "SearchUse"]

MIN_SEARCH_GAIN = 0.005
"""Macro-F1 that a search must add to the grid. It tries many choices, so the best of them is better by chance."""


class SearchUse(BaseModel):
    """Outcome of a search."""

    model_config = ConfigDict(frozen=True)

    num_asked: int = Field(description="Trials that the settings ask for.")
    num_trials: int = Field(description="Trials that ended.")
    num_stopped: int = Field(description="Trials that were stopped before their last fold.")
    num_failed: int = Field(default=0, description="Trials that ended with an error.")
    best_trial: int | None = Field(
        description="The best trial, from 1; None where no trial is clearly better than the grid."
    )
    macro_f1: float = Field(description="Macro-F1 of the best settings in cross-validation.")
    macro_f1_grid: float = Field(description="Macro-F1 of the best settings of the grid in cross-validation.")
    seconds: float = Field(description="Time of all trials together.")

    def told(self) -> str:
        """Return what the search found, and what its figure is worth, in sentences."""
        counts = ((self.num_stopped, "stopped early"), (self.num_failed, "failed"))
        ended = ", ".join(f"{count:,} {name}" for count, name in counts if count)
        is_whole = self.num_trials >= self.num_asked
        tried = f"{self.num_trials:,}" if is_whole else f"{self.num_trials:,} of {self.num_asked:,}"
        trials = (
            f"The search tried {tried} settings beside the grid{'' if is_whole else ', until its time was over'}"
            f"{f' ({ended})' if ended else ''}."
        )
        if self.best_trial is None:
            return (
                f"{trials} None is better by {MIN_SEARCH_GAIN:g} than the best of the grid, which has macro-F1 "
                f"{self.macro_f1_grid:.3f} in cross-validation."
            )
        return (
            f"{trials} Trial {self.best_trial:,} is the best: macro-F1 {self.macro_f1:.3f} in cross-validation, "
            f"{self.macro_f1_grid:.3f} for the best of the grid. The best of {counted(self.num_trials, 'trial')} is too "
            "good there by chance; held-out rows tell how good it is."
        )
