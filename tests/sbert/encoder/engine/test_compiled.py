"""Compiling once, in any number of processes, and going on without when it cannot be done."""

import ctypes
import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from sbert.encoder.engine import compiled
from sbert.encoder.engine import kernel_targets as units_of_processors
from sbert.encoder.engine.compiled import Kernels
from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import ALL_UNITS, NATIVE_VARIABLE
from sbert.errors import SettingsError
from sbert.runtime.user_cache import user_cache

WORKS = 'echo compiled > "$made"'
"""A function that does what a working compiler does."""


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with AMX, an empty cache, and nothing remembered."""
    monkeypatch.setattr(units_of_processors, "has_units", lambda name: True)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(NATIVE_VARIABLE, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", fake_library)
    compiled._load.cache_clear()
    yield
    compiled._load.cache_clear()


def load_kernels() -> Kernels:
    return compiled.load_kernels(ComputeDtype.BFLOAT16)


def fake_library(file: str, answer: int = 0) -> SimpleNamespace:
    if Path(file).read_text(encoding="utf-8") != "compiled\n":
        raise OSError(f"{file}: invalid ELF header")
    return SimpleNamespace(sbert_encode=SimpleNamespace(), sbert_start=lambda: answer)


def make_compiler(folder: Path, script: str) -> Path:
    """A compiler that writes down its calls; its last argument is the file to make."""
    file = folder / "compiler"
    file.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/calls"\nfor made; do :; done\n{script}\n', encoding="utf-8")
    file.chmod(0o755)
    return file


def num_calls(folder: Path) -> int:
    return len((folder / "calls").read_text(encoding="utf-8").splitlines())


def left_in_cache() -> list[str]:
    return sorted(path.name for path in user_cache().rglob("*"))


def test_kernels_are_compiled_once_for_each_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", f"{make_compiler(tmp_path, WORKS)} -one-option")
    assert load_kernels().reason.startswith("compiled for AMX in ")
    assert "-one-option -O3 " in (tmp_path / "calls").read_text(encoding="utf-8")
    compiled._load.cache_clear()
    assert load_kernels().reason == "compiled before for AMX"
    assert num_calls(tmp_path) == 1
    assert len(left_in_cache()) == 1
    sources = compiled.read_sources()
    monkeypatch.setattr(compiled, "read_sources", lambda: {**sources, "encoder.cpp": "// another"})
    compiled._load.cache_clear()
    assert load_kernels().library is not None
    assert num_calls(tmp_path) == 2
    assert len(left_in_cache()) == 2


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'x.cpp:3: error: no such thing' >&2; exit 1", "status 1: x.cpp:3: error: no such thing"),
        ("exit 0", "status 0: no message"),
        ("kill -9 $$", "status -9: no message"),
        ("echo rubbish > $made", "invalid ELF header"),
    ],
)
def test_kernels_are_not_used_when_the_compiler_fails(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", str(make_compiler(tmp_path, script)))
    with caplog.at_level(logging.WARNING, logger="sbert.encoder.engine.compiled"):
        kernels = load_kernels()
    assert kernels.library is None
    assert reason in kernels.reason
    assert reason in caplog.text
    assert left_in_cache() == []
    assert load_kernels() is kernels  # it is not tried again and again


def test_a_broken_cache_file_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(make_compiler(tmp_path, WORKS)))
    load_kernels()
    (file,) = user_cache().iterdir()
    file.write_text("half a fi", encoding="utf-8")
    compiled._load.cache_clear()
    assert load_kernels().library is not None
    assert num_calls(tmp_path) == 2


def test_kernels_are_not_used_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    assert load_kernels().reason == f"there is no C++ compiler ({tmp_path / 'none'})"
    compiled._load.cache_clear()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load_kernels().reason == "there is no C++ compiler (c++, g++, clang++)"


def test_kernels_of_an_image_are_used_without_a_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", str(make_compiler(tmp_path, WORKS)))
    with caplog.at_level(logging.INFO, logger="sbert.encoder.engine.compiled"):
        compiled.main()
        monkeypatch.setenv("CXX", str(tmp_path / "none"))
        assert load_kernels().reason == "compiled before for AMX"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        compiled.main()
    assert all("kernels-" in message for message in caplog.messages[: len(ALL_UNITS)])
    not_compiled = "the kernels for AMX are not compiled: there is no C++ compiler"
    assert caplog.messages[len(ALL_UNITS)].startswith(not_compiled)
    assert len(caplog.messages) == 2 * len(ALL_UNITS)


def test_kernels_are_not_used_when_their_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(make_compiler(tmp_path, WORKS)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "compiler"))  # a file
    assert "Not a directory" in load_kernels().reason


def test_processes_that_race_leave_one_whole_file(tmp_path: Path) -> None:
    compiler = make_compiler(tmp_path, 'printf comp > "$made"; sleep 0.1; echo iled >> "$made"')
    file = tmp_path / "kernels.so"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: compiled._compile({"encoder.cpp": ""}, [str(compiler)], ALL_UNITS[0], file), range(4)))
    assert num_calls(tmp_path) == 4
    assert file.read_text(encoding="utf-8") == "compiled\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["calls", "compiler", "kernels.so"]


def test_kernels_are_not_loaded_on_machines_that_cannot_run_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", str(make_compiler(tmp_path, WORKS)))
    monkeypatch.setattr(ctypes, "CDLL", lambda file: fake_library(file, answer=-1))
    assert load_kernels().reason == "the system does not let this process use AMX (answer -1)"
    monkeypatch.setattr(units_of_processors, "has_units", lambda name: False)
    needed = "which the processor does not have, or a limit or SBERT_NATIVE forbids"
    assert load_kernels().reason == f"bfloat16 needs AMX or AVX512-BF16, {needed}"
    assert compiled.load_kernels(ComputeDtype.FLOAT32).reason == f"float32 needs AVX-512 or AVX2, {needed}"
    assert compiled.load_kernels(ComputeDtype.INT8).reason == f"int8 needs AVX512-VNNI, {needed}"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert load_kernels().reason == "Linux is needed"
    monkeypatch.setenv(NATIVE_VARIABLE, "0")
    assert load_kernels().reason == "turned off by SBERT_NATIVE=0"


@pytest.mark.parametrize(
    "missing",
    [
        [],
        ["amx"],
        ["amx", "avx512_vnni"],
        ["amx", "avx512_vnni", "avx512_bf16"],
        ["amx", "avx512_vnni", "avx512_bf16", "avx512"],
    ],
)
def test_the_fastest_units_of_the_processor_are_chosen(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units_of_processors, "has_units", lambda name: name not in missing)
    fastest = [units_of_processors.units_here(dtype) for dtype in ComputeDtype]
    names = [units.name if units else None for units in fastest]
    floats = "avx512" if "avx512" not in missing else "avx2"
    halves = next((name for name in ("amx", "avx512_bf16") if name not in missing), None)
    integers = "avx512_vnni" if "avx512_vnni" not in missing else None
    assert dict(zip(ComputeDtype, names, strict=True)) == {
        "float32": floats, "bfloat16": halves, "float16": None, "int8": integers,
    }  # fmt: skip


def test_units_can_be_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NATIVE_VARIABLE, "avx2")
    units = units_of_processors.units_here(ComputeDtype.FLOAT32)
    assert units is not None
    assert units.name == "avx2"
    assert units_of_processors.units_here(ComputeDtype.BFLOAT16) is None
    monkeypatch.setenv(NATIVE_VARIABLE, "avx3")
    with pytest.raises(
        SettingsError, match="SBERT_NATIVE is 'avx3', expected 0, 1, amx, avx512_vnni, avx512_bf16, avx512, avx2"
    ):
        units_of_processors.units_here(ComputeDtype.FLOAT32)


def test_the_package_has_its_sources() -> None:
    assert list(compiled.read_sources()) == [
        "encoder.cpp", "model.h", "norms.h", "register_attention.h", "register_integer_attention.h",
        "register_integers.h", "register_layers.h",
        "register_products.h", "registers.h", "team.h", "tile_attention.h", "tile_layers.h", "tile_products.h", "tiles.h",
    ]  # fmt: skip
