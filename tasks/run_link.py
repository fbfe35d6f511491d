"""The link to a flow run, where a UI answers that shows it."""

import logging
from typing import Any

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

from tasks.certificates import trusted_certificates

__all__ = ["run_url"]

log = logging.getLogger(__name__)

LOCAL_UI_URL = "http://127.0.0.1:4200"
"""The address of `make ui` and `prefect server start`. A temporary server stores its runs in the same database."""
CLOUD_HOST = "prefect.cloud"
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 10.0


def run_url(run_id: str) -> str | None:
    """Return the address of a flow run in the UI that opens there, or None when no UI answers that has the run.

    Prefect's server has two UIs and says which one is its default. Prefect Cloud has one.
    """
    base = (PREFECT_UI_URL.value() or LOCAL_UI_URL).rstrip("/")
    if CLOUD_HOST in base:
        return f"{base}/runs/flow-run/{run_id}"
    try:
        settings = _read_json(f"{base}/ui-settings")
        if not PREFECT_API_URL.value():  # another database may be behind the UI of this machine
            _read_json(f"{settings['api_url']}/flow_runs/{run_id}")
    except (httpx.HTTPError, ValueError, KeyError) as error:
        log.debug("no UI shows the run at %s: %s", base, error)
        return None
    if not settings.get("available_uis", ["v1"]):  # a server without a UI, such as the temporary one
        return None
    path = str(settings.get(f"{settings.get('default_ui')}_base_url") or "/").strip("/")
    return "/".join([base, *([path] if path else []), "runs/flow-run", run_id])


def _read_json(url: str) -> Any:
    answer = httpx.get(
        url, timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS), verify=trusted_certificates()
    )
    answer.raise_for_status()
    return answer.json()
