"""Compile `kernels/` once with the machine's C++ compiler, and load the result.

The name of the compiled file is a hash of source, options and compiler, so the cache is never stale. Processes may compile
at the same time: each writes its own file and renames it. A missing compiler, or a processor that there are no kernels for,
is not an error: the reason is recorded, and the engine works without the kernels.

    python -m sbert.encoder.engine.compiled     # compile into the cache of an image that runs on machines without a compiler
"""

import ctypes
import errno
import functools
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sbert.encoder.engine.dtype import ComputeDtype
from sbert.encoder.engine.kernel_targets import ALL_UNITS, NATIVE_VARIABLE, ProcessorUnits, units_here
from sbert.runtime.compiler import COMPILERS, find_compiler
from sbert.runtime.user_cache import user_cache

__all__ = ["Kernels", "load_kernels"]

log = logging.getLogger(__name__)

OPTIONS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-w")
COMPILE_SECONDS = 120
FULL_DISK = {errno.ENOSPC, errno.EDQUOT}
MAIN_SOURCE = "encoder.cpp"

_lock = threading.Lock()


@dataclass(frozen=True)
class Kernels:
    """The compiled kernels, or the reason why they are missing."""

    library: ctypes.CDLL | None
    reason: str
    """Text for people: the units that the kernels use, or why there are no kernels."""
    units: ProcessorUnits | None = None
    may_come: bool = False
    """Whether the compiler ran out of time or the disk was full, so that the kernels may be there the next time."""


def load_kernels(dtype: ComputeDtype) -> Kernels:
    """Return the kernels for a type. The first call on a machine compiles them, which takes a few seconds.

    Raises:
        SettingsError: when `NATIVE_VARIABLE` names units that do not exist.
    """
    if os.environ.get(NATIVE_VARIABLE) == "0":
        return Kernels(None, f"turned off by {NATIVE_VARIABLE}=0")
    if not sys.platform.startswith("linux"):
        return Kernels(None, "Linux is needed")
    units = units_here(dtype)
    if units is None:
        needed = " or ".join(units.needs for units in ALL_UNITS if units.dtype is dtype) or "no processor"
        return Kernels(
            None, f"{dtype} needs {needed}, which the processor does not have, or a limit or {NATIVE_VARIABLE} forbids"
        )
    with _lock:
        return _load(units)


def read_sources() -> dict[str, str]:
    """Return the source files by name."""
    files = sorted(resources.files("sbert.encoder.engine").joinpath("kernels").iterdir(), key=lambda file: file.name)
    return {file.name: file.read_text(encoding="utf-8") for file in files if file.name.endswith((".h", ".cpp"))}


@functools.cache
def _load(units: ProcessorUnits) -> Kernels:
    try:
        began = time.perf_counter()
        file, is_new = _file(units)
        try:
            library = ctypes.CDLL(str(file))
        except OSError:
            file.unlink(missing_ok=True)
            if is_new:
                raise
            file, is_new = _file(units)
            library = ctypes.CDLL(str(file))
        library.sbert_encode.restype = ctypes.c_int32
        refused = library.sbert_start()
    except (OSError, RuntimeError, subprocess.SubprocessError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        log.warning("the kernels could not be compiled and are not used: %s", reason)
        is_passing = isinstance(error, subprocess.TimeoutExpired) or getattr(error, "errno", None) in FULL_DISK
        return Kernels(None, reason, may_come=is_passing)
    if refused:
        return Kernels(None, f"the system does not let this process use {units.needs} (answer {refused})")
    if not is_new:
        return Kernels(library, f"compiled before for {units.needs}", units)
    seconds = time.perf_counter() - began
    log.info("compiled the kernels for %s in %.1f s: %s", units.needs, seconds, file)
    return Kernels(library, f"compiled for {units.needs} in {seconds:.1f} s", units)


def _file(units: ProcessorUnits) -> tuple[Path, bool]:
    """Return the compiled file, and whether it was compiled just now.

    Raises:
        RuntimeError: when the file does not exist and cannot be compiled.
    """
    sources, folder = read_sources(), user_cache()
    name = f"kernels-{_hash([*sources, *sources.values(), *OPTIONS, *units.options])}"
    compiler = find_compiler()
    if compiler is None:
        made = sorted(folder.glob(f"{name}-*.so"), key=lambda file: file.stat().st_mtime)
        if not made:
            raise RuntimeError(f"there is no C++ compiler ({os.environ.get('CXX') or ', '.join(COMPILERS)})")
        return made[-1], False  # compiled when the image was built
    # The compiler is identified by its file, because asking for its version takes longer than everything else.
    program = Path(compiler[0]).resolve()
    state = program.stat()
    file = folder / f"{name}-{_hash([*compiler, str(program), str(state.st_size), str(state.st_mtime_ns)])}.so"
    if file.is_file():
        return file, False
    _compile(sources, compiler, units, file)
    return file, True


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _compile(sources: dict[str, str], compiler: list[str], units: ProcessorUnits, file: Path) -> None:
    """Compile the kernels into a file, which is written whole or not at all.

    Raises:
        RuntimeError: when the compiler does not accept the source.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        for source, text in sources.items():
            (Path(name) / source).write_text(text, encoding="utf-8")
        made = Path(name) / file.name
        command = [*compiler, *OPTIONS, *units.options, str(Path(name) / MAIN_SOURCE), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
        if done.returncode or not made.is_file():
            lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
            raise RuntimeError(f"{compiler[0]} ended with status {done.returncode}: {(lines or ['no message'])[0]}")
        made.replace(file)


def main() -> None:
    """Compile the kernels of all units on a machine with any processor. A failure is a message, not an error."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for units in ALL_UNITS:
        try:
            log.info("%s", _file(units)[0])
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            log.warning("the kernels for %s are not compiled: %s", units.needs, error)


if __name__ == "__main__":
    main()
