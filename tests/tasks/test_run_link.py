"""The link to a run: only where a UI answers that has the run, and to the UI that opens there."""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from tasks import run_link
from tasks.certificates import trusted_certificates
from tasks.run_link import run_url


class Ui:
    """A stand-in for Prefect's server, with two UIs and one run."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[str, Any] = {
            "/ui-settings": {
                "api_url": f"{url}/api", "default_ui": "v2", "available_uis": ["v1", "v2"], "v1_base_url": "/", "v2_base_url": "/v2",
            },
            "/api/flow_runs/known": {"id": "known"},
        }  # fmt: skip


@pytest.fixture
def ui(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ui]:
    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = served.pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(page).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        served = Ui(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(run_link, "LOCAL_UI_URL", served.url)
        with temporary_settings(restore_defaults={PREFECT_API_URL, PREFECT_UI_URL}):
            yield served
        server.shutdown()
        thread.join()


def test_the_link_leads_to_the_ui_that_opens(ui: Ui) -> None:
    assert run_url("known") == f"{ui.url}/v2/runs/flow-run/known"
    ui.pages["/ui-settings"]["default_ui"] = "v1"
    assert run_url("known") == f"{ui.url}/runs/flow-run/known"


def test_a_ui_of_another_database_has_no_link(ui: Ui) -> None:
    assert run_url("unknown") is None


def test_a_configured_server_has_the_run_that_it_started(ui: Ui) -> None:
    with temporary_settings({PREFECT_API_URL: f"{ui.url}/api", PREFECT_UI_URL: ui.url}):
        assert run_url("just-begun") == f"{ui.url}/v2/runs/flow-run/just-begun"


def test_a_server_without_a_ui_has_no_link(ui: Ui) -> None:
    ui.pages["/ui-settings"]["available_uis"] = []
    assert run_url("known") is None


def test_where_nothing_answers_there_is_no_link(ui: Ui, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_link, "LOCAL_UI_URL", "http://127.0.0.1:9")
    assert run_url("known") is None
    ui.pages.clear()
    monkeypatch.setattr(run_link, "LOCAL_UI_URL", ui.url)
    assert run_url("known") is None


def test_the_link_to_the_cloud_is_that_of_its_only_ui() -> None:
    base = "https://app.prefect.cloud/account/a/workspace/w"
    with temporary_settings({PREFECT_UI_URL: base}):
        assert run_url("known") == f"{base}/runs/flow-run/known"


def test_certificates_are_read_once_for_all_questions(ui: Ui, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[ssl.SSLContext] = []

    def create(**options: Any) -> ssl.SSLContext:
        read.append(create_context(**options))
        return read[-1]

    create_context = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", create)
    trusted_certificates.cache_clear()
    assert run_url("known") == f"{ui.url}/v2/runs/flow-run/known"  # two questions
    assert len(read) == 1
    assert trusted_certificates() is read[0]
    assert read[0].verify_mode is ssl.CERT_REQUIRED
