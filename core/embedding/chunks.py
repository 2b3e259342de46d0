"""Rule: cuts a document into the passages that are embedded. Sections of text in, chunks out.

Markdown is read here; `formats.py` reads the formats that need a library.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

_HEADING = re.compile(r"(#{1,6})\s+(?=\S)")
_FENCE = re.compile(r"^\s*(```|~~~)")
MAX_CHARACTERS = 900
CHUNKING = f"sections-{MAX_CHARACTERS}"  # the usual chunking rule of new indexes; change it with the rule below


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of one document: its section's headings and its text, at most about `MAX_CHARACTERS` long."""

    document: str
    section: str
    text: str

    @property
    def digest(self) -> str:
        """The hash of the text: chunks with the same digest have the same vector, whatever their document."""
        return hashlib.blake2b(self.text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Section:
    """The text under one heading. `headings` is the path to it, outermost first; `place` locates it without any."""

    headings: tuple[str, ...]
    body: str
    place: str = ""


def split_markdown(document: str, text: str, *, max_characters: int = MAX_CHARACTERS) -> tuple[Chunk, ...]:
    """Split Markdown at its headings, and long sections between paragraphs. Each chunk starts with its headings.

    >>> [c.section for c in split_markdown("mbuf.md", "# Mbuf\\n\\nA buffer.\\n\\n## Chains\\n\\nOne after another.")]
    ['Mbuf', 'Mbuf > Chains']
    """
    return cut_sections(document, _sections(text), max_characters=max_characters)


def cut_sections(
    document: str, sections: Iterable[Section], *, max_characters: int = MAX_CHARACTERS
) -> tuple[Chunk, ...]:
    """Split each section between paragraphs; split long paragraphs between lines, and long lines between words."""
    return tuple(
        Chunk(document, title or section.place, f"{title}\n{part}" if title else part)
        for section in sections
        for title in [" > ".join(section.headings)]
        for part in _split_long(section.body.strip(), max_characters)
    )


def name_chunking(max_characters: int) -> str:
    """Return the name of the chunking rule with passages of this size.

    >>> name_chunking(MAX_CHARACTERS) == CHUNKING
    True
    """
    return f"sections-{max_characters}"


def digest_chunks(chunks: Iterable[Chunk], *, model: str, chunking: str = CHUNKING) -> str:
    """Return the hash of the content of an index with these chunks, independent of their order."""
    lines = sorted(f"{chunk.document}\t{chunk.digest}" for chunk in chunks)
    return hashlib.blake2b("\n".join([model, chunking, *lines]).encode(), digest_size=16).hexdigest()


def _sections(text: str) -> list[Section]:
    sections: list[tuple[tuple[str, ...], list[str]]] = [((), [])]
    path: list[tuple[int, str]] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if heading:
            level, title = len(heading[1]), _title(line[heading.end() :])
            path = [*(step for step in path if step[0] < level), (level, title)]
            sections.append((tuple(title for _, title in path), []))
        else:
            sections[-1][1].append(line)
    return [Section(headings, "\n".join(lines)) for headings, lines in sections]


def _title(text: str) -> str:
    """Return a heading without the signs that may close it, all of them unless it has nothing else."""
    return text.rstrip("#").rstrip() or text[:1]


def _split_long(body: str, max_characters: int) -> list[str]:
    parts: list[str] = []
    for paragraph in re.split(r"\n\s*\n", body) if body else ():
        for piece, glue in _pieces(paragraph, max_characters):
            if parts and len(parts[-1]) + len(piece) + len(glue) <= max_characters:
                parts[-1] = f"{parts[-1]}{glue}{piece}"
            else:
                parts.append(piece)
    return parts


def _pieces(paragraph: str, max_characters: int) -> Iterable[tuple[str, str]]:
    """Return the pieces into which a paragraph may be split, each with what joins it to the one before."""
    if len(paragraph) <= max_characters:
        yield paragraph, "\n\n"
        return
    glue = "\n\n"
    for line in paragraph.splitlines():
        for piece in _cut_line(line, max_characters):
            yield piece, glue
            glue = " "
        glue = "\n"


def _cut_line(line: str, max_characters: int) -> list[str]:
    pieces, start = [], 0
    while len(line) - start > max_characters:
        at = line.rfind(" ", start, start + max_characters)
        at = at if at > start else start + max_characters
        pieces.append(line[start:at])
        while at < len(line) and line[at].isspace():
            at += 1
        start = at
    return [*pieces, line[start:]]
