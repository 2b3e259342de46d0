"""A word diff of a text: removed words are struck out, added ones bold, and both colored."""

from collections.abc import Iterator, Sequence

import streamlit as st

from app.text import escape
from core.corpus.worddiff import SegmentKind, TextSegment

_CONTEXT = 2
_MOST_LINES = 300
_Piece = tuple[SegmentKind, str]
_NO_BREAK = "\u00a0"


def render_words(segments: Sequence[TextSegment]) -> None:
    """Draw the lines that differ, with two lines of context."""
    lines = _lines(segments)
    shown = list(_without_long_sames(lines))
    with st.container(border=True):
        st.markdown("  \n".join(shown[:_MOST_LINES]) or "The texts are the same.")
    if len(shown) > _MOST_LINES:
        st.caption(f"The first {_MOST_LINES:,} of {len(shown):,} lines; download both files for the rest.")


def _lines(segments: Sequence[TextSegment]) -> list[list[_Piece]]:
    lines: list[list[_Piece]] = [[]]
    for segment in segments:
        first, *others = segment.text.split("\n")
        lines[-1].append((segment.kind, first))
        for text in others:
            if segment.kind is not SegmentKind.SAME and not lines[-1][-1][1]:
                lines[-1][-1] = (segment.kind, "¶")  # an added or removed empty line
            lines.append([(segment.kind, text)])
    return lines


def _without_long_sames(lines: Sequence[Sequence[_Piece]]) -> Iterator[str]:
    changed = [at for at, line in enumerate(lines) if any(kind is not SegmentKind.SAME and text for kind, text in line)]
    near = {at + step for at in changed for step in range(-_CONTEXT, _CONTEXT + 1)}
    hidden = 0
    for at, line in enumerate(lines):
        if at not in near:
            hidden += 1
            continue
        if hidden:
            yield _say_hidden(hidden)
        hidden = 0
        yield "".join(map(_draw, line)) or _NO_BREAK
    if hidden and changed:
        yield _say_hidden(hidden)


def _say_hidden(count: int) -> str:
    return f":gray[… {count:,} line{'s' if count > 1 else ''} the same]"


def _draw(piece: _Piece) -> str:
    kind, text = piece
    if kind is SegmentKind.SAME:
        indent = len(text) - len(text.lstrip())
        return _NO_BREAK * indent + escape(text.lstrip())
    if not text:
        return ""
    core = text.strip()
    if not core:
        core, before, after = "·" * len(text), "", ""
    else:
        before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    color, mark = ("red", "~~") if kind is SegmentKind.REMOVED else ("green", "**")
    return f"{before}:{color}-background[{mark}{escape(core)}{mark}]{after}"
