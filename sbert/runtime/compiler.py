"""The C++ compiler of this machine. This module does not import torch."""

import os
import shlex
import shutil

__all__ = ["COMPILERS", "find_compiler"]

COMPILERS = ("c++", "g++", "clang++")
"""Compilers to look for, in this order, unless CXX names one."""


def find_compiler() -> list[str] | None:
    """Return the compiler as a command, or None when no compiler is installed."""
    configured = os.environ.get("CXX")
    for command in [shlex.split(configured)] if configured else [[name] for name in COMPILERS]:
        program = shutil.which(command[0]) if command else None
        if program is not None:
            return [program, *command[1:]]
    return None
