"""Compile `kernels.cpp` with the machine's C++ compiler, once, and load it.

The one idea: what is compiled is named by all that decides it (source, options, compiler), so that the cache is never stale
and processes may race: each writes a file of its own and renames it. A machine without compiler or without AMX is no error:
there is a reason, and the engine goes on without.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from sbert.hardware import has_amx

__all__ = ["NATIVE_VARIABLE", "Kernels", "load_kernels"]

log = logging.getLogger(__name__)

NATIVE_VARIABLE = "SBERT_NATIVE"
"""Environment variable: 0 keeps the compiled kernels from being used."""
COMPILERS = ("c++", "g++", "clang++")
OPTIONS = "-O3 -std=c++17 -march=x86-64-v4 -mamx-tile -mamx-bf16 -mavx512bf16 -shared -fPIC".split()
COMPILE_SECONDS = 60


@dataclass(frozen=True)
class Kernels:
    """The compiled kernels, or why there are none."""

    library: ctypes.CDLL | None
    reason: str
