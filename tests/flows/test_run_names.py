"""A run is named after what it does, unless a person gave it a name."""

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

from flows.refresh import refresh_embeddings
from tests.support.tables import rows, write

pytestmark = pytest.mark.usefixtures("prefect_server")


def name_after_run(folder: Path, model: str, given: str | None) -> str:
    """Return the name that a run has at its end."""
    write(folder / "raw" / "a.jsonl", rows(0, 5))
    parameters = {"raw_uri": str(folder / "raw"), "table_uri": str(folder / "table"), "settings": {"model": model}}
    with get_client(sync_client=True) as client:
        made = client.create_flow_run(refresh_embeddings, parameters=parameters, name=given)
        run_flow(refresh_embeddings, flow_run=made, parameters=refresh_embeddings.validate_parameters(parameters))
        return str(client.read_flow_run(made.id).name)


@pytest.mark.parametrize("given", ["Redo March for Ann", "ticket 4711", "refresh-2026-11"])
def test_a_name_that_a_person_gave_stays(tmp_path: Path, model: str, given: str) -> None:
    assert name_after_run(tmp_path, model, given) == given


@pytest.mark.parametrize("given", [None, "small-bombay", "Small-Bombay"])
def test_a_name_that_prefect_made_up_is_replaced(tmp_path: Path, model: str, given: str | None) -> None:
    assert name_after_run(tmp_path, model, given).startswith("refresh table · 1 of 1 split")
