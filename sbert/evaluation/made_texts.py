"""Texts that rows are made from by rule: sentences of given texts, and of the documentation of Python's standard library.

The documentation has two parts that share no sentence: one for the sets that encoders are measured on, and one for the
rows by which training keeps a skill. Both are on every machine, and depend on the version of Python.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from sbert.source.sample import module_documents

__all__ = [
    "documentation_pairs",
    "documentation_sentences",
    "filled_up",
    "first_sentences",
    "rehearsal_sentences",
    "text_order",
]

MIN_CHARACTERS, MAX_CHARACTERS = 12, 300
"""A shorter text says too little to be negated; in a longer one a single word hardly moves the vector."""
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])")
MEASURED_MODULES = (
    "argparse", "ast", "asyncio", "base64", "bisect", "calendar", "collections", "concurrent.futures", "configparser",
    "contextlib", "csv", "datetime", "decimal", "difflib", "email.message", "enum", "fractions", "ftplib", "functools",
    "gettext", "gzip", "heapq", "hmac", "html.parser", "http.client", "http.cookiejar", "imaplib", "inspect", "ipaddress",
    "itertools", "json", "logging", "logging.handlers", "mailbox", "math", "multiprocessing.pool", "optparse", "os",
    "pathlib", "pickle", "platform", "queue", "random", "sched", "selectors", "shelve", "shutil", "smtplib", "socket",
    "socketserver", "sqlite3", "ssl", "statistics", "string", "struct", "subprocess", "tarfile", "tempfile", "textwrap",
    "threading", "traceback", "types", "typing", "unittest", "unittest.mock", "urllib.parse", "urllib.request", "uuid",
    "weakref", "xml.dom.minidom", "xml.etree.ElementTree", "zipfile",
)  # fmt: skip
"""Modules of the standard library whose import does nothing else and takes little time."""
REHEARSAL_MODULES = (
    "abc", "asyncio.events", "asyncio.streams", "bdb", "builtins", "cmd", "code", "codecs", "contextvars", "copy",
    "dataclasses", "dis", "doctest", "email.feedparser", "email.generator", "email.headerregistry", "email.parser",
    "email.policy", "email.utils", "fileinput", "filecmp", "fnmatch", "getopt", "getpass", "glob", "graphlib", "hashlib",
    "http.cookies", "http.server", "importlib.metadata", "io", "json.decoder", "json.encoder", "linecache", "locale",
    "logging.config", "lzma", "mimetypes", "mmap", "multiprocessing.managers", "netrc", "numbers", "operator", "pdb",
    "pickletools", "pkgutil", "plistlib", "poplib", "posixpath", "pprint", "profile", "pstats", "pyclbr", "quopri", "re",
    "reprlib", "secrets", "shlex", "signal", "stat", "stringprep", "sys", "sysconfig", "time", "timeit", "token",
    "tokenize", "trace", "tracemalloc", "unittest.case", "unittest.loader", "unittest.runner", "urllib.robotparser",
    "warnings", "wave", "webbrowser", "wsgiref.headers", "wsgiref.simple_server", "xml.dom.pulldom",
    "xml.sax.saxutils", "xmlrpc.client", "xmlrpc.server", "zipapp", "zipimport", "zlib", "zoneinfo",
)  # fmt: skip
"""Other modules of this kind."""


def first_sentences(texts: Iterable[str], seed: int) -> list[str]:
    """Return the first sentence of each text that is long enough to be one; each once, ordered by text and seed."""
    return _shuffled((_first_sentence(text) for text in texts), seed)


def filled_up(own: list[str], others: Iterable[str], seed: int) -> Iterator[str]:
    """Yield the own texts as they are ordered, and then other texts ordered by text and seed; no text twice."""
    yield from own
    own_texts = set(own)
    yield from (text for text in _shuffled(others, seed) if text not in own_texts)


def documentation_sentences() -> list[str]:
    """Return the sentences of the documentation that encoders are measured on."""
    return [sentence for pair in documentation_pairs() for text in pair for sentence in SENTENCE_END.split(text)]


@lru_cache(maxsize=1)
def rehearsal_sentences() -> tuple[str, ...]:
    """Return sentences of the other documentation, without those that encoders are measured on."""
    sentences = [
        sentence for pair in _first_paragraphs(REHEARSAL_MODULES) for sentence in SENTENCE_END.split(" ".join(pair))
    ]
    measured = set(documentation_sentences())
    return tuple(sentence for sentence in dict.fromkeys(sentences) if sentence not in measured)


@lru_cache(maxsize=1)
def documentation_pairs() -> tuple[tuple[str, str], ...]:
    """Return first sentence and rest of the first two paragraphs of each documentation that has both."""
    pairs: dict[str, str] = {}
    for first, rest in _first_paragraphs(MEASURED_MODULES):
        if min(len(first), len(rest)) >= MIN_CHARACTERS:
            pairs.setdefault(first, rest[:MAX_CHARACTERS])
    return tuple((first, rest) for rest, first in {rest: first for first, rest in pairs.items()}.items())


def text_order(text: str, seed: int) -> str:
    """Return a key that orders texts at random, so that the place of a text depends only on the text and the seed."""
    return hashlib.sha256(f"{seed}|{text}".encode("utf-8", "surrogatepass")).hexdigest()


def _first_paragraphs(modules: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield first sentence and rest of the first two paragraphs of each documentation; the rest may be empty."""
    for document in module_documents(modules):
        title, _, text = document["text"].partition("\n")
        del title  # it names the object, which would make the search a search of words
        first, *rest = SENTENCE_END.split(" ".join(" ".join(text.split("\n\n")[:2]).split()), maxsplit=1)
        yield first, "".join(rest)


def _shuffled(texts: Iterable[str], seed: int) -> list[str]:
    """Return the different texts of a fitting length, in an order that depends only on each text and the seed."""
    fitting = {text for text in texts if MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS}
    return sorted(fitting, key=lambda text: text_order(text, seed))


def _first_sentence(text: str) -> str:
    """Return the first sentence of a text that is long enough to be one."""
    sentences = (" ".join(sentence.split()) for sentence in SENTENCE_END.split(text))
    return next((sentence for sentence in sentences if len(sentence) >= MIN_CHARACTERS), "")
