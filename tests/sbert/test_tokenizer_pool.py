"""Processes that tokenize: the same ids as without them, also when they die, and nothing left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from sbert import tokenizer_pool
from sbert.encoder import SentenceEncoder
from sbert.errors import SettingsError
from sbert.tokenizer_pool import FEWEST_TEXTS, PROCESSES_VARIABLE, num_tokenizer_processes
from tests.tiny_models import HIDDEN, WORDS, save_tiny

NUM_TEXTS = FEWEST_TEXTS + 700


def make_texts(num: int = NUM_TEXTS) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, count)) for count in rng.integers(0, 9, num)]


def children() -> set[int]:
    """Give the processes of pools that this process has started."""
    found = set()
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if "popen_loky_posix" in " ".join(each.cmdline()):
                found.add(each.pid)
    return found


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SentenceEncoder:
    monkeypatch.setenv(PROCESSES_VARIABLE, "2")
    return SentenceEncoder.from_pretrained(save_tiny(tmp_path), device="cpu", max_seq_length=6)


@pytest.mark.parametrize("prompt", ["", "red blue "])
def test_processes_give_the_same_tokens_in_the_same_order(
    encoder: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    monkeypatch.setenv(PROCESSES_VARIABLE, "0")
    alone = SentenceEncoder.from_pretrained(tmp_path, device="cpu", max_seq_length=6)
    texts, before = make_texts(), children()
    expected = alone.tokenize(texts, prompt=prompt)
    assert children() <= before
    tokens = encoder.tokenize(texts, prompt=prompt)
    assert len(children() - before) == 2
    assert tokens.truncated.any()
    for name in ("input_ids", "offsets", "num_tokens", "truncated", "text_index"):
        np.testing.assert_array_equal(getattr(tokens, name), getattr(expected, name))


def test_few_texts_start_no_process(encoder: SentenceEncoder) -> None:
    before = children()
    encoder.tokenize(make_texts(FEWEST_TEXTS - 1))
    assert children() <= before


def test_killed_processes_cost_a_warning_and_no_text(
    encoder: SentenceEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    texts, before = make_texts(), children()
    expected = encoder.tokenize(texts).input_ids
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
    np.testing.assert_array_equal(encoder.tokenize(texts).input_ids, expected)
    assert "tokenizing goes on without processes" in caplog.text
    np.testing.assert_array_equal(encoder.tokenize(texts).input_ids, expected)
    deadline = time.monotonic() + 20
    while children() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert children() <= before


def test_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROCESSES_VARIABLE, raising=False)
    assert num_tokenizer_processes("cpu") == 0
    for cpus, expected in ((1, 0), (6, 6), (200, tokenizer_pool.MAX_PROCESSES)):
        monkeypatch.setattr(tokenizer_pool, "available_cpus", lambda cpus=cpus: cpus)
        assert num_tokenizer_processes("cuda") == expected
    monkeypatch.setenv(PROCESSES_VARIABLE, "3")
    assert num_tokenizer_processes("cpu") == 3
    monkeypatch.setenv(PROCESSES_VARIABLE, "many")
    with pytest.raises(SettingsError, match="SBERT_TOKENIZER_PROCESSES is 'many', expected a number"):
        num_tokenizer_processes("cpu")


SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
from sbert import SentenceEncoder
encoder = SentenceEncoder.from_pretrained({folder!r}, device="cpu")
print(encoder.encode(["red blue"] * {num}).shape, flush=True)
if {wait}:
    while True:
        encoder.encode(["red blue"] * {num})
"""


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_script_without_a_main_guard_runs_and_leaves_nothing(tmp_path: Path, *, interrupted: bool) -> None:
    script = SCRIPT.format(folder=str(save_tiny(tmp_path)), num=NUM_TEXTS, wait=interrupted)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, PROCESSES_VARIABLE: "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == f"({NUM_TEXTS}, {HIDDEN})\n"
            started = psutil.Process(running.pid).children(recursive=True)
            if interrupted:
                os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C does: the whole group
            _, errors = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == (-signal.SIGINT if interrupted else 0), errors
    assert started or not interrupted
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []


def test_the_default_for_a_cpu_is_to_use_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROCESSES_VARIABLE, raising=False)
    encoder = SentenceEncoder.from_pretrained(save_tiny(tmp_path), device="cpu")
    before = children()
    encoder.tokenize(make_texts())
    assert children() <= before
