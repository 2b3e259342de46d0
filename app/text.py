"""Users' text on pages: shown letter by letter, whatever Markdown would make of it."""

import re

from core.errors import QuarterdeckError

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>$:~&=^])")
# What Streamlit makes of text whatever its escapes: links of bare addresses, icons, emoji, arrows. A joiner, which
# nobody sees, keeps their letters apart.
_JOINER = "\u2060"
_ALIVE = re.compile(
    r"(?<=:)(?=//|[\w+/-]+:)|(?<=@)(?=[\w-])|(?<=www)(?=\.)|(?<=-)(?=[->])|(?<=<)(?=[-=])|(?<=[>~])(?==)", re.IGNORECASE
)
# Controls but tabs and breaks, marks that turn the direction of what follows, and what takes no room at all. The marks
# between letters that Persian, Hindi and emoji are written with (U+200C and U+200D) stay.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    r"\ud800-\udfff]"
)
_SIGN = "\ufffd"
_COMMAND = re.compile(r"(`(?:dvc|git|pip|quarterdeck)[\w ./:=-]*`)")


def plain(text: str) -> str:
    """Return any text so that Markdown shows it letter by letter: no HTML, links, formulas, icons or colors.

    What nobody would see, or what would turn the direction of the text behind it, is shown as a sign of its own.

    >>> plain("a <b> & *c*")
    'a \\\\<b\\\\> \\\\& \\\\*c\\\\*'
    """
    return escape(" ".join(show_unseen(text).split()))


def plain_error(error: QuarterdeckError) -> str:
    """Return the line of an error as `plain` does, but for the commands in it, which are set as code.

    >>> plain_error(QuarterdeckError("No <b>. Run `quarterdeck demo`"))
    'No \\<b\\>\\. Run `quarterdeck demo`'
    """
    parts = _COMMAND.split(" ".join(show_unseen(str(error)).split()))
    return "".join(part if number % 2 else escape(part) for number, part in enumerate(parts))


def escape(text: str) -> str:
    """Return what `plain` does of a text whose spaces matter."""
    return _SPECIAL.sub(r"\\\1", _ALIVE.sub(_JOINER, show_unseen(text)))


def show_unseen(text: str) -> str:
    """Return the text with a sign in place of each control character and mark of direction; breaks and tabs stay.

    >>> show_unseen("gnp\\u202eexe")
    'gnp\ufffdexe'
    """
    return _UNSEEN.sub(_SIGN, text)
