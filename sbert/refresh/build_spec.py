"""The facts that decide how every split of a run is built. They are fixed once, when the run is planned."""

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from sbert.encoder.description import EncoderSpec
from sbert.refresh.job import RefreshJob, RefreshSettings
from sbert.source.passages.cutter import PASSAGE_COLUMNS
from sbert.table.encoder_info import EncoderInfo

__all__ = ["BuildSpec"]


class BuildSpec(BaseModel):
    """Job, encoder and columns of a run: the same for each of its splits, in every process."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    job: RefreshJob = Field(description="The job, with what the table decides filled in.")
    encoder_spec: EncoderSpec = Field(description="Instructions by which a worker loads the encoder.")
    encoder: EncoderInfo = Field(description="The encoder as the table's readers need it.")
    rows_fingerprint: str = Field(description="Hash of everything but the source objects that decides the rows.")
    kept_schema: dict[str, pl.DataType] = Field(
        description="Types of the kept columns, in their order, and of the columns of passages."
    )
    model_prompt: str = Field(default="", description="The model's own document prompt.")

    @property
    def table_uri(self) -> str:
        """Folder of the table."""
        return self.job.table_uri

    @property
    def settings(self) -> RefreshSettings:
        """Settings of the job."""
        return self.job.settings

    @property
    def source_schema(self) -> dict[str, pl.DataType]:
        """Types of the columns that are read from the source."""
        made = PASSAGE_COLUMNS if self.settings.source.cuts_passages else {}
        return {name: kind for name, kind in self.kept_schema.items() if name not in made}
