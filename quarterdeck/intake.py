"""Counts what came in and what was refused, by entry point and reason, until a sender stores it.

Every entry point uses the same reasons, so that a page and a command can show them together. Counting never raises.
"""

import logging
import os
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from quarterdeck.clock import HOUR_MS, now_ms
from quarterdeck.errors import InvalidInput, QuarterdeckError, SourceUnavailable
from quarterdeck.redaction import redact
from quarterdeck.scope import Scope

logger = logging.getLogger("quarterdeck")

TAKEN, DUPLICATE = "", "duplicate"
MAX_EXAMPLE = 2_000
_MOST_REASONS = 200

_ADD = text(
    "INSERT INTO intake (environment, service, source, reason, hour_ms, n, example, last_ms) "
    "VALUES (:environment, :service, :source, :reason, :hour_ms, :n, :example, :last_ms) "
    "ON CONFLICT (environment, service, source, reason, hour_ms) DO UPDATE SET n = intake.n + excluded.n, "
    "last_ms = excluded.last_ms, "
    "example = CASE WHEN intake.example = '' THEN excluded.example ELSE intake.example END"
)


class Counted(NamedTuple):
    """Who reported, through which entry point, and why it was refused; the reason "" is what was taken."""

    scope: Scope
    source: str
    reason: str


class IntakeCounter:
    """Counts in memory what one entry point takes and refuses. Thread-safe; `take_all` hands the counts over."""

    def __init__(self, scope: Scope, source: str = "client") -> None:
        self._scope = scope
        self._source = source
        self._examples: dict[Counted, str] = {}
        self._warned: set[tuple[str, str]] = set()
        self.on_count: Callable[[], None] = lambda: None  # called after each count, to wake whoever sends it
        self._counts = Counter[Counted]()
        self._counting = Lock()
        _counters.add(self)

    def take(self, rows: int) -> None:
        """Count rows that were stored."""
        self._add(Counted(self._scope, self._source, TAKEN), rows)

    def ignore(self, rows: int) -> None:
        """Count rows that were stored before."""
        if rows:
            self._add(Counted(self._scope, self._source, DUPLICATE), rows)

    def refuse(self, refusal: QuarterdeckError, given: object, *, what: str = "retrieval") -> None:
        """Count a refused retrieval or score, keep one example of it, and warn once per reason."""
        reason = reason_of(refusal)
        counted = Counted(self._scope, self._source, reason)
        if counted not in self._examples:
            self._examples[counted] = make_example(refusal, given)
        if (what, reason) not in self._warned and len(self._warned) < _MOST_REASONS:
            self._warned.add((what, reason))
            logger.warning("a %s was not taken (%s), further ones are counted: %s", what, reason, refusal)
        self._add(counted, 1)

    def take_all(self) -> dict[Counted, tuple[int, str]]:
        """Return the counts so far, each with an example, and start at zero."""
        with self._counting:
            counts, self._counts = self._counts, Counter()
        return {counted: (n, self._examples.get(counted, "")) for counted, n in counts.items()}

    def put_back(self, counts: Mapping[Counted, tuple[int, str]]) -> None:
        """Add counts again that could not be stored."""
        with self._counting:
            for counted, (n, _) in counts.items():
                self._counts[counted] += n

    def _add(self, counted: Counted, rows: int) -> None:
        with self._counting:
            self._counts[counted] += rows
        self.on_count()

    def _start_afresh(self) -> None:
        """In a new process: what was counted before the fork is sent by the parent, and its lock may be held."""
        self._counts = Counter[Counted]()
        self._counting = Lock()


def reason_of(refusal: QuarterdeckError) -> str:
    """Return the word that a refusal is counted under: the field that is wrong, or why nothing could be stored."""
    if isinstance(refusal, InvalidInput):
        return "".join(each if each.isalnum() or each in "_.-" else "_" for each in refusal.field)[:64] or "row"
    return "unavailable" if isinstance(refusal, SourceUnavailable) else "refused"


def make_example(refusal: QuarterdeckError, given: object) -> str:
    """Return what was refused and why, redacted and shortened."""
    try:
        shown = given if isinstance(given, str) else repr(given)
        example = f"{refusal} | {redact(shown[:MAX_EXAMPLE])}" if given is not None else str(refusal)
        return example.replace("\x00", "").encode("utf-8", "replace").decode()[:MAX_EXAMPLE]
    except Exception:  # noqa: BLE001 - a repr of a service may fail, its request goes on
        return str(refusal)[:MAX_EXAMPLE]


def store_counts(connection: Connection, counts: Mapping[Counted, tuple[int, str]]) -> None:
    """Add counts to the store, under the present hour."""
    now = now_ms()
    rows: list[dict[str, Any]] = [
        {
            **counted.scope._asdict(), "source": counted.source, "reason": counted.reason,
            "hour_ms": now - now % HOUR_MS, "n": n, "example": example, "last_ms": now,
        }
        for counted, (n, example) in sorted(counts.items())
        if n
    ]  # fmt: skip
    if rows and connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.executemany(_ADD.text, rows)  # a fifth of the time; it understands :names as well
    elif rows:
        connection.execute(_ADD, rows)


_counters: "weakref.WeakSet[IntakeCounter]" = weakref.WeakSet()


def _after_fork() -> None:
    """Start a forked child's counts at zero: the parent still sends what was counted before the fork."""
    for counter in list(_counters):
        counter._start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
