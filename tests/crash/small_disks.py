"""File systems of a fixed size, to see what happens when a disk is full."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["SmallDisk", "small_disk"]


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system of a fixed size."""

    folder: Path

    def resize(self, size: str) -> None:
        """Give the file system another size, such as ``200m``; its files stay."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, size: str, *, without_root: str) -> Iterator[SmallDisk]:
    """Mount a file system of `size` at a new folder, and remove both afterwards.

    The test is skipped where mounting is not allowed.

    Args:
        folder: where to mount; it must not exist.
        size: such as ``200k``.
        without_root: name of the test that covers the same behaviour without a mounted file system.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(
            f"mounting a file system of a fixed size needs Linux and root ({mounted.stderr.strip()}): run this test as root; "
            f"{without_root} tests without it what happens when a write is refused"
        )
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()
