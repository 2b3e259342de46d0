"""Rule: a document in Markdown -> the same, so that showing it loads nothing from elsewhere.

HTML in it is for the renderer to show as text, and addresses are for it to check, which Streamlit's does.
"""

import re
from collections.abc import Iterator

# Invisible, and what it stands in is no longer an image: seen the same in code too, which no pattern tells for sure.
# Nor is it an icon or an emoji, which Streamlit makes of escaped text as well.
_JOINER = "\u2060"
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_DOLLAR = re.compile(r"(?<!\\)\$")
_DIRECTIVE = re.compile(r"(?<![\\\w]):(?=[a-z][\w+/-]*[\[:])")  # :red[x], :material/home:, :smile:


def neutralize_markdown(text: str) -> str:
    """Return Markdown whose images are links to them, and whose `$` and `:word[` are no formulas and no colors.

    >>> neutralize_markdown("costs $5 and $6, `$HOME`")
    'costs \\\\$5 and \\\\$6, `$HOME`'
    """
    return "".join(block if fenced else _outside_code(block) for fenced, block in _blocks(_disarm_images(text)))


def _disarm_images(text: str) -> str:
    return text.replace("![", f"!{_JOINER}[")


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """Yield stretches of lines, each with whether they are a fenced block of code."""
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
    for code in _CODE.finditer(block):
        parts += [_escape(block[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, _escape(block[at:])])


def _escape(text: str) -> str:
    return _DIRECTIVE.sub(rf"\\:{_JOINER}", _DOLLAR.sub(r"\\$", text))
