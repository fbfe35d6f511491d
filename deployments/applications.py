"""The applications of vectors that a table in `tables.yaml` can have: one line of `APPLICATIONS` each.

An entry ``applications: {sentiment: {job: classify, out: …}}`` becomes the deployments ``sentiment-on-publish``, which
starts when the table has a new version, and ``upkeep-sentiment``, which vacuums and verifies the output weekly.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sbert.errors import SettingsError

__all__ = ["APPLICATIONS", "Application", "ApplicationEntry", "Schedule", "application_of"]

VARIABLE = "{{"
"""Begins a value that `prefect deploy` fills in."""


@dataclass(frozen=True)
class Application:
    """Description of an application for its deployment."""

    entrypoint: str
    """Module and name of its flow."""
    description: str
    table: str = "table_uri"
    """The flow's parameter for the table that it follows."""
    out: str = "out_uri"
    """The flow's parameter for its output."""
    after: str | None = None
    """The flow's parameter for the output of another application (`after`); by default that takes the place of the table."""
    is_table: bool = True
    """Whether the output is a derived table, which needs upkeep and from which erased rows must go."""

    def locations(self, table: str, after: str | None, out: str) -> dict[str, str]:
        """Return the parameters of the flow that name its inputs and output; `after` is the output that it reads."""
        if after is not None and self.after is not None:
            return {self.table: table, self.after: after, self.out: out}
        return {self.table: table if after is None else after, self.out: out}


APPLICATIONS = {
    "align": Application("flows.align.align_rows", "Keep the translations of the rows in another table up to date."),
    "answers": Application(
        "flows.answers.answer_table", "Keep the best answers of every question up to date.", table="questions_uri"
    ),
    "classify": Application("flows.classify.classify_table", "Keep the class of every row up to date."),
    "duplicates": Application(
        "flows.duplicates.find_duplicate_texts", "Keep the groups of texts that say the same up to date."
    ),
    "entities": Application(
        "flows.entities.find_table_entities", "Keep the entities in the text of every row up to date."
    ),
    "map": Application(
        "flows.map_table.map_table",
        "Draw the texts of the table as one page.",
        out="output_uri",
        after="topics_uri",
        is_table=False,
    ),
    "monitor": Application(
        "flows.monitor.monitor_opinion",
        "Watch the classes of the rows over time.",
        table="predictions_uri",
    ),
    "neighbours": Application("flows.neighbours.find_neighbours", "Keep the nearest rows of every row up to date."),
    "recommend": Application(
        "flows.recommend.recommend_items", "Keep the items for each user up to date.", table="items_uri"
    ),
    "relations": Application(
        "flows.relations.find_table_relations", "Keep the relations between the names of every row up to date."
    ),
    "summarize": Application("flows.summarize.summarize_documents", "Keep a summary of every document up to date."),
    "topics": Application(
        "flows.topics.find_table_topics", "Keep the topic of every row up to date, announce new topics."
    ),
}
"""Applications by the name of the job in `tables.yaml`, in alphabetical order."""


class Schedule(BaseModel):
    """The times at which a deployment starts by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: str = Field(min_length=9, description="Minute, hour, day of month, month, day of week.")
    timezone: str = Field(default="UTC", description="Time zone by its IANA name.")

    def entry(self, slug: str) -> dict[str, str]:
        """Return the schedule as Prefect's file has it."""
        return {"cron": self.cron, "timezone": self.timezone, "slug": slug}


class ApplicationEntry(BaseModel):
    """A job that follows a table and keeps an output of its own, such as the class of each row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str | None = Field(default=None, description="The application; by default the name of this entry.")
    out: str = Field(min_length=1, description="Folder of the output.")
    after: str | None = Field(
        default=None,
        description="Another entry whose output this job reads and follows; by default the job follows the table.",
    )
    parameters: dict[str, Any] = Field(default={}, description="Further parameters of its flow, by name.")
    schedule: Schedule | None = Field(
        default=None, description="Times at which the job runs, beside each new version; empty for none."
    )


def application_of(name: str, entry: ApplicationEntry) -> Application:
    """Return the application of an entry, whose parameters have been checked against its flow.

    Raises:
        SettingsError: there is no such application, or its flow does not take these parameters.
    """
    job = entry.job or name
    if job not in APPLICATIONS:
        raise SettingsError(
            f"applications.{name}: there is no application {job!r}: set job to one of {', '.join(sorted(APPLICATIONS))}"
        )
    application = APPLICATIONS[job]
    module, _, function = application.entrypoint.rpartition(".")
    flow = getattr(import_module(module), function)
    locations = application.locations("table", entry.after, entry.out)
    asked = {**locations, **entry.parameters}
    accepted = flow.parameters.properties
    for parameter in entry.parameters:
        if parameter not in accepted or parameter in locations:
            free = sorted(set(accepted) - set(locations))
            raise SettingsError(
                f"applications.{name}.parameters: {job} has no parameter {parameter!r} to set: choose from {', '.join(free)}"
            )
    if VARIABLE not in str(asked):  # what `prefect deploy` fills in is checked by the server
        try:
            flow.validate_parameters(asked)
        except Exception as error:  # Prefect raises several kinds
            raise SettingsError(f"applications.{name}.parameters: {' '.join(str(error).split())}") from error
    return application
