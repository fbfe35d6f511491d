"""The sample corpus: the same in every run, and nothing of the machine that made it."""

from pathlib import Path

import pytest

from sbert.source.sample import module_documents, write_sample

MODULE = '''
"""A module whose functions have defaults of all kinds, each with enough documentation."""
import os

def plain(number=1, name="x", kind=int, pair=(1, "b"), nothing=None):
    """Has defaults that are constants and classes."""

def of_environment(environ=os.environ, made=object(), call=len):
    """Has defaults whose text differs from run to run."""
'''


def test_the_sample_is_the_same_in_every_run_and_holds_nothing_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for run in ("one", "two"):
        monkeypatch.setenv("SBERT_TEST_VALUE", f"a-value-of-run-{run}")
        monkeypatch.setenv("PYTHONHASHSEED", str(len(written)))
        path = tmp_path / f"{run}.jsonl"
        assert write_sample(str(path)) > 1_000
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert b"a-value-of-run" not in written[0]


def test_of_default_values_constants_and_classes_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_of_defaults.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = {document["id"]: document["text"] for document in module_documents(["module_of_defaults"])}
    assert (
        "plain(number=1, name='x', kind=<class 'int'>, pair=(1, 'b'), nothing=None)"
        in texts["module_of_defaults.plain"]
    )
    assert "of_environment(environ=..., made=..., call=...)" in texts["module_of_defaults.of_environment"]
