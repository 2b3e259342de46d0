"""Gateway to document formats: Markdown, reStructuredText, plain text, HTML and PDF. Bytes in, chunks out.

Knows docutils, BeautifulSoup and pypdf; nothing outside the given bytes is ever opened.
"""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from core.embedding.chunks import MAX_CHARACTERS, Chunk, Section, cut_sections, split_markdown
from core.errors import InvalidInput

_ROLE = re.compile(r":[\w.+:-]{1,80}:`[~!]?([^`<]*)(?:<[^<>`]*>)?`")
_DIRECTIVE = re.compile(r"^\.\.\s+([\w.:+-]+)::")
_OPTION = re.compile(r"^:[\w -]+:")
_WITHOUT_PROSE = {"toctree", "index", "currentmodule", "highlight", "literalinclude", "doxygenfile", "include", "raw"}
_HTML_BLOCKS = (
    "address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "form", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "main", "ol", "p", "pre", "section", "summary",
    "table", "td", "th", "tr", "ul",
)  # fmt: skip
_HTML_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HTML_NO_TEXT = ("script", "style", "template", "noscript", "nav", "header", "footer", "svg", "head")


def split_document(path: str, content: bytes, *, max_characters: int = MAX_CHARACTERS) -> tuple[Chunk, ...]:
    """Return the chunks of one document, whose format follows from the file extension; none for a page without text.

    Raises InvalidInput, in one line, for an unknown format and for unreadable content.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in _READERS:
        raise InvalidInput(path, f"has no format that can be indexed ({', '.join(_READERS)})")
    try:
        return _READERS[suffix](path, content, max_characters)
    except (InvalidInput, MemoryError):
        raise
    except Exception as error:  # parsers fail on hostile files in many ways
        said = str(error).strip().splitlines()
        raise InvalidInput(
            path, f"cannot be read as {suffix[1:]}: {said[0] if said else type(error).__name__}"
        ) from error


def is_readable(path: str) -> bool:
    """Return whether the file extension is that of a format that can be indexed."""
    return PurePosixPath(path).suffix.lower() in _READERS


def _read_markdown(path: str, content: bytes, max_characters: int) -> tuple[Chunk, ...]:
    return split_markdown(path, _decode(path, content), max_characters=max_characters)


def _read_text(path: str, content: bytes, max_characters: int) -> tuple[Chunk, ...]:
    return cut_sections(path, [Section((), _decode(path, content))], max_characters=max_characters)


def _read_rst(path: str, content: bytes, max_characters: int) -> tuple[Chunk, ...]:
    from docutils import nodes
    from docutils.core import publish_doctree

    tree = publish_doctree(
        _decode(path, content),
        settings_overrides={
            "_disable_config": True, "file_insertion_enabled": False, "raw_enabled": False, "report_level": 5,
            "halt_level": 6, "doctitle_xform": False, "sectsubtitle_xform": False, "docinfo_xform": False,
            "syntax_highlight": "none", "smart_quotes": False, "warning_stream": False, "input_encoding": "unicode",
            "line_length_limit": max(10_000, len(content)),  # docutils drops the whole text for one longer line
        },
    )  # fmt: skip
    severe = [each for each in tree.findall(nodes.system_message) if each["level"] >= 4]
    if severe and not any(isinstance(child, nodes.section | nodes.paragraph) for child in tree.children):
        raise InvalidInput(path, f"cannot be read as rst: {_rst_message(severe[0])}")
    chunks = cut_sections(path, _rst_sections(tree, ()), max_characters=max_characters)
    errors = [_rst_message(each) for each in tree.findall(nodes.system_message) if each["level"] >= 3]
    faults = [error for error in errors if not error.startswith("Unknown directive")]  # those of Sphinx, like a toctree
    if faults and not chunks:
        raise InvalidInput(path, f"cannot be read as rst: {faults[0]}")
    return chunks


def _rst_message(message: Any) -> str:
    return str(message.children[0].astext().splitlines()[0])


def _rst_sections(node: Any, headings: tuple[str, ...]) -> Iterator[Section]:
    from docutils import nodes

    blocks = [_rst_block(child) for child in node.children if not isinstance(child, nodes.section | nodes.title)]
    yield Section(headings, "\n\n".join(block for block in blocks if block))
    for child in node.children:
        if isinstance(child, nodes.section):
            yield from _rst_sections(child, (*headings, _rst_inline(child.next_node(nodes.title))))


def _rst_block(node: Any) -> str:
    """Return the text of one body element: a line per list item or table row; comments and targets are dropped."""
    from docutils import nodes

    if isinstance(node, nodes.system_message):
        return _rst_unknown_directive(node)
    if isinstance(node, nodes.Invisible | nodes.raw | nodes.image):
        return ""
    if isinstance(node, nodes.row):
        return " | ".join(filter(None, (_rst_block(cell) for cell in node.children)))
    if isinstance(node, nodes.TextElement):
        return _rst_inline(node)
    glue = "\n\n" if isinstance(node, nodes.Admonition | nodes.block_quote | nodes.figure) else "\n"
    return glue.join(filter(None, (_rst_block(child) for child in node.children)))


def _rst_inline(node: Any) -> str:
    return _without_roles(node.astext()).strip()


def _rst_unknown_directive(node: Any) -> str:
    """Return the body of a directive that only Sphinx knows; docutils returns its source within a message."""
    from docutils import nodes

    source = next((child.astext() for child in node.children if isinstance(child, nodes.literal_block)), "")
    first, _, rest = source.partition("\n")
    found = _DIRECTIVE.match(first)
    if not found or found[1] in _WITHOUT_PROSE:
        return ""
    lines = [line.strip() for line in rest.splitlines()]
    while lines and (not lines[0] or _OPTION.match(lines[0])):
        del lines[0]
    return _without_roles("\n".join(lines)).strip()


def _without_roles(text: str) -> str:
    return _ROLE.sub(lambda found: found[1].rstrip() if found[0].endswith(">`") else found[1], text)


def _read_html(path: str, content: bytes, max_characters: int) -> tuple[Chunk, ...]:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(content, "html.parser")
    for tag in soup.find_all(_HTML_NO_TEXT):
        tag.decompose()
    root = soup.find("main") or soup.body or soup
    return cut_sections(path, _html_sections(root), max_characters=max_characters)


def _html_sections(root: Any) -> Iterator[Section]:
    headings: list[tuple[int, str]] = []
    body: list[str] = []
    block = None
    blocks: dict[int, Any] = {id(root): root if root.name in _HTML_BLOCKS else root.find_parent(_HTML_BLOCKS)}
    for node in root.descendants:
        if node.name is not None:
            blocks[id(node)] = node if node.name in _HTML_BLOCKS else blocks[id(node.parent)]
        if node.name in _HTML_HEADINGS:
            yield Section(tuple(title for _, title in headings), "".join(body))
            level, body, block = _HTML_HEADINGS[node.name], [], None
            headings = [*(each for each in headings if each[0] < level), (level, _one_line(node.get_text()))]
        elif node.name == "br":
            body.append("\n")
        elif node.name is None and type(node).__name__ == "NavigableString":
            around = blocks[id(node.parent)]
            if around is not None and around.name in _HTML_HEADINGS:
                continue
            text = str(node) if around is not None and around.name == "pre" else re.sub(r"\s+", " ", node)
            if around is not block and text.strip():
                body.append("\n" if around is not None and around.name in ("li", "td", "th", "dd") else "\n\n")
                block = around
            body.append(text)
    yield Section(tuple(title for _, title in headings), "".join(body))


def _read_pdf(path: str, content: bytes, max_characters: int) -> tuple[Chunk, ...]:
    import logging

    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    reader = PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(""):
        raise InvalidInput(path, "is encrypted: remove the password first")
    pages = [Section((), page.extract_text(), f"page {number}") for number, page in enumerate(reader.pages, start=1)]
    chunks = cut_sections(path, pages, max_characters=max_characters)
    if pages and not chunks:
        raise InvalidInput(path, "contains images of text but no text: run OCR on it first")
    return chunks


def _decode(path: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(path, f"is not UTF-8 text (byte {error.start})") from error
    if "\x00" in text:
        raise InvalidInput(path, "is binary, not text")
    return text


def _one_line(text: str) -> str:
    return " ".join(text.split())


_READERS: dict[str, Callable[[str, bytes, int], tuple[Chunk, ...]]] = {
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".rst": _read_rst,
    ".txt": _read_text,
    ".html": _read_html,
    ".htm": _read_html,
    ".pdf": _read_pdf,
}
