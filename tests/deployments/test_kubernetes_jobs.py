"""The deployments for Kubernetes fit the work pool, and the manifests hold the resources that were asked for."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.schema_tools import is_valid_schema, validate
from prefect.utilities.templating import apply_values, find_placeholders

from deployments.kubernetes_jobs import KubernetesFile, on_kubernetes, pool_template, read_kubernetes
from deployments.table_deployments import HERE, prefect_file
from deployments.tables_file import TablesFile, read_tables
from sbert.errors import SettingsError

WRITTEN: list[dict[str, Any]] = yaml.safe_load((HERE / "prefect.kubernetes.yaml").read_text())["deployments"]
TABLES = TablesFile.model_validate(
    {"tables": {name: {"raw": f"/r/{name}", "table": f"/t/{name}"} for name in ("default", "tickets")}}
)
PLACE = {"image": "sbert:cpu", "service_account": "jobs"}


def made(**settings: Any) -> dict[str, dict[str, Any]]:
    """Return the work pool of each deployment of two tables, by the deployment's name."""
    content = on_kubernetes(prefect_file(TABLES), KubernetesFile.model_validate({**PLACE, **settings}))
    return {item["name"]: item["work_pool"] for item in content["deployments"]}


def job_of(variables: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of the Kubernetes job that a worker makes of these variables."""
    template = pool_template()
    defaults = {
        name: field["default"] for name, field in template["variables"]["properties"].items() if "default" in field
    }
    job: dict[str, Any] = apply_values(template["job_configuration"], {**defaults, **variables})["job_manifest"]
    return job


def test_the_files_in_the_repository_are_the_ones_that_are_made() -> None:
    again = "run python deployments/table_deployments.py --kubernetes deployments/kubernetes.yaml"
    content = on_kubernetes(prefect_file(read_tables(HERE / "tables.yaml")), read_kubernetes(HERE / "kubernetes.yaml"))
    assert yaml.safe_load((HERE / "prefect.kubernetes.yaml").read_text()) == content, again
    assert json.loads((HERE / "kubernetes.template.json").read_text()) == pool_template(), again


def test_the_template_is_a_valid_one_whose_variables_are_all_declared() -> None:
    template = pool_template()
    is_valid_schema(template["variables"])
    placeholders = {item.name for item in find_placeholders(template["job_configuration"])}
    assert placeholders == set(template["variables"]["properties"])


@pytest.mark.parametrize("deployment", WRITTEN, ids=lambda item: str(item["name"]))
def test_variables_of_a_deployment_fit_the_schema_of_the_pool(deployment: dict[str, Any]) -> None:
    variables = deployment["work_pool"]["job_variables"]
    schema = pool_template()["variables"]
    assert validate(variables, schema) == []
    assert set(variables) <= set(schema["properties"])  # a variable that the template lacks would be dropped in silence
    assert validate({**variables, "gpus": "one"}, schema) != []


def test_the_manifest_holds_image_account_resources_nodes_and_secrets() -> None:
    pools = made(
        secrets=["store-keys"],
        resources={"cpu": 2, "memory": "4Gi"},
        jobs={
            "nightly-refresh": {"gpu": 1, "image": "sbert:cuda", "node_selector": {"card": "yes"},
                                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]},
            "nightly-refresh-tickets": {"memory": "8Gi"},
        },
    )  # fmt: skip
    pod = job_of(pools["nightly-refresh-tickets"]["job_variables"])["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "sbert:cuda"
    assert container["envFrom"] == [{"secretRef": {"name": "store-keys"}}]
    assert container["resources"]["limits"] == {
        "cpu": "2", "memory": "8Gi", "ephemeral-storage": "8Gi", "nvidia.com/gpu": 1,
    }  # fmt: skip
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "8Gi"}
    assert pod["serviceAccountName"] == "jobs"
    assert pod["nodeSelector"] == {"card": "yes"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert pools["nightly-refresh"]["job_variables"]["memory_limit"] == "4Gi"


def test_a_job_without_gpu_and_secrets_asks_for_none() -> None:
    pod = job_of(made()["nightly-refresh"]["job_variables"])["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert not {"envFrom"} & set(container)
    assert not {"nodeSelector", "tolerations"} & set(pod)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{image: a}", "service_account: Field required"),
        ("{image: a, service_account: b, resources: {memory: 4GB}}", r"resources\.memory: String should match"),
        ("{image: a, service_account: b, resources: {gpus: 1}}", "did you mean gpu"),
        ("{image: a, service_account: 'B C'}", "service_account: String should match"),
        (
            "{image: a, service_account: b, jobs: {backfill: {gpu: -1}}}",
            r"jobs\.backfill\.gpu: Input should be greater",
        ),
        ("[", "kubernetes.yaml"),
    ],
)
def test_mistakes_in_the_settings_of_a_job_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "kubernetes.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_kubernetes(tmp_path / "kubernetes.yaml")


def test_a_job_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(SettingsError, match=r"jobs names nightly, but the jobs are .*nightly-refresh-tickets"):
        made(jobs={"nightly": {"gpu": 1}})
