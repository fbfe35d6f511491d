"""The deployment files say what the flows take, and hold no secret."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.events.schemas.automations import Automation
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger

HERE = Path(__file__).parents[2] / "deployments"
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((HERE / "prefect.yaml").read_text())["deployments"]
BY_NAME = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda item: str(item["name"]))
LOCATIONS = {"SBERT_RAW_URI", "SBERT_TABLE_URI", "SBERT_LABELS_URI", "SBERT_MODELS_URI"}


def flow_of(deployment: dict[str, Any]) -> Flow[..., Any]:
    module, name = deployment["entrypoint"].rsplit(".", 1)
    flow = getattr(import_module(module), name)
    assert isinstance(flow, Flow)
    return flow


@BY_NAME
def test_parameters_are_those_of_the_flow(deployment: dict[str, Any]) -> None:
    properties = flow_of(deployment).parameters.properties
    given = set(deployment["parameters"]) | {
        name for trigger in deployment.get("triggers", []) for name in trigger["parameters"]
    }
    assert given <= set(properties)
    required = set(flow_of(deployment).parameters.required)
    assert required <= set(deployment["parameters"])


@BY_NAME
def test_every_field_of_the_form_has_a_description(deployment: dict[str, Any]) -> None:
    for name, field in flow_of(deployment).parameters.properties.items():
        assert field.get("description"), name


@BY_NAME
def test_a_second_run_of_a_deployment_waits_for_the_first(deployment: dict[str, Any]) -> None:
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    environment = deployment["work_pool"]["job_variables"]["env"]
    assert environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


@BY_NAME
def test_a_run_that_does_not_end_well_leaves_a_trace(deployment: dict[str, Any]) -> None:
    flow = flow_of(deployment)
    for hooks in (flow.on_failure_hooks, flow.on_crashed_hooks, flow.on_cancellation_hooks):
        assert [hook.__name__ for hook in hooks] == ["leave_trace", "tell_end"]


def test_events_that_are_waited_for_are_those_that_are_sent() -> None:
    from flows.watch_labels import LABELS_ARRIVED
    from tasks.announce_decision import MODEL_PROMOTED

    triggers = {
        item["name"]: DeploymentEventTrigger.model_validate(trigger)
        for item in DEPLOYMENTS for trigger in item.get("triggers", [])
    }  # fmt: skip
    assert triggers["retrain-on-labels"].expect == {LABELS_ARRIVED}
    assert triggers["reembed-on-promotion"].expect == {MODEL_PROMOTED}


def test_the_automation_waits_three_heartbeats() -> None:
    written = yaml.safe_load((HERE / "automations.yaml").read_text())["automations"]
    automation = Automation.model_validate({"id": "00000000-0000-0000-0000-000000000000", **written[0]})
    assert automation.trigger.within.total_seconds() == 3 * 30  # type: ignore[union-attr]
    assert automation.actions[0].type == "change-flow-run-state"


def test_only_locations_come_from_the_environment_and_nothing_is_secret() -> None:
    text = (HERE / "prefect.yaml").read_text()
    assert set(re.findall(r"\{\{ \$(\w+) \}\}", text)) == LOCATIONS
    for path in (HERE / "settings").glob("*.env"):
        for line in path.read_text().splitlines():
            name, _, value = line.partition("=")
            assert not (re.search(r"KEY|SECRET|TOKEN", name) and value), line
