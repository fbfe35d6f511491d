"""Numbers with their noun, for texts that a person reads."""

__all__ = ["counted", "listed"]


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun: ``1 row``, ``2,000 rows``. The plural takes an s, unless it is given."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def listed(noun: str, numbers: list[int]) -> str:
    """Return a noun with its numbers: ``version 0``, ``versions 0, 2 and 3``."""
    *before, last = map(str, numbers)
    return f"{noun}s {', '.join(before)} and {last}" if before else f"{noun} {last}"
