"""Credentials are taken out of messages, and nothing else is."""

import pytest

from sbert.storage.redaction import redact


def test_values_of_telling_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted/Secret+Value")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "planted-session")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/etc/keys/service.json")
    shown = redact("planted/Secret+Value at eu-central-1, planted-session, /etc/keys/service.json")
    assert shown == "*** at eu-central-1, ***, /etc/keys/service.json"


def test_credentials_inside_addresses_are_hidden() -> None:
    assert redact("s3://key:secret@bucket/raw failed") == "s3://***@bucket/raw failed"
    assert redact("GET /a?X-Amz-Signature=abc123&part=2") == "GET /a?X-Amz-Signature=***&part=2"
    assert redact("ann@example.org wrote https://example.org/a@b") == "ann@example.org wrote https://example.org/a@b"


def test_short_values_are_taken_for_words_and_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "table")
    assert redact("the table is gone") == "the table is gone"
