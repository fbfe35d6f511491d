"""Parameters of the flows that follow a table with a vector store."""

from typing import Annotated

from flows.parameters import form

__all__ = ["Credentials", "Destination"]

LOCATION_PATTERN = "^(?!.*://[^/]*:[^/]*@)(?!.*password=)"
"""Pattern of a location without a password: the form refuses one before it is stored."""

Destination = Annotated[
    str,
    form(
        title="Destination",
        min_length=1,
        pattern=LOCATION_PATTERN,
        description="Vector store, and the name in it: postgresql://host/database#schema.name, "
        "lancedb:FOLDER#name, qdrant:URL#name, milvus:URL#name. Example: lancedb:s3://company-search/lance#tickets",
    ),
]
Credentials = Annotated[
    str,
    form(
        title="Credentials",
        description="Name of a Prefect Secret block with the password, key or token. Empty: the environment's. "
        "Example: vector-store-password",
    ),
]
