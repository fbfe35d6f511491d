"""Deployments for a Kubernetes work pool: `kubernetes.yaml` gives each job its image, service account and resources.

`table_deployments.py --kubernetes kubernetes.yaml` writes two files: Prefect's deployment file, whose jobs run in that pool,
and the base job template of the pool. The template is that of Prefect, with further variables for GPUs, temporary disk,
placement on nodes, and Kubernetes Secrets as environment.
"""

import json
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sbert.errors import SettingsError
from sbert.settings import explain

__all__ = ["KubernetesFile", "on_kubernetes", "pool_template", "read_kubernetes"]

GPU = "nvidia.com/gpu"
DISK = "ephemeral-storage"
TEMPLATES = "collections_data/views/aggregate-worker-metadata.json"
"""Base job templates of all worker types, as the pinned Prefect ships them."""

Cpu = Annotated[str, Field(pattern=r"^(\d+m|\d+(\.\d+)?)$", description="CPU cores, such as 2 or 500m.")]
Bytes = Annotated[
    str, Field(pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$", description="Bytes, such as 4Gi; without unit bytes.")
]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
"""Name of a Kubernetes object."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class Resources(_Strict):
    """Resources of one job; requested and limited alike, so that a job neither starves nor is put out by its neighbours."""

    cpu: Cpu = "2"
    memory: Bytes = "4Gi"
    disk: Bytes = Field(default="8Gi", description="Temporary disk; a run keeps up to run_file_bytes there (bytes).")
    gpu: int = Field(default=0, ge=0, le=16, description="NVIDIA GPUs.")


class JobChanges(_Strict):
    """Differences of one job from the rest; a field that is left out is as for all jobs."""

    image: str | None = Field(default=None, min_length=1, description="Container image, such as the one with CUDA.")
    cpu: Cpu | None = None
    memory: Bytes | None = None
    disk: Bytes | None = None
    gpu: int | None = Field(default=None, ge=0, le=16, description="NVIDIA GPUs.")
    node_selector: dict[str, str] | None = Field(default=None, description="Labels that the node must have.")
    tolerations: list[dict[str, Any]] | None = Field(default=None, description="Taints of nodes that are accepted.")


class KubernetesFile(_Strict):
    """`kubernetes.yaml`."""

    work_pool: str = Field(
        default="sbert-kubernetes", min_length=1, description="Prefect work pool of type kubernetes."
    )
    namespace: Name = "sbert"
    image: str = Field(min_length=1, description="Container image with this package, such as registry/sbert:cpu.")
    service_account: Name = Field(description="Service account whose cloud role may use the stores; in place of keys.")
    secrets: list[Name] = Field(
        default=[], description="Kubernetes Secrets whose entries become environment, for stores that know no roles."
    )
    keep_finished_seconds: int = Field(
        default=86_400, ge=0, description="Finished jobs are removed after this time (s)."
    )
    pod_start_seconds: int = Field(
        default=600,
        ge=1,
        description="A job whose pod does not start in this time crashes; a new node takes minutes (s).",
    )
    resources: Resources = Resources()
    node_selector: dict[str, str] = Field(default={}, description="Labels that a node must have.")
    tolerations: list[dict[str, Any]] = Field(default=[], description="Taints of nodes that are accepted.")
    jobs: dict[str, JobChanges] = Field(
        default={}, description="Differences by job (retrain-on-labels) or by deployment (retrain-on-labels-tickets)."
    )

    def job_variables(self, *names: str) -> dict[str, Any]:
        """Return the job variables of a deployment.

        Args:
            names: its names in `jobs`, the general one first; the last one that is there wins, field by field.
        """
        changes: dict[str, Any] = {}
        for name in names:
            if name in self.jobs:
                changes |= self.jobs[name].model_dump(exclude_none=True)
        asked = Resources.model_validate(
            {**self.resources.model_dump(), **{key: changes[key] for key in Resources.model_fields if key in changes}}
        )
        variables: dict[str, Any] = {
            "namespace": self.namespace,
            "image": changes.get("image", self.image),
            "service_account_name": self.service_account,
            "finished_job_ttl": self.keep_finished_seconds,
            "pod_watch_timeout_seconds": self.pod_start_seconds,
            "cpu_request": asked.cpu,
            "cpu_limit": asked.cpu,
            "memory_request": asked.memory,
            "memory_limit": asked.memory,
            "disk": asked.disk,
        }
        if asked.gpu:
            variables["gpus"] = asked.gpu
        if self.secrets:
            variables["env_from"] = [{"secretRef": {"name": name}} for name in self.secrets]
        for name, value in (("node_selector", self.node_selector), ("tolerations", self.tolerations)):
            if own := changes.get(name, value):
                variables[name] = own
        return variables


def read_kubernetes(path: Path) -> KubernetesFile:
    """Read and check `kubernetes.yaml`.

    Raises:
        SettingsError: naming the field that is wrong.
    """
    try:
        return KubernetesFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"{path}: {explain(error, KubernetesFile)}") from error


def on_kubernetes(content: dict[str, Any], kubernetes: KubernetesFile) -> dict[str, Any]:
    """Return Prefect's deployment file with every job in the Kubernetes work pool.

    Raises:
        SettingsError: `jobs` names a job or deployment that there is not.
    """
    deployments = deepcopy(content["deployments"])
    job_names: set[str] = set()
    for deployment in deployments:
        names = _names(deployment)
        job_names.update(names)
        pool = deployment["work_pool"]
        pool["name"] = kubernetes.work_pool
        pool["job_variables"] |= kubernetes.job_variables(*names)
    if unknown := sorted(set(kubernetes.jobs) - job_names):
        raise SettingsError(f"jobs names {', '.join(unknown)}, but the jobs are {', '.join(sorted(job_names))}")
    return {**content, "deployments": deployments}


def _names(deployment: dict[str, Any]) -> list[str]:
    """Return the name of the job and that of the deployment, which ends in the table's name (the third tag)."""
    name, (_, _, *table) = deployment["name"], deployment["tags"]
    return [name.removesuffix(f"-{table[0]}"), name] if table else [name]


def pool_template() -> dict[str, Any]:
    """Return the base job template of the work pool.

    It is the template that the pinned Prefect has for Kubernetes workers, with variables for GPUs, temporary disk, nodes and
    Secrets. A variable without a value leaves its place out of the manifest.
    """
    shipped = json.loads((files("prefect.server.api") / TEMPLATES).read_text(encoding="utf-8"))
    template: dict[str, Any] = shipped["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    template["variables"]["properties"] |= {
        "gpus": {"title": "GPUs", "description": "NVIDIA GPUs of the job.", "type": "integer", "minimum": 0},
        "disk": {
            "title": "Temporary disk",
            "description": "Temporary disk of the job, as a Kubernetes quantity such as 8Gi.",
            "type": "string",
        },
        "node_selector": {
            "title": "Node selector",
            "description": "Labels that the node must have.",
            "type": "object",
            "additionalProperties": {"type": "string"},
        },
        "tolerations": {
            "title": "Tolerations",
            "description": "Taints of nodes that are accepted, as in a pod.",
            "type": "array",
            "items": {"type": "object"},
        },
        "env_from": {
            "title": "Environment from",
            "description": "Secrets or config maps whose entries become environment, as in a container.",
            "type": "array",
            "items": {"type": "object"},
        },
    }
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod |= {"nodeSelector": "{{ node_selector }}", "tolerations": "{{ tolerations }}"}
    (container,) = pod["containers"]
    container["envFrom"] = "{{ env_from }}"
    container["resources"]["limits"] |= {GPU: "{{ gpus }}", DISK: "{{ disk }}"}
    container["resources"]["requests"] |= {DISK: "{{ disk }}"}
    return template
