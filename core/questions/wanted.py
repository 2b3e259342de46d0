"""Rule: the filters of the questions page as they stand in its address, and the questions that they mean."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from core.drift.present import LowScores
from core.errors import InvalidInput
from core.log.calendars import Calendar
from core.log.filters import LABELS, QuestionFilter
from quarterdeck.scope import Scope

# The name of each filter in the address, and what people call it.
FILTERS = {
    "text": "words",
    "low": "low only",
    "state": "state",
    "topic": "topic",
    "new": "new topic",
    "like": "like this one",
    "day": "day",
    "since": "since",
    "session": "session",
    "user": "user",
    "document": "document",
    "id": "id",
    "arm": "arm",
    "prompt_version": "prompt",
    "index_version": "index",
    "model": "model",
    "attribute": "attribute",
    "score": "score",
}
COUNTABLE = frozenset({"low", "state", "day", "since", *LABELS})  # what a visitor who may not read questions may use
NO_VALUE = "(none)"  # of a label
_SCORE = re.compile(r"(?P<name>[^<]+)(?:<\s*+(?P<below>-?\d++(?:\.\d++)?))?")
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ShownSpan:
    """The time that the page shows: from `start_ms` to before `end_ms`, in days of this calendar."""

    start_ms: int
    end_ms: int
    calendar: Calendar


def make_filter(pairs: Pairs, scope: Scope, span: ShownSpan, *, low: LowScores) -> QuestionFilter:
    """Return the questions that pairs of a name of FILTERS and a value mean; topics are narrowed to elsewhere.

    A day, or a time since when, replaces that part of the span; an id is looked for at any time. Raises
    InvalidInput, naming the filter.
    """
    start_ms, end_ms = _read_span(pairs, span)
    score_name, score_below = _read_score(_last(pairs, "score"))
    return QuestionFilter(
        scope=scope,
        start_ms=start_ms,
        end_ms=end_ms,
        states=tuple(_all(pairs, "state")),
        below=low.below if _last(pairs, "low") else None,
        bounds=low.bounds if _last(pairs, "low") else (),
        search=" ".join(_all(pairs, "text")),
        retrieval_id=_last(pairs, "id"),
        session_id=_last(pairs, "session"),
        user_id=_last(pairs, "user"),
        documents=tuple(_all(pairs, "document")),
        labels=tuple((name, "" if value == NO_VALUE else value) for name, value in pairs if name in LABELS),
        attributes=tuple(_read_attribute(value) for value in _all(pairs, "attribute")),
        score_name=score_name,
        score_below=score_below,
    )


def say_filter(name: str, value: str) -> str:
    """Return a filter as a short text: `session: s-17`."""
    return FILTERS[name] if name == "low" else f"{FILTERS[name]}: {value}"


def _read_span(pairs: Pairs, span: ShownSpan) -> tuple[int | None, int | None]:
    if _last(pairs, "id"):
        return None, None
    if day := _last(pairs, "day"):
        found = _read_date("day", day)
        return span.calendar.start_of(found), span.calendar.end_of(found)
    if since := _last(pairs, "since"):
        return span.calendar.start_of(_read_date("since", since)), span.end_ms
    return span.start_ms, span.end_ms


def _read_date(name: str, value: str) -> date:
    try:
        found = date.fromisoformat(value)
    except ValueError as error:
        raise InvalidInput(name, f"must be a day like 2026-11-21, not {value[:40]!r}") from error
    if not 2000 <= found.year <= 2100:
        raise InvalidInput(name, f"must be in this century, not {value[:40]!r}")
    return found


def _read_score(value: str) -> tuple[str, float | None]:
    """Return the name of a score, and the bound that it has to be under: `feedback`, `feedback<0`."""
    if not value:
        return "", None
    found = _SCORE.fullmatch(value)
    if found is None or not found["name"].strip():
        raise InvalidInput("score", f"must be a name, or one like feedback<0, not {value[:40]!r}")
    return found["name"].strip(), None if found["below"] is None else float(found["below"])


def _read_attribute(value: str) -> tuple[str, str]:
    name, sign, wanted = value.partition("=")
    if not sign or not name:
        raise InvalidInput("attribute", f"must be a name and a value like tenant=acme, not {value[:40]!r}")
    return name, wanted


def _all(pairs: Pairs, name: str) -> Iterable[str]:
    return (value for each, value in pairs if each == name and value)


def _last(pairs: Pairs, name: str) -> str:
    return next(reversed(list(_all(pairs, name))), "")
