"""Rule: rewrites a Markdown document so that rendering it loads nothing from other servers.

The renderer must show HTML as text and check addresses; Streamlit's does.
"""

import re
from collections.abc import Iterator

# An invisible character: with it, an image or an icon is no longer one. It is also added in code, which no pattern
# can recognize for sure. Streamlit makes icons and emoji even of escaped text.
_JOINER = "\u2060"
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_RUN = re.compile(r"`+")
_DOLLAR = re.compile(r"(?<!\\)\$")
_DIRECTIVE = re.compile(r"(?<![\\\w]):(?=[a-z][\w+/-]*[\[:])")  # :red[x], :material/home:, :smile:


def neutralize_markdown(text: str) -> str:
    """Return Markdown in which images become links, and `$` and `:word[` are not formulas or colors.

    >>> neutralize_markdown("costs $5 and $6, `$HOME`")
    'costs \\\\$5 and \\\\$6, `$HOME`'
    """
    return "".join(block if fenced else _outside_code(block) for fenced, block in _blocks(_disarm_images(text)))


def _disarm_images(text: str) -> str:
    return text.replace("![", f"!{_JOINER}[")


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """Yield groups of lines, each with whether it is a fenced code block."""
    fence = ""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line)
        if not fence and found:
            yield False, "".join(lines)
            fence, lines = found[1], [line]
        elif fence and found and found[1].startswith(fence) and not line.strip().strip(fence[0]):
            yield True, "".join([*lines, line])
            fence, lines = "", []
        else:
            lines.append(line)
    yield bool(fence), "".join(lines)


def _outside_code(block: str) -> str:
    parts, at = [], 0
    for start, end in _code_spans(block):
        parts += [_escape(block[at:start]), block[start:end]]
        at = end
    return "".join([*parts, _escape(block[at:])])


def _code_spans(block: str) -> Iterator[tuple[int, int]]:
    """Yield where code begins and ends: a run of backticks to the next run that is as long, as CommonMark has it.

    Each run is visited once. A pattern with a reference back takes the cube of their number.
    """
    runs = [(found.start(), found.end()) for found in _RUN.finditer(block)]
    next_of_length: dict[int, int] = {}
    closing: list[int | None] = []
    for number in reversed(range(len(runs))):
        length = runs[number][1] - runs[number][0]
        closing.append(next_of_length.get(length))
        next_of_length[length] = number
    closing.reverse()
    number = 0
    while number < len(runs):
        end = closing[number]
        if end is not None:
            yield runs[number][0], runs[end][1]
        number = (number if end is None else end) + 1


def _escape(text: str) -> str:
    return _DIRECTIVE.sub(rf"\\:{_JOINER}", _DOLLAR.sub(r"\\$", text))
