"""JSON text that every parser reads: numbers that JSON does not have (NaN, Infinity) are written as null."""

import json
import math
from typing import Any

__all__ = ["json_text"]


def json_text(value: Any) -> str:
    """Return `value` as one line of JSON. Bytes become hexadecimal, other types that JSON lacks become their text."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_without_nan(value), ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list | tuple) else value
