"""The version that a destination has reached. It is kept in the destination itself, never beside it."""

import datetime as dt

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Watermark"]


class Watermark(BaseModel):
    """The version of a table that one collection of a destination holds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    table_uri: str = Field(description="The table that the collection follows.")
    table_id: str = Field(description="The id in the table's Delta log: another table at the same URI has another id.")
    version: int = Field(description="The table version that the collection holds, or is being brought to.")
    is_complete: bool = Field(
        description="False while a sync writes, in stores without transactions: rows may then be of two versions."
    )
    encoder: str = Field(description="The encoder's name.")
    encoder_fingerprint: str = Field(description="The fingerprint of the encoder that made the vectors.")
    dim: int = Field(description="Values in one vector.")
    num_rows: int = Field(description="Rows of the table version.")
    synced_at: dt.datetime = Field(description="When the version was written (UTC).")
    proven_version: int | None = Field(default=None, description="The newest version that a reconcile found equal.")
    proven_at: dt.datetime | None = Field(default=None, description="When that reconcile ended (UTC).")
