"""Heaps are shared and emptied where the C library can, and nothing fails where it cannot."""

import gc
import sys
from types import ModuleType

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


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the search was on, each time that objects were left out of all later searches; none really is."""
    times: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: times.append(gc.isenabled()))
    return times


def test_loaded_modules_are_left_out_of_the_searches_before_the_next_one(
    frozen: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = memory.CycleSearchPauses()
    with pauses.load():
        assert not gc.isenabled()
        monkeypatch.setitem(sys.modules, "just_loaded", ModuleType("just_loaded"))
    assert gc.isenabled()
    assert frozen == [False]


def test_a_load_inside_a_pause_does_not_end_it(frozen: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = memory.CycleSearchPauses()
    with pauses.pause():
        with pauses.load():
            monkeypatch.setitem(sys.modules, "just_loaded", ModuleType("just_loaded"))
        assert not gc.isenabled()
    assert gc.isenabled()
    assert frozen == [False]


def test_a_load_that_finds_all_modules_loaded_leaves_out_nothing(frozen: list[bool]) -> None:
    """A process that calls commands again and again would never free the garbage of these moments."""
    with memory.CycleSearchPauses().load():
        import gc as loaded_before  # noqa: F401
    assert gc.isenabled()
    assert frozen == []


def test_a_load_that_fails_ends_the_pause_and_leaves_out_nothing(
    frozen: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        monkeypatch.setitem(sys.modules, "just_loaded", ModuleType("just_loaded"))
        raise ImportError

    with pytest.raises(ImportError), memory.CycleSearchPauses().load():
        load()
    assert gc.isenabled()
    assert frozen == []
