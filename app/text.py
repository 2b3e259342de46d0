"""Users' text on pages, escaped so that Markdown shows every character literally."""

import re

from core.errors import QuarterdeckError

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>$:~&=^])")
# What Streamlit replaces even when it is escaped: bare addresses, icons, emoji, arrows. An invisible joiner between
# the characters prevents it.
_JOINER = "\u2060"
_ALIVE = re.compile(
    r"(?<=:)(?=//|[\w+/-]+:)|(?<=@)(?=[\w-])|(?<=www)(?=\.)|(?<=-)(?=[->])|(?<=<)(?=[-=])|(?<=[>~])(?==)", re.IGNORECASE
)
# Control characters except tabs and line breaks, direction marks, and zero-width characters. The marks
# between letters that Persian, Hindi and emoji are written with (U+200C and U+200D) stay.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    r"\ud800-\udfff]"
)
_SIGN = "\ufffd"
_COMMAND = re.compile(r"(`(?:dvc|git|pip|quarterdeck)[\w ./:=@\"…-]*`)")


def plain(text: str) -> str:
    """Return any text so that Markdown shows it letter by letter: no HTML, links, formulas, icons or colors.

    Invisible characters and direction marks are replaced by a visible sign.

    >>> plain("a <b> & *c*")
    'a \\\\<b\\\\> \\\\& \\\\*c\\\\*'
    """
    return escape(" ".join(show_unseen(text).split()))


def plain_error(error: QuarterdeckError) -> str:
    """Return an error's line as `plain` does, with the commands in it set as code.

    >>> plain_error(QuarterdeckError("No <b>. Run `quarterdeck demo`"))
    'No \\<b\\>\\. Run `quarterdeck demo`'
    """
    return plain_with_commands(str(error))


def plain_with_commands(text: str) -> str:
    """Return any text as `plain` does, with the commands in it set as code, which can be copied.

    >>> plain_with_commands("Ask for `quarterdeck roles grant ada@example.org viewer`")
    'Ask for `quarterdeck roles grant ada@example.org viewer`'
    """
    parts = _COMMAND.split(" ".join(show_unseen(text).split()))
    return "".join(part if number % 2 else escape(part) for number, part in enumerate(parts))


def escape(text: str) -> str:
    """Return the text as `plain` does, keeping its spaces."""
    return _SPECIAL.sub(r"\\\1", _ALIVE.sub(_JOINER, show_unseen(text)))


def show_unseen(text: str) -> str:
    """Return the text with a sign in place of each control character and mark of direction; breaks and tabs stay.

    >>> show_unseen("gnp\\u202eexe")
    'gnp\ufffdexe'
    """
    return _UNSEEN.sub(_SIGN, text)
