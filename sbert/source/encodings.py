"""The encoding of a text object, told by looking, and its text as UTF-8.

Everything after this module works on UTF-8. The rules, which `sbert/source/README.md` states for users:

- A byte-order mark decides. Without one, an object whose first megabyte is UTF-8 is UTF-8.
- Bytes that are not UTF-8 mean windows-1252 when nothing in that megabyte is UTF-8 beyond ASCII, and they spell something.
- A few such bytes among much UTF-8 are damage: the object is UTF-8. Anything between is an error.
- UTF-16 without a mark is an error that names the setting.
"""

import codecs
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sbert.errors import BrokenObjectError
from sbert.source.objects import Span
from sbert.source.streams import broken_data, open_stream

__all__ = [
    "HEAD_BYTES",
    "UTF8",
    "TextStream",
    "encoding_of_head",
    "marked_encoding",
    "mended_utf8",
    "open_text",
]

HEAD_BYTES = 1 << 20
"""What is looked at."""
MARK_BYTES = 4096
"""What is looked at where only a mark, or the zeros of UTF-16, tell another encoding."""
UTF8 = "utf-8"
WINDOWS = "windows-1252"
MARKS = ((codecs.BOM_UTF8, UTF8), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
CHARACTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
"""A character beyond ASCII in UTF-8, but for a few forbidden ones."""
CUT_CHARACTER = re.compile(
    rb"(?:\xe0[\xa0-\xbf]|[\xe1-\xef][\x80-\xbf]|[\xf0-\xf3][\x90-\xbf][\x80-\xbf]?)(?![\x80-\xbf])"
)
"""A character of UTF-8 whose last bytes are missing, of two bytes at least, so that it is no other encoding's letter."""
MEND = "sbert-mend"
"""Name of the error handler of `mended_utf8`."""
BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
NO_LETTERS = frozenset(b"\x81\x8d\x8f\x90\x9d\xfe\xff")
"""Bytes that windows-1252 does not define, and two whose letters are rarer than a damaged byte or a mark in the middle."""
CLEAR_RATIO = 10
"""An encoding is clear when it explains so many times as much as the other."""
ZERO_SHARE = 0.2
"""Text has no zeros; every second byte of UTF-16 is one where the text is in Latin letters."""
WINDOWS_TABLE = "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256))
"""Characters of windows-1252; the five bytes that it leaves out are control characters, as browsers read them."""


class TextStream:
    """The text of an object in UTF-8, without a byte-order mark, for reading in order."""

    def __init__(self, raw: Any, head: bytes, encoding: str) -> None:
        """Continue a stream of which `head` has been read."""
        self.encoding = encoding
        self._raw = raw
        self._decode = None if encoding == UTF8 else _decoder(encoding)
        self._waiting = self._converted(head).removeprefix(codecs.BOM_UTF8)
        self.head = self._waiting
        """The first megabyte, or less when the encoding was not guessed."""

    def read(self, num_bytes: int) -> bytes:
        """Return about `num_bytes` of text, more where its encoding is shorter than UTF-8; empty at the end."""
        while not self._waiting:
            raw: bytes = self._raw.read(num_bytes)
            if self._decode is None:
                return raw
            self._waiting = self._converted(raw)
            if not raw and not self._waiting:
                return b""
        data, self._waiting = self._waiting[:num_bytes], self._waiting[num_bytes:]
        if self._decode is None and len(data) < num_bytes:
            # So that a small object is one block, not its head and the rest.
            data += self._raw.read(num_bytes - len(data))
        return data

    def read_head(self, num_bytes: int) -> bytes:
        """Return the first `num_bytes` or more of the text; all of it when this is 0."""
        parts: list[bytes] = []
        size = 0
        while (not num_bytes or size < num_bytes) and (data := self.read(num_bytes or HEAD_BYTES)):
            parts.append(data)
            size += len(data)
        return b"".join(parts)

    def _converted(self, data: bytes) -> bytes:
        if self._decode is None:
            return data
        return self._decode(data, not data).encode("utf-8", "replace")


def _decoder(encoding: str) -> Callable[[bytes, bool], str]:
    """Return a function of bytes and whether they are the last, which decodes a stream piece by piece."""
    if encoding == WINDOWS:
        return lambda data, _: codecs.charmap_decode(data, "strict", WINDOWS_TABLE)[0]
    return codecs.getincrementaldecoder(encoding)().decode


@contextmanager
def open_text(span: Span, encoding: str | None, *, guess: bool, head_bytes: int = 0) -> Iterator[TextStream]:
    """Open an object as text in UTF-8.

    Args:
        span: its object is read from the beginning.
        encoding: as named by a person; None to tell it by looking.
        guess: whether bytes that are not UTF-8 may mean windows-1252.
        head_bytes: least size of the head that is shown, unless the object is shorter (bytes).

    Raises:
        BrokenObjectError: when the encoding is uncertain, or the object cannot be opened.
    """
    uri = span.object.uri
    with broken_data(uri), open_stream(span) as raw:
        head = _read_fully(raw, max(head_bytes, HEAD_BYTES if guess else MARK_BYTES))
        yield TextStream(raw, head, encoding or encoding_of_head(uri, head, guess=guess))


def _read_fully(raw: Any, num_bytes: int) -> bytes:
    parts: list[bytes] = []
    missing = num_bytes
    while missing > 0 and (data := raw.read(missing)):
        parts.append(bytes(data))
        missing -= len(data)
    return b"".join(parts)


def marked_encoding(span: Span, encoding: str | None) -> str:
    """Return the encoding of an object by setting or mark, else UTF-8; for slices, which cannot look at the whole head."""
    if encoding is not None:
        return encoding
    with broken_data(span.object.uri), open_stream(span) as raw:
        return encoding_of_head(span.object.uri, _read_fully(raw, MARK_BYTES), guess=False)


def encoding_of_head(uri: str, head: bytes, *, guess: bool) -> str:
    """Return the encoding that the first bytes of an object show.

    Raises:
        BrokenObjectError: when it is uncertain; the message names the settings that fit.
    """
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    _refuse_unmarked_utf16(uri, head[:MARK_BYTES])
    if not guess or head.isascii():
        return UTF8
    return _utf8_or_windows(uri, head)


def _refuse_unmarked_utf16(uri: str, head: bytes) -> None:
    zeros = [head[place::2].count(0) for place in (0, 1)]
    if len(head) >= 2 and max(zeros) > ZERO_SHARE * len(head) / 2 and min(zeros) * CLEAR_RATIO < max(zeros):
        likely = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
        raise BrokenObjectError(
            uri,
            f"{max(zeros):,} of the first {len(head):,} bytes are zeros, as in UTF-16 without a byte-order mark: set "
            f'source.encoding to {likely} (--settings \'{{"source": {{"encoding": "{likely}"}}}}\'), which applies to every '
            "text object of the source, so keep objects of another encoding elsewhere",
        )


def _utf8_or_windows(uri: str, head: bytes) -> str:
    groups = BEYOND_ASCII.findall(head)
    num_utf8 = num_other = 0
    seen: set[int] = set()
    for number, group in enumerate(groups):
        others, num_characters = CHARACTER.subn(b"", group)
        others, num_cut = CUT_CHARACTER.subn(b"", others)
        num_utf8 += num_characters + num_cut
        if others and not (number == len(groups) - 1 and head.endswith(group)):  # the head may end within a character
            num_other += len(others)
            seen.update(others)
    if num_other * CLEAR_RATIO <= num_utf8:
        return UTF8
    if num_utf8 * CLEAR_RATIO <= num_other:
        return UTF8 if seen & NO_LETTERS else WINDOWS
    raise BrokenObjectError(
        uri,
        f"of its characters beyond ASCII {num_utf8:,} are UTF-8 and {num_other:,} are not, so both utf-8 and windows-1252 "
        "fit: set source.encoding to one of them",
    )


def mended_utf8(raw: bytes) -> str | None:
    """Decode UTF-8 in which characters are cut off; None when it holds other bytes that are not UTF-8.

    Programs that cut text after a number of bytes leave the first bytes of a character. Each such rest becomes U+FFFD, so
    that one broken character does not cost its row. One byte alone may be a letter of another encoding and is not mended.
    """
    try:
        return raw.decode("utf-8", MEND)
    except UnicodeDecodeError:
        return None


def _mend(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError) and error.end - error.start > 1:
        return "\ufffd", error.end
    raise error


codecs.register_error(MEND, _mend)
