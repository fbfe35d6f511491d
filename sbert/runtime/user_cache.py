"""The folder of this project in the user's cache."""

import os
from pathlib import Path

__all__ = ["user_cache"]


def user_cache() -> Path:
    """Return the folder (XDG_CACHE_HOME, else ``~/.cache``). It may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sbert-prefect"
