"""Rule: a score is a later judgment of a retrieval, by its name and who gave it: a value and its checks."""

from typing import Any, NamedTuple

from quarterdeck.clock import now_ms
from quarterdeck.errors import InvalidInput
from quarterdeck.ids import name_of
from quarterdeck.similarity import is_number

MAX_ID_CHARACTERS = 256
MAX_NAME_CHARACTERS = 128
MAX_COMMENT_CHARACTERS = 4_096
OWN_NUMBERS = ("latency_ms", "cost_usd", "tokens")  # of a row: no score may have such a name
FOR_ANY_SERVICE, FOR_OWN_SERVICE = 1, 2  # whose rows a pending score may belong to
RANGES = {"feedback": (-1.0, 1.0), "faithfulness": (0.0, 1.0), "relevancy": (0.0, 1.0)}


class Score(NamedTuple):
    """A checked score, ready to be stored."""

    retrieval_id: str
    name: str
    source: str
    value: float
    comment: str
    ts_ms: int


def check_score(
    retrieval_id: Any, name: Any, value: Any, *, comment: Any = "", source: Any = "user", ts_ms: int | None = None
) -> Score:
    """Return the score of these values. Raises InvalidInput, naming the field."""
    if isinstance(value, bool):
        value = float(value)  # thumbs up or down
    if not is_number(value):
        what = repr(value) if isinstance(value, float) else type(value).__name__
        raise InvalidInput("value", f"must be a finite number, not {what}")
    number = float(value)
    if name in OWN_NUMBERS:
        raise InvalidInput("name", f"{name} is a number of the retrieval itself; log it with the retrieval")
    if isinstance(name, str) and name in RANGES:
        low, high = RANGES[name]
        if not low <= number <= high:
            raise InvalidInput("value", f"{name} must be between {low:g} and {high:g}, not {number!r}")
    return Score(
        _check("retrieval_id", retrieval_id, MAX_ID_CHARACTERS),
        _check("name", name, MAX_NAME_CHARACTERS),
        _check("source", source, MAX_NAME_CHARACTERS),
        number,
        _check_comment(comment),
        now_ms() if ts_ms is None else ts_ms,
    )


def _check(field: str, text: Any, longest: int) -> str:
    text = text if field == "name" else name_of(text)
    if not isinstance(text, str):
        raise InvalidInput(field, f"must be text, not {type(text).__name__}")
    if not 0 < len(text) <= longest or not text.isprintable():
        raise InvalidInput(field, f"must be 1 to {longest} printable characters")
    return text


def _check_comment(comment: Any) -> str:
    if comment is None:
        return ""
    if not isinstance(comment, str):
        raise InvalidInput("comment", f"must be text, not {type(comment).__name__}")
    return comment.replace("\x00", "").encode("utf-8", "replace").decode()[:MAX_COMMENT_CHARACTERS]
