"""``sbert models`` for people: each version with its state, its metric and the reason, at any width."""

from typing import Any

import pytest

from flows.cli.models import _show_listing
from flows.cli.output import out

REASON = "spearman 0.8204 → 0.8254: +0.0050 could be chance (30 test rows); more labels would help"


def version(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "version": name, "production": False, "accepted": True, "weights": True, "created_at": "2026-11-28T10:20:30",
        "metric": "spearman", "before": 0.8204, "after": 0.8254, "encoder_fingerprint": "0123456789abcdef", "reason": REASON,
        "awaits_approval": False, "approval": None, **fields,
    }  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 160])
def test_versions_are_readable_at_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(out, "width", width)
    listing = [version("v0001", production=True), version("v0002", accepted=False, weights=False)]
    _show_listing({"models_uri": "s3://bucket/models", "versions": listing})
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    words = " ".join(" ".join(lines).split())
    assert "v0001 production · 2026-11-28 10:20 · spearman 0.8204 → 0.8254" in words
    assert "v0002 refused, no weights ·" in words
    assert REASON in words


def test_an_empty_registry_says_how_a_version_comes_about(capsys: pytest.CaptureFixture[str]) -> None:
    _show_listing({"models_uri": "models", "versions": []})
    assert "no versions yet: the first retraining makes one" in capsys.readouterr().out
