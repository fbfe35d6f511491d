"""Engines that build splits: threads of this process, a Ray cluster, or a Dask cluster.

An engine is one of Prefect's task runners; the demands of a run are checked before it starts. The flow submits the same
task to each engine. Only the place where it runs, and the way to stop it, differ.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import StrEnum
from typing import Any, Self

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.futures import PrefectFuture
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sbert.errors import SettingsError
from sbert.refresh.build import close_builder, stop_builder

__all__ = ["Engine", "EngineKind", "EngineSettings"]

MIB = 2**20
RAY_OBJECT_STORE_BYTES = 128 * MIB
"""Shared memory of a Ray cluster on this machine: only settings and records pass through it."""
WORKER_DEATHS = re.compile(
    r"\b(KilledWorker|WorkerCrashedError|OutOfMemoryError|NodeDiedError|RayActorError|ActorDiedError|LocalRayletDiedError)\b"
)
"""Errors of Ray and Dask by name: they are installed only where they are used, and Prefect passes some on as text."""


class EngineKind(StrEnum):
    """The kinds of engines that build splits."""

    LOCAL = "local"
    """Threads of the flow's process, sharing one encoder and this machine's accelerator."""
    RAY = "ray"
    """Processes of a Ray cluster, an encoder each; for GPUs on several machines."""
    DASK = "dask"
    """Processes of a Dask cluster, an encoder each; for CPUs."""


class EngineSettings(BaseModel):
    """The engine that builds splits, and the resources of each worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EngineKind = Field(
        default=EngineKind.LOCAL, title="Kind", description="Threads of this process, or workers of a cluster."
    )
    address: str | None = Field(
        default=None,
        title="Address",
        description="Ray (ray://host:10001, auto) or Dask (tcp://host:8786) cluster; empty to start one on this machine.",
    )
    cpus_per_worker: int = Field(
        default=1, title="CPUs per worker", ge=1, le=1024, description="Cores of a Ray or Dask worker (cores)."
    )
    gpus_per_worker: float = Field(
        default=0,
        title="GPUs per worker",
        ge=0,
        le=16,
        description="GPUs of a Ray worker; a part of one when several workers share it (GPUs).",
    )
    group_splits: int = Field(
        default=64, ge=1, le=10_000, description="Most splits handed to a worker at once (splits)."
    )
    group_bytes: int = Field(
        default=256 * MIB,
        title="Bytes handed over",
        ge=1,
        description="Most raw text handed to a worker at once, if it is more than one split (bytes).",
    )

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        """Accept ``"ray"`` in place of ``{"kind": "ray"}``."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind is not EngineKind.RAY and self.gpus_per_worker:
            raise SettingsError(
                f"gpus_per_worker is {self.gpus_per_worker:g}, but engine {self.kind} does not assign GPUs: choose "
                "engine ray, or set it to 0 (threads use the accelerator of this machine)"
            )
        if self.kind is EngineKind.LOCAL and self.address is not None:
            raise SettingsError(f"address is {self.address}, but the engine is local: choose ray or dask")
        return self


class Engine:
    """Builds splits for one run; the first submitted task starts a cluster or connects to one."""

    def __init__(
        self,
        settings: EngineSettings,
        concurrency: int,
        *,
        stop_run: Callable[[str], None] = stop_builder,
        close_run: Callable[[str], None] = close_builder,
    ) -> None:
        """Prepare `concurrency` workers; nothing is started.

        Args:
            settings: where splits are built.
            concurrency: workers.
            stop_run: tells a process to stop what it builds for a run; called in every process.
            close_run: lets a process forget a run; called in every process.
        """
        self.settings = settings
        self.concurrency = concurrency
        self._stop_run = stop_run
        self._close_run = close_run
        self._stack = ExitStack()
        self._runner: TaskRunner[Any] | None = None
        self._pending: set[PrefectFuture[Any]] = set()

    @property
    def worker_threads(self) -> int | None:
        """Threads of the encoder in a worker process; None when splits are built in this process."""
        return None if self.settings.kind is EngineKind.LOCAL else self.settings.cpus_per_worker

    @property
    def most_submitted(self) -> int:
        """Most tasks submitted at the same time: one for each worker of a shared cluster, two for each of a private one."""
        return self.concurrency if self.settings.address is not None else 2 * self.concurrency

    def submit(self, task: Task[..., Any], parameters: dict[str, Any]) -> PrefectFuture[Any]:
        """Hand a task to a worker.

        Raises:
            SettingsError: when the cluster cannot be reached, or lacks what each worker is to have.
        """
        if self._runner is None:
            self._runner = self._start()
        future: PrefectFuture[Any] = self._runner.submit(task, parameters)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def is_worker_death(self, error: BaseException) -> bool:
        """Return whether an error means that worker processes died, as often as the cluster is willing to replace them."""
        seen: BaseException | None = error
        while seen is not None:
            comes_from_cluster = type(seen).__module__.partition(".")[0] in {"ray", "distributed", "prefect"}
            if comes_from_cluster and WORKER_DEATHS.search(f"{type(seen).__name__} {seen}"):
                return True
            seen = seen.__cause__ or seen.__context__
        return False

    def stop(self, run_id: str) -> None:
        """Stop the builds: threads between two batches, workers at once."""
        self._stop_run(run_id)
        if self._runner is None:
            return
        if self.settings.kind is EngineKind.RAY:
            import ray

            for future in list(self._pending):
                ray.cancel(future.wrapped_future, force=True)  # type: ignore[attr-defined]
        elif self.settings.kind is EngineKind.DASK:
            client = self._runner.client  # type: ignore[attr-defined]
            client.cancel([future.wrapped_future for future in list(self._pending)])  # type: ignore[attr-defined]
            client.run(self._stop_run, run_id)  # cancelling takes back what has not begun; this stops what has

    def close(self, run_id: str) -> None:
        """Let every process forget the run, and leave the cluster; one that was started here ends."""
        self._close_run(run_id)
        runner, self._runner = self._runner, None
        with self._stack:
            if runner is not None and self.settings.kind is EngineKind.DASK:
                runner.client.run(self._close_run, run_id)  # type: ignore[attr-defined]

    def _start(self) -> TaskRunner[Any]:
        if self.settings.kind is EngineKind.LOCAL:
            return self._stack.enter_context(ThreadPoolTaskRunner[Any](max_workers=self.concurrency))
        self._stack.enter_context(_server_for_workers())
        if self.settings.kind is EngineKind.RAY:
            return self._stack.enter_context(_ray(self.settings, self.concurrency))
        return self._stack.enter_context(_dask(self.settings, self.concurrency))


@contextmanager
def _server_for_workers() -> Iterator[None]:
    """Let workers report to the server of this run, also when it is the temporary server of this process."""
    with get_client(sync_client=True) as client, temporary_settings({PREFECT_API_URL: str(client.api_url)}):
        yield


@contextmanager
def _ray(settings: EngineSettings, concurrency: int) -> Iterator[TaskRunner[Any]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from prefect_ray.context import remote_options
        from prefect_ray.task_runners import RayTaskRunner
    except ImportError as error:
        raise SettingsError(f"engine ray: {error}: run pip install 'sbert-prefect[ray]'") from error
    options: dict[str, Any] = {"log_to_driver": False}
    if settings.address is None:
        options |= {
            "num_cpus": concurrency * settings.cpus_per_worker,
            "object_store_memory": RAY_OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    elif settings.address == "auto":
        options |= {"address": "auto"}  # the task runner starts a cluster of its own otherwise
    with _reaching(settings, RayTaskRunner(address=settings.address, init_kwargs=options)) as runner:
        list_nodes: Any = ray.nodes  # typed only where Ray is installed
        nodes: list[dict[str, Any]] = list_nodes()
        _check_ray_nodes(settings, [node["Resources"] for node in nodes if node["Alive"]])
        with remote_options(num_cpus=settings.cpus_per_worker, num_gpus=settings.gpus_per_worker):
            yield runner


def _check_ray_nodes(settings: EngineSettings, nodes: list[dict[str, float]]) -> None:
    """Refuse a demand that no machine of the cluster can meet: Ray would wait for ever."""
    wanted = {"CPU": float(settings.cpus_per_worker), "GPU": settings.gpus_per_worker}
    if any(all(node.get(name, 0.0) >= amount for name, amount in wanted.items()) for node in nodes):
        return
    largest = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in wanted}
    where = settings.address or "started on this machine"
    raise SettingsError(
        f"engine ray: a worker needs {wanted['CPU']:g} CPUs and {wanted['GPU']:g} GPUs, but the machines of the "
        f"cluster ({where}) have at most {largest['CPU']:g} CPUs and {largest['GPU']:g} GPUs: lower cpus_per_worker or "
        "gpus_per_worker, or add a machine"
    )


@contextmanager
def _dask(settings: EngineSettings, concurrency: int) -> Iterator[TaskRunner[Any]]:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise SettingsError(f"engine dask: {error}: run pip install 'sbert-prefect[dask]'") from error
    if settings.address is not None:
        task_runner = DaskTaskRunner(address=settings.address)
    else:
        task_runner = DaskTaskRunner(
            cluster_class="distributed.LocalCluster",
            cluster_kwargs={
                "n_workers": concurrency,
                "threads_per_worker": 1,
                "memory_limit": 0,  # by default a worker that uses its share of memory is killed
                "dashboard_address": None,
            },
        )
    with _reaching(settings, task_runner) as runner:
        try:
            workers = runner.client.scheduler_info(n_workers=-1)["workers"]
        except OSError as error:
            raise _unreachable(settings, error) from error
        if not workers:
            raise SettingsError(f"engine dask: the cluster at {settings.address} has no workers: start a worker there")
        yield runner


@contextmanager
def _reaching(settings: EngineSettings, runner: AbstractContextManager[Any]) -> Iterator[Any]:
    """Enter a task runner; a cluster that does not answer is a wrong address."""
    try:
        entered = runner.__enter__()
    except (ConnectionError, OSError) as error:
        raise _unreachable(settings, error) from error
    with ExitStack() as stack:
        stack.push(runner)
        yield entered


def _unreachable(settings: EngineSettings, error: Exception) -> SettingsError:
    where = settings.address or "on this machine"
    detail = " ".join(str(error).split())
    return SettingsError(
        f"engine {settings.kind}: the cluster at {where} does not answer ({detail}): check its address"
    )
