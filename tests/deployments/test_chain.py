"""Labels arrive, and everything else follows without a hand: watch, retrain, gate, promote, re-embed, switch."""

import re
import time
from pathlib import Path

import pytest

from sbert.labels.label_kinds import LabelKind
from sbert.table.delta import Table
from tests.support.prefect_stack import Stack, stack, until
from tests.support.tables import rows, write
from tests.support.tiny_models import save_tiny
from tests.support.toy_training import toy_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

CHAIN_SECONDS = 500
QUICK = {
    "training": {"epochs": 6, "batch_size": 64, "learning_rate": 2e-3, "bf16": False},
    "labels": {"near_duplicate_similarity": 1.0},
    "gate": {"robustness": {"sets": []}},  # a small random encoder has none of these skills
}


def prepare(served: Stack, model: str) -> None:
    """Make the table, name a small model to begin with, and look for labels every few seconds."""
    write(served.folder / "raw/a.jsonl", rows(0, 60))
    served.wait_for(served.start("nightly-refresh", model=model), "Completed")
    deployments = served.deployments()
    retrain, watch = deployments["retrain-on-labels"], deployments["watch-labels"]
    served.call(
        "PATCH", f"/deployments/{retrain['id']}",
        {"parameters": {**retrain["parameters"], "base": model, "settings": QUICK}},
    )  # fmt: skip
    served.call("POST", f"/deployments/{watch['id']}/schedules", [{"active": True, "schedule": {"interval": 20}}])


def test_a_new_label_file_leads_to_a_promotion_and_a_switched_table(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "base")
    table_uri, models_uri = str(tmp_path / "table"), str(tmp_path / "models")
    with stack(tmp_path) as served:
        prepare(served, model)
        before = Table.open(table_uri)
        assert before.encoder.model == model
        (tmp_path / "labels").mkdir(exist_ok=True)
        toy_rows(LabelKind.PAIRS, 1_000).write_ndjson(tmp_path / "labels/day-1.jsonl")
        began = time.monotonic()

        def switched() -> Table | None:
            table = Table.open(table_uri)
            return table if table.encoder.model != model else None

        try:
            after = until(switched, CHAIN_SECONDS)
        except TimeoutError as error:
            told = [(run["name"], run["state_name"], run["state"]["message"]) for run in served.runs()]
            raise TimeoutError(told) from error
        print(f"label file to switched table: {time.monotonic() - began:.0f} s")
        assert re.fullmatch(re.escape(models_uri) + r"/v\d{4}/model", after.encoder.model)
        assert after.version == before.version + 1
        assert after.num_rows == before.num_rows
        assert Table.open(table_uri, before.version).encoder.model == model  # readers of the old version keep working
        retrained = [run for run in served.runs() if run["name"].startswith("retrain")]
        assert len(retrained) == 1
        assert "retrain-report" in served.artifacts(served.wait_for(retrained[0]["id"], "Completed")["id"])
        assert len(served.events("sbert.labels.arrived")) == 1
        promoted = served.events("sbert.model.promoted")
        assert [event["payload"]["model_uri"] for event in promoted] == [after.encoder.model]
        until(lambda: len([run for run in served.runs() if run["name"].startswith("look at")]) > 3 or None, 200)
        assert len([run for run in served.runs() if run["name"].startswith("retrain")]) == 1  # told once, trained once
