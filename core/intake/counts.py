"""Gateway to the counts of what came in: adds what an entry point took and refused, and reads the totals.

A `Tally` gathers the counts of one request or import; it is stored in the transaction that stores the rows.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from sqlalchemy import ColumnElement, Connection, func, select

from core.errors import QuarterdeckError
from quarterdeck.intake import DUPLICATE, TAKEN, Counted, make_example, reason_of, store_counts
from quarterdeck.registry import name_scopes
from quarterdeck.schema import intake
from quarterdeck.scope import DEFAULT_SCOPE, EVERYTHING, Scope
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

IGNORED = frozenset({"logs", "metrics"})  # exporters send them along with traces; the deck has no use for them
_MOST_WARNED = 200


@dataclass(frozen=True, slots=True)
class IntakeCount:
    """What one entry point took and refused; `reasons` has the refused by reason. Duplicates are among them.

    `ignored` has what the deck leaves out by design, by reason: requests of OTLP logs and metrics.
    """

    source: str
    taken: int
    refused: int
    reasons: dict[str, int]
    ignored: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusals:
    """How often something was refused for one reason, when last (milliseconds), and one redacted example."""

    scope: Scope
    source: str
    reason: str
    count: int
    last_ms: int
    example: str


@dataclass(slots=True)
class IntakeTally:
    """Counts what one entry point takes and refuses."""

    source: str
    _counts: Counter[Counted] = field(default_factory=Counter)
    _examples: dict[Counted, str] = field(default_factory=dict)

    def take(self, scope: Scope, rows: int = 1) -> None:
        """Count rows that were stored."""
        self._counts[Counted(scope, self.source, TAKEN)] += rows

    def ignore(self, scope: Scope, rows: int = 1) -> None:
        """Count rows that were stored before."""
        self._counts[Counted(scope, self.source, DUPLICATE)] += rows

    def refuse(self, refusal: QuarterdeckError, given: object, scope: Scope = DEFAULT_SCOPE, *, count: int = 1) -> None:
        """Count something refused, and keep one redacted example of it."""
        counted = Counted(scope, self.source, reason_of(refusal))
        self._counts[counted] += count
        if counted not in self._examples:
            self._examples[counted] = make_example(refusal, given)

    def take_back(self, scope: Scope, reason: str) -> None:
        """Count one refusal less: what was missing came later."""
        self._counts[Counted(scope, self.source, reason)] -= 1

    def store(self, store: Store, connection: Connection) -> None:
        """Add the counts to the store, and warn once per reason."""
        counts = {counted: (n, self._examples.get(counted, "")) for counted, n in self._counts.items() if n}
        store_counts(connection, bound_scopes(store, connection, counts))
        for counted, (n, example) in counts.items():
            if n > 0 and counted.reason not in (TAKEN, DUPLICATE, *IGNORED):
                _warn_once(counted, example)


def bound_scopes(
    store: Store, connection: Connection, counts: Mapping[Counted, tuple[int, str]]
) -> dict[Counted, tuple[int, str]]:
    """Return counts under the names of scopes that the log has: beyond its bounds they are `(other)`."""
    names = name_scopes(store, connection, {name.scope for name in counts}) if counts else {}
    bounded: dict[Counted, tuple[int, str]] = {}
    for name, (n, example) in counts.items():
        own = name._replace(scope=names[name.scope])
        known, first = bounded.get(own, (0, ""))
        bounded[own] = (known + n, first or example)
    return bounded


def count_refusal(
    store: Store, source: str, refusal: QuarterdeckError, given: object, scope: Scope = DEFAULT_SCOPE
) -> None:
    """Count a whole request or file that was refused. A store that cannot be written counts nothing."""
    tally = IntakeTally(source)
    tally.refuse(refusal, given, scope)
    try:
        with store.begin() as connection:
            tally.store(store, connection)
    except QuarterdeckError as error:
        logger.warning("what was refused could not be counted: %s", error)


def list_counts(store: Store, scope: Scope = EVERYTHING) -> list[IntakeCount]:
    """Return what each entry point took and refused, in all or in one scope; an empty name stands for all."""
    c = intake.c
    query = select(c.source, c.reason, func.sum(c.n)).where(*_within(scope)).group_by(c.source, c.reason)
    found: dict[str, dict[str, int]] = {}
    with store.read() as connection:
        for source, reason, n in connection.execute(query.order_by(c.source, c.reason)):
            found.setdefault(source, {})[reason] = int(n)
    return [_sum_up(source, reasons) for source, reasons in found.items()]


def list_refusals(store: Store, scope: Scope = EVERYTHING, *, since_ms: int = 0) -> list[Refusals]:
    """Return what was refused since a time, by scope, entry point and reason, the most recent first.

    What is left out by design is not among it.
    """
    c = intake.c
    query = (
        select(c.environment, c.service, c.source, c.reason, func.sum(c.n), func.max(c.last_ms), func.max(c.example))
        .where(*_within(scope), c.reason.not_in((TAKEN, *IGNORED)), c.hour_ms >= since_ms)
        .group_by(c.environment, c.service, c.source, c.reason)
        .having(func.sum(c.n) > 0)
    )
    with store.read() as connection:
        found = [
            Refusals(Scope(environment, service), source, reason, int(n), int(last_ms), example)
            for environment, service, source, reason, n, last_ms, example in connection.execute(query)
        ]
    return sorted(found, key=lambda each: -each.last_ms)


def _within(scope: Scope) -> list[ColumnElement[bool]]:
    columns = zip((intake.c.environment, intake.c.service), scope, strict=True)
    return [column == name for column, name in columns if name]


def _sum_up(source: str, reasons: dict[str, int]) -> IntakeCount:
    ignored = {reason: n for reason, n in reasons.items() if reason in IGNORED}
    refused = {reason: n for reason, n in reasons.items() if reason not in (TAKEN, *IGNORED) and n > 0}
    return IntakeCount(source, reasons.get(TAKEN, 0), sum(refused.values()), refused, ignored)


_warned: set[tuple[str, str]] = set()
_warning = Lock()


def _warn_once(counted: Counted, example: str) -> None:
    key = (counted.source, counted.reason)
    with _warning:
        if key in _warned or len(_warned) >= _MOST_WARNED:
            return
        _warned.add(key)
    said = example.partition(" | ")[0] or counted.reason
    logger.warning("not taken through %s (%s), further ones are counted: %s", counted.source, counted.reason, said)
