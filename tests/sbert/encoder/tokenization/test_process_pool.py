"""Processes that tokenize: the same ids as without them, also when they die, and nothing left behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from sbert.encoder.sentence_encoder import SentenceEncoder
from sbert.encoder.tokenization import process_pool as tokenizer_pool
from sbert.encoder.tokenization.process_pool import FEWEST_TEXTS, PROCESSES_VARIABLE, num_tokenizer_processes
from sbert.encoder.tokenization.worker import token_ids
from sbert.errors import SettingsError
from tests.support.tiny_models import HIDDEN, WORDS, save_tiny

NUM_TEXTS = FEWEST_TEXTS + 700


def make_texts(num: int = NUM_TEXTS) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, count)) for count in rng.integers(0, 9, num)]


def children() -> set[int]:
    """Return the processes of pools that this process has started."""
    pids = set()
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if "sbert.encoder.tokenization.worker" in " ".join(each.cmdline()):
                pids.add(each.pid)
    return pids


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


@pytest.mark.parametrize("busy", [False, True])
def test_killed_tokenizer_processes_cost_a_warning_and_no_text(
    encoder: SentenceEncoder, caplog: pytest.LogCaptureFixture, *, busy: bool
) -> None:
    texts, before = make_texts(), children()
    expected = encoder.tokenize(texts).input_ids
    started = children() - before
    with ThreadPoolExecutor(1) as thread:
        if busy:  # one has taken its share and does not answer
            os.kill(min(started), signal.SIGSTOP)
            pending = thread.submit(encoder.tokenize, texts)
            time.sleep(0.5)
            assert not pending.done()
        for pid in started:
            os.kill(pid, signal.SIGKILL)
        if not busy:
            pending = thread.submit(encoder.tokenize, texts)
        np.testing.assert_array_equal(pending.result(timeout=60).input_ids, expected)
    assert "a tokenizer process ended" in caplog.text
    np.testing.assert_array_equal(encoder.tokenize(texts).input_ids, expected)
    assert not children() - before


def test_threads_that_share_a_pool_take_turns(encoder: SentenceEncoder) -> None:
    pool, before = encoder._tokenizer_pool, children()
    blocks = [make_texts(NUM_TEXTS + extra) for extra in range(4)]
    with ThreadPoolExecutor(4) as threads:
        id_blocks = list(threads.map(pool.token_ids, blocks))
    assert len(children() - before) == 2
    for block, ids in zip(blocks, id_blocks, strict=True):
        np.testing.assert_array_equal(ids[0], token_ids(pool.tokenizer, block)[0])


def test_an_interrupted_block_is_not_answered_to_the_next(
    encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, texts = encoder._tokenizer_pool, make_texts()
    other = list(reversed(texts))
    expected = pool.token_ids(other)[0]

    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tokenizer_pool.pickle, "load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.token_ids(texts)
    np.testing.assert_array_equal(pool.token_ids(other)[0], expected)


def test_the_number_of_tokenizer_processes_follows_device_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROCESSES_VARIABLE, raising=False)
    assert num_tokenizer_processes("cpu", 8) == 0
    for threads, expected in ((1, 0), (6, 6), (200, tokenizer_pool.MAX_PROCESSES)):
        assert num_tokenizer_processes("cuda", threads) == expected
    monkeypatch.setenv(PROCESSES_VARIABLE, "3")
    assert num_tokenizer_processes("cpu", 8) == 3
    monkeypatch.setenv(PROCESSES_VARIABLE, "many")
    with pytest.raises(SettingsError, match="SBERT_TOKENIZER_PROCESSES is 'many', expected a number"):
        num_tokenizer_processes("cpu", 8)


SCRIPT = """
import multiprocessing, signal, warnings
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
from sbert import SentenceEncoder
encoder = SentenceEncoder.from_pretrained({folder!r}, device="cpu")
texts = ["red blue"] * {num}
print(encoder.encode(texts).shape, flush=True)
if {end!r} == "its end":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads
        forked = multiprocessing.get_context("fork").Process(target=encoder.tokenize, args=(texts,), daemon=True)
        forked.start()
    forked.join(60)
    assert forked.exitcode == 0
    encoder.tokenize(texts)
else:
    while True:
        encoder.tokenize(texts)
"""


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("its end", marks=pytest.mark.slow),
        pytest.param("Ctrl-C", marks=pytest.mark.slow),
        pytest.param("SIGKILL", marks=pytest.mark.slow),
    ],
)
def test_a_script_without_a_main_guard_runs_and_leaves_nothing(tmp_path: Path, end: str) -> None:
    script = SCRIPT.format(folder=str(save_tiny(tmp_path)), num=NUM_TEXTS, end=end)
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, PROCESSES_VARIABLE: "2", "TOKENIZERS_PARALLELISM": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == f"({NUM_TEXTS}, {HIDDEN})\n"
            started = psutil.Process(running.pid).children(recursive=True)
            if end == "Ctrl-C":
                os.killpg(running.pid, signal.SIGINT)  # the whole group, as a terminal does
            elif end == "SIGKILL":
                running.kill()
            _, errors = running.communicate(timeout=60)
        finally:
            running.kill()
    _, alive = psutil.wait_procs(started, timeout=20)
    assert alive == []
    if end == "its end":
        assert running.returncode == 0
        assert errors == ""
    elif end == "Ctrl-C":
        assert running.returncode == -signal.SIGINT, errors
        assert errors.rstrip().endswith("KeyboardInterrupt")


def test_the_default_for_a_cpu_is_to_use_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROCESSES_VARIABLE, raising=False)
    encoder = SentenceEncoder.from_pretrained(save_tiny(tmp_path), device="cpu")
    before = children()
    encoder.tokenize(make_texts())
    assert children() <= before
