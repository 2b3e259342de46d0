"""What the client reports besides retrievals, in batches: flag evaluations, exposures, events, scores and its intake.

Counting takes no lock and never waits. What the store refuses is kept for the next batch, in bounded memory: one number
per flag and variant, and at most MAX_WAITING exposures and as many events.
"""

import atexit
import json
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from sqlalchemy import Connection, insert, text

from quarterdeck.clock import HOUR_MS, now_ms
from quarterdeck.definitions import counts_reports_only, experiment_variants
from quarterdeck.errors import InvalidInput, SourceUnavailable
from quarterdeck.intake import Counted, IntakeCounter, store_counts
from quarterdeck.registry import name_scopes
from quarterdeck.schema import tracked_events, upsert_evaluations
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.scores import FOR_ANY_SERVICE, Score
from quarterdeck.similarity import is_number
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

MAX_WAITING = 100_000
MAX_REMEMBERED = 100_000
MAX_NAME = 256
MAX_ATTRIBUTES = 10_000

_ADD_EVALUATIONS = text(upsert_evaluations("VALUES (:environment, :flag, :hour_ms, :variant, :n)"))
_ADD_EXPOSURES = text(
    "INSERT INTO flag_exposures (environment, flag, targeting_key, variant, first_seen_ms, service) "
    "VALUES (:environment, :flag, :targeting_key, :variant, :first_seen_ms, :service) ON CONFLICT DO NOTHING"
)

Name = tuple[str, str | None]
_Row = dict[str, Any]


class ExposureLog:
    """Counts evaluations by flag, variant and hour, and records the users of A/B tests at their first evaluation.

    A batch is sent every `report_s` seconds. What was counted while the store was down is reported for the hour in
    which it is back. Users and events that do not fit into the queue are counted in `dropped`; such a user is recorded
    at the next evaluation. `definitions.experiment_variants` decides whose users are recorded, and
    `definitions.counts_reports_only` whether their evaluation is enough. `environment` is that of
    the flags; events and scores belong to `scope`, as rows do.
    """

    def __init__(
        self,
        store: Store,
        environment: str,
        *,
        scope: Scope = DEFAULT_SCOPE,
        report_s: float = 10.0,
        intake: IntakeCounter | None = None,
    ) -> None:
        self._store = store
        self._environment = environment
        self._scope = scope
        self._intake = intake
        if intake is not None:
            intake.on_count = self._start_reporting
        self._report_s = report_s
        self._arms: frozenset[Name] = frozenset()
        self._noted: frozenset[Name] = frozenset()  # those of the arms that an evaluation exposes to
        self._start_afresh()
        _logs.add(self)

    def follow(self, definitions: Mapping[str, Any], environment: str) -> None:
        """Take from the newest flags whose users are to be recorded, and in which environment they are."""
        self._environment = environment
        self._arms = frozenset(
            (key, variant) for key, definition in definitions.items() for variant in experiment_variants(definition)
        )
        reported = {key for key, definition in definitions.items() if counts_reports_only(definition)}
        self._noted = frozenset(arm for arm in self._arms if arm[0] not in reported)

    def count(self, key: str, variant: str | None, targeting_key: Any) -> None:
        """Count an evaluation of an existing flag; `variant` is None if the caller's default was the answer.

        Never raises. A counter's step is one call in C, so threads that count at the same moment lose nothing.
        """
        try:
            name = (key, variant)
            (self._ticks.get(name) or self._learn(name))()
            if self._noted and name in self._noted:
                self._note(key, variant, targeting_key)
        except Exception:  # an evaluation must not fail because it cannot be counted
            logger.exception("an evaluation of %r was not counted", key)

    def expose(self, key: str, variant: str | None, targeting_key: Any) -> bool:
        """Record that a user saw a variant; return whether it is an arm of an experiment, and the user has an id."""
        if (key, variant) not in self._arms or not _is_name(targeting_key):
            return False
        self._note(key, variant, targeting_key)
        return True

    def track(self, event: str, targeting_key: str, value: float | None, attributes: Mapping[str, Any]) -> bool:
        """Queue one event of a user; return False if the queue is full. Raises InvalidInput, naming the field."""
        if not _is_name(event):
            raise InvalidInput("event", f"must be 1 to {MAX_NAME} characters")
        if value is not None and not is_number(value):
            raise InvalidInput("value", f"must be a finite number, not {repr(value)[:40]}")
        try:
            kept = json.dumps(dict(attributes), default=str)
        except (TypeError, ValueError) as error:
            raise InvalidInput("attributes", f"cannot be kept as JSON: {error}") from None
        if len(kept) > MAX_ATTRIBUTES:
            raise InvalidInput("attributes", f"must be at most {MAX_ATTRIBUTES:,} characters of JSON")
        row = {
            **self._scope._asdict(),
            "event": event, "ts_ms": now_ms(), "value": None if value is None else float(value), "attributes": kept,
            "targeting_key": targeting_key if _is_name(targeting_key) else "",
        }  # fmt: skip
        return self._line_up(self._events, row)

    def add_score(self, score: Score) -> bool:
        """Queue one score of a retrieval; return False if the queue is full. Raises SourceUnavailable once closed."""
        if self._stop.is_set():
            raise SourceUnavailable("The client is closed; make a new Quarterdeck client to score again.")
        row = {**score._asdict(), **self._scope._asdict()}
        return self._line_up(self._scores, row)

    @property
    def remembered(self) -> int:
        """How many users are remembered as recorded: at most twice MAX_REMEMBERED."""
        return len(self._known) + len(self._known_before)

    def flush(self) -> None:
        """Return once everything counted is stored. Raises SourceUnavailable; nothing is lost then."""
        with self._sending:
            counted = {}
            for name, tick in list(self._ticks.items()):
                counted[name] = tick() - self._sent[name]
                self._sent[name] += 1  # reading the counter advances it
            lines = [_take_all(line) for line in (self._users, self._events, self._scores)]
            intake = self._intake.take_all() if self._intake else {}
            if not any(counted.values()) and not any(lines) and not intake:
                return
            try:
                self._send(counted, lines, intake)
            except BaseException:
                for line, rows in zip((self._users, self._events, self._scores), lines, strict=True):
                    line.extendleft(reversed(rows))
                if self._intake:
                    self._intake.put_back(intake)
                raise
            for name, evaluations in counted.items():
                self._sent[name] += evaluations

    def close(self) -> None:
        """Send what is left and stop the thread. Safe to call twice, and never raises SourceUnavailable."""
        self._stop.set()
        try:
            self.flush()
        except SourceUnavailable as error:
            logger.warning("the last counts of flag evaluations are lost: %s", error)

    def _start_afresh(self) -> None:
        self._ticks: dict[Name, Callable[[], int]] = {}
        self._sent: dict[Name, int] = {}
        self._users: deque[_Row] = deque()
        self._events: deque[_Row] = deque()
        self._scores: deque[_Row] = deque()
        self._known: set[int] = set()
        self._known_before: set[int] = set()
        self._stop = threading.Event()
        self._sending = threading.Lock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def _learn(self, name: Name) -> Callable[[], int]:
        self._sent.setdefault(name, 0)
        tick = self._ticks.setdefault(name, count().__next__)
        self._start_reporting()
        return tick

    def _note(self, key: str, variant: str | None, targeting_key: Any) -> None:
        """Queue a user's first evaluation. A user who was forgotten here is queued again; the store ignores it."""
        if not _is_name(targeting_key):
            return
        mark = hash((key, variant, targeting_key))
        if mark in self._known or mark in self._known_before:
            return
        row = {
            "environment": self._environment, "flag": key, "variant": variant or "", "targeting_key": targeting_key,
            "first_seen_ms": now_ms(), "service": self._scope.service,
        }  # fmt: skip
        if self._line_up(self._users, row):
            self._known.add(mark)
            if len(self._known) >= MAX_REMEMBERED:
                self._known_before, self._known = self._known, set()

    def _line_up(self, line: deque[_Row], row: _Row) -> bool:
        if len(line) >= MAX_WAITING:
            self.dropped += 1
            return False
        line.append(row)
        self._start_reporting()
        return True

    def _send(
        self,
        counted: Mapping[Name, int],
        lines: Sequence[list[_Row]],
        intake: Mapping[Counted, tuple[int, str]],
    ) -> None:
        users, events, scores = lines
        hour_ms = now_ms() // HOUR_MS * HOUR_MS
        evaluations = [
            {"environment": self._environment, "flag": key, "hour_ms": hour_ms, "variant": variant or "", "n": n}
            for (key, variant), n in counted.items()
            if n
        ]
        # In one order, so that clients that write at the same moment do not deadlock.
        evaluations.sort(key=lambda row: (row["flag"], row["variant"]))
        users.sort(key=lambda row: (row["flag"], row["targeting_key"], row["variant"]))
        with self._store.begin_in_turn() as connection:
            for statement, rows in ((_ADD_EVALUATIONS, evaluations), (_ADD_EXPOSURES, users)):
                if rows:
                    connection.execute(statement, rows)
            if events or scores or intake:
                place = name_scopes(self._store, connection, [self._scope])[self._scope]
                events, scores = ([{**row, **place._asdict()} for row in rows] for rows in (events, scores))
                intake = {counted._replace(scope=place): number for counted, number in intake.items()}
            if events:
                connection.execute(insert(tracked_events), events)
            store_scores(connection, scores)
            store_counts(connection, intake)

    def _start_reporting(self) -> None:
        if self._thread is not None or self._stop.is_set():
            return
        with self._starting:
            if self._thread is None:
                arguments = (weakref.ref(self), self._stop, self._report_s)
                thread = threading.Thread(target=_report, args=arguments, name="quarterdeck-exposures", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the system has no thread to give: the next count tries again
                    return
                self._thread = thread


_ADD_SCORES = text(
    "INSERT INTO scores "
    "(retrieval_id, name, source, value, comment, environment, service, ts_ms, received_ms, pending) VALUES "
    "(:retrieval_id, :name, :source, :value, :comment, :environment, :service, :ts_ms, :received_ms, :pending) "
    "ON CONFLICT (retrieval_id, name, source, environment) DO UPDATE SET value = excluded.value, "
    "comment = excluded.comment, service = excluded.service, ts_ms = excluded.ts_ms, "
    "received_ms = excluded.received_ms, pending = excluded.pending WHERE scores.ts_ms <= excluded.ts_ms AND "
    f"(excluded.pending = {FOR_ANY_SERVICE} OR scores.applied IS NULL OR scores.service = excluded.service)"
)


def store_scores(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store scores, each with its environment and service; a later one replaces an earlier one of the same source.

    `pending` is FOR_ANY_SERVICE unless a row says FOR_OWN_SERVICE: then it belongs to rows of its own service alone,
    and replaces no score that another service gave.
    """
    if rows:
        ordered = sorted(rows, key=lambda row: (row["retrieval_id"], row["name"], row["source"], row["environment"]))
        usual = {"received_ms": now_ms(), "pending": FOR_ANY_SERVICE}
        connection.execute(_ADD_SCORES, [{**usual, **row} for row in ordered])


def _report(reference: "weakref.ref[ExposureLog]", stop: threading.Event, report_s: float) -> None:
    failing = False
    while not stop.wait(report_s):
        log = reference()
        if log is None:
            return
        try:
            log.flush()
            failing = False
        except SourceUnavailable as error:
            if not failing:
                logger.warning("the store refuses the counts of flag evaluations, they are kept: %s", error)
            failing = True
        except Exception:
            logger.exception("the counts of flag evaluations could not be sent, they are kept")
        del log


def _take_all(line: deque[_Row]) -> list[_Row]:
    return [line.popleft() for _ in range(len(line))]


def _is_name(name: Any) -> bool:
    """Return whether this can be a name in the store: text that every database accepts, of at most MAX_NAME."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or "\x00" in name:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


_logs: "weakref.WeakSet[ExposureLog]" = weakref.WeakSet()


def _close_all() -> None:
    for log in list(_logs):
        log.close()


def _after_fork() -> None:
    """Start a forked child's counts at zero: the parent still sends what was counted before the fork."""
    for log in list(_logs):
        log._start_afresh()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
