"""Read Markdown documents: their links, anchors, code spans, code blocks, and the shell commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["CodeBlock", "Document"]

FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,})\s*(?P<language>\w*)")
SPAN = re.compile(r"(?<!`)(?P<ticks>`+)(?P<text>.+?)(?P=ticks)(?!`)")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^()\s]+)(?:\s+\"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6}\s+(?P<title>.+?)\s*#*$")
PROGRAMS = ("sbert", "make", "python", "python3", "torchrun")
"""Programs whose commands a document may name and a test can check."""


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block of code."""

    language: str
    text: str


@dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def _parts(self) -> tuple[list[str], list[CodeBlock]]:
        """Separate the lines of prose from the fenced blocks."""
        prose: list[str] = []
        blocks: list[CodeBlock] = []
        fence, language, inside = "", "", []
        for line in self.text.splitlines():
            mark = FENCE.match(line.strip())
            if not fence and mark:
                fence, language, inside = mark["fence"], mark["language"], []
            elif fence and line.strip() == fence:
                blocks.append(CodeBlock(language, "\n".join(inside)))
                fence = ""
            elif fence:
                inside.append(line)
            else:
                prose.append(line)
        assert not fence, f"{self.path}: a code block is not closed"
        return prose, blocks

    @property
    def lines(self) -> list[str]:
        """Lines outside of code blocks."""
        return self._parts[0]

    @property
    def blocks(self) -> list[CodeBlock]:
        """Fenced blocks of code."""
        return self._parts[1]

    @cached_property
    def spans(self) -> list[str]:
        """Code spans of the prose."""
        paragraphs = re.split(r"\n\s*\n", "\n".join(self.lines))
        return [
            " ".join(match["text"].replace("\\|", "|").split())
            for paragraph in paragraphs
            for match in SPAN.finditer(paragraph.replace("\n", " "))
        ]

    @cached_property
    def links(self) -> list[str]:
        """Targets of the links and pictures."""
        prose = SPAN.sub("code", "\n".join(self.lines))
        return [match["target"] for match in LINK.finditer(prose)]

    @cached_property
    def anchors(self) -> set[str]:
        """Anchors of the headings, as GitHub forms them."""
        anchors: set[str] = set()
        for line in self.lines:
            heading = HEADING.match(line)
            if heading:
                title = re.sub(r"[^\w\- ]", "", SPAN.sub(r"\g<text>", heading["title"]).lower()).replace(" ", "-")
                number = sum(
                    anchor == title or re.fullmatch(rf"{re.escape(title)}-\d+", anchor) is not None
                    for anchor in anchors
                )
                anchors.add(f"{title}-{number}" if number else title)
        return anchors

    @cached_property
    def commands(self) -> list[list[str]]:
        """Commands of the checked programs, as lists of arguments that begin with the program's name."""
        commands = [words for block in self.blocks for words in _commands_of(block.text)]
        return commands + [words for span in self.spans for words in _commands_of(span)]

    @property
    def shell_text(self) -> str:
        """All code of the document as one text."""
        return "\n".join([*self.spans, *(block.text for block in self.blocks)])


def _commands_of(code: str) -> Iterator[list[str]]:
    """Return the commands in a piece of code; an open quote or a backslash joins a line with the next."""
    waiting = ""
    for line in code.splitlines():
        waiting += line.strip()
        if waiting.endswith("\\"):
            waiting = waiting[:-1] + " "
            continue
        if not _program(waiting.split()[:1]):
            waiting = ""
            continue
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # the quotation goes on in the next line
            waiting += "\n"
            continue
        waiting = ""
        yield [_program(words[:1]), *words[1:]]


def _program(words: list[str]) -> str:
    name = words[0].removeprefix(".venv/bin/") if words else ""
    return name if name in PROGRAMS else ""
