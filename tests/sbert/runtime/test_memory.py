"""Heaps are shared and emptied where the C library can, and nothing fails where it cannot."""

import gc

import pytest

from sbert.runtime import memory


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    assert not memory.share_heaps.__wrapped__()
    freed = memory.FreedMemory()
    monkeypatch.setattr(memory, "SECONDS", 0.0)
    freed.give_back()


def test_the_environment_has_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    assert not memory.share_heaps.__wrapped__()


def test_memory_is_given_back_at_most_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        num_trims = 0

        def malloc_trim(self, _: int) -> int:
            self.num_trims += 1
            return 1

    library, now = Library(), 100.0
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    monkeypatch.setattr(memory.time, "monotonic", lambda: now)
    freed = memory.FreedMemory()
    for now in (100.5, 101.1, 101.5, 102.0, 102.2):  # noqa: B007  (the clock)
        freed.give_back()
    assert library.num_trims == 2


def test_a_pause_of_the_search_for_cycles_ends_with_the_last_of_several() -> None:
    pauses = memory.CycleSearchPauses()
    assert gc.isenabled()
    with pauses.pause():
        with pauses.pause():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), pauses.pause():
        _ = 1 / 0
    assert gc.isenabled()


def test_a_search_for_cycles_that_is_off_stays_off() -> None:
    pauses = memory.CycleSearchPauses()
    gc.disable()
    try:
        with pauses.pause():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
