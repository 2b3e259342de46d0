"""What the client tells the store about its flags, in batches: how often each was evaluated, and who was in a test.

Counting takes no lock and never waits. What the store refuses is kept for the next batch, in bounded memory: one number
for each flag and variant; of users and events only so many wait, and only so many users are remembered as noted.
"""

import atexit
import json
import logging
import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from sqlalchemy import insert, text

from quarterdeck.clock import HOUR_MS, now_ms
from quarterdeck.definitions import experiment_variants
from quarterdeck.errors import InvalidInput, SourceUnavailable
from quarterdeck.schema import tracked_events, upsert_evaluations
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

MAX_WAITING = 100_000
MAX_REMEMBERED = 100_000
MAX_NAME = 256
MAX_ATTRIBUTES = 10_000

_ADD_EVALUATIONS = text(upsert_evaluations("VALUES (:environment, :flag, :hour_ms, :variant, :n)"))
_ADD_EXPOSURES = text(
    "INSERT INTO flag_exposures (environment, flag, targeting_key, variant, first_seen_ms) "
    "VALUES (:environment, :flag, :targeting_key, :variant, :first_seen_ms) ON CONFLICT DO NOTHING"
)

Name = tuple[str, str | None]
Row = dict[str, Any]


class ExposureLog:
    """Counts evaluations by flag, variant and hour, and notes the users of A/B tests at their first evaluation.

    A batch goes out every `report_s`; what was counted while the store was down belongs to the hour in which it is
    back. Users and events that find no place in the queue are counted in `dropped`; such a user is noted at the next
    evaluation. `definitions.experiment_variants` says whose users are noted; the deck reads by `core.log.exposures`.
    """

    def __init__(self, store: Store, environment: str, *, report_s: float = 10.0) -> None:
        self._store = store
        self._environment = environment
        self._report_s = report_s
        self._noted: frozenset[Name] = frozenset()
        self._start_afresh()
        _logs.add(self)

    def follow(self, definitions: Mapping[str, Any]) -> None:
        """Learn from the newest flags whose users are to be noted."""
        self._noted = frozenset(
            (key, variant) for key, definition in definitions.items() for variant in experiment_variants(definition)
        )

    def count(self, key: str, variant: str | None, targeting_key: Any) -> None:
        """Count an evaluation of a flag that exists; `variant` is None where the caller's default was the answer.

        Never raises. A counter's step is one call in C, so that threads which count at the same moment lose nothing.
        """
        try:
            name = (key, variant)
            (self._ticks.get(name) or self._learn(name))()
            if self._noted and name in self._noted:
                self._note(key, variant, targeting_key)
        except Exception:  # an evaluation must not fail because it cannot be counted
            logger.exception("an evaluation of %r was not counted", key)

    def track(self, event: str, targeting_key: str, value: float | None, attributes: Mapping[str, Any]) -> bool:
        """Queue one event of a user; False when the queue is full. Raises InvalidInput, naming the field."""
        if not _is_name(event):
            raise InvalidInput("event", f"a name has 1 to {MAX_NAME} characters")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InvalidInput("value", f"must be a number, not {value!r}")
        if value is not None and not math.isfinite(value):
            raise InvalidInput("value", "must be finite")
        try:
            kept = json.dumps(dict(attributes), default=str)
        except (TypeError, ValueError) as error:
            raise InvalidInput("attributes", f"cannot be kept as JSON: {error}") from None
        if len(kept) > MAX_ATTRIBUTES:
            raise InvalidInput("attributes", f"must be at most {MAX_ATTRIBUTES:,} characters of JSON")
        row = {
            "environment": self._environment, "event": event, "ts_ms": now_ms(), "value": value, "attributes": kept,
            "targeting_key": targeting_key if _is_name(targeting_key) else "",
        }  # fmt: skip
        return self._line_up(self._events, row)

    def flush(self) -> None:
        """Return when all that was counted is stored. Raises SourceUnavailable; it then waits for the next batch."""
        with self._sending:
            counted = {}
            for name, tick in list(self._ticks.items()):
                counted[name] = tick() - self._sent[name]
                self._sent[name] += 1  # asking the counter was a step of it
            users, events = _take_all(self._users), _take_all(self._events)
            if not any(counted.values()) and not users and not events:
                return
            try:
                self._send(counted, users, events)
            except BaseException:
                self._users.extend(users)
                self._events.extend(events)
                raise
            for name, evaluations in counted.items():
                self._sent[name] += evaluations

    def close(self) -> None:
        """Send what is left and stop the thread. Safe to call twice."""
        self._stop.set()
        try:
            self.flush()
        except SourceUnavailable as error:
            logger.warning("the last counts of flag evaluations are lost: %s", error)

    def _start_afresh(self) -> None:
        self._ticks: dict[Name, Callable[[], int]] = {}
        self._sent: dict[Name, int] = {}
        self._users: deque[Row] = deque()
        self._events: deque[Row] = deque()
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
        """Queue a user's first evaluation. One who was forgotten here and comes again changes nothing in the store."""
        if not _is_name(targeting_key):
            return
        mark = hash((key, variant, targeting_key))
        if mark in self._known or mark in self._known_before:
            return
        row = {
            "environment": self._environment, "flag": key, "variant": variant or "", "targeting_key": targeting_key,
            "first_seen_ms": now_ms(),
        }  # fmt: skip
        if self._line_up(self._users, row):
            self._known.add(mark)
            if len(self._known) >= MAX_REMEMBERED:
                self._known_before, self._known = self._known, set()

    def _line_up(self, line: deque[Row], row: Row) -> bool:
        if len(line) >= MAX_WAITING:
            self.dropped += 1
            return False
        line.append(row)
        self._start_reporting()
        return True

    def _send(self, counted: Mapping[Name, int], users: list[Row], events: list[Row]) -> None:
        hour_ms = now_ms() // HOUR_MS * HOUR_MS
        evaluations = [
            {"environment": self._environment, "flag": key, "hour_ms": hour_ms, "variant": variant or "", "n": n}
            for (key, variant), n in counted.items()
            if n
        ]
        # In one order, so that clients which write at the same moment do not wait for each other's rows in a circle.
        evaluations.sort(key=lambda row: (row["flag"], row["variant"]))
        users.sort(key=lambda row: (row["flag"], row["targeting_key"], row["variant"]))
        with self._store.begin_in_turn() as connection:
            for statement, rows in ((_ADD_EVALUATIONS, evaluations), (_ADD_EXPOSURES, users)):
                if rows:
                    connection.execute(statement, rows)
            if events:
                connection.execute(insert(tracked_events), events)

    def _start_reporting(self) -> None:
        if self._thread is not None or self._stop.is_set():
            return
        with self._starting:
            if self._thread is None:
                arguments = (weakref.ref(self), self._stop, self._report_s)
                self._thread = threading.Thread(
                    target=_report, args=arguments, name="quarterdeck-exposures", daemon=True
                )
                self._thread.start()


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
                logger.warning("counts of flag evaluations wait, the store refuses them: %s", error)
            failing = True
        except Exception:
            logger.exception("counts of flag evaluations wait")
        del log


def _take_all(line: deque[Row]) -> list[Row]:
    return [line.popleft() for _ in range(len(line))]


def _is_name(name: Any) -> bool:
    """Whether this can be a name in the store: some text that every database takes, of sane length."""
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
    """A child counts from nothing: the parent still holds, and sends, what was counted before the fork."""
    for log in list(_logs):
        log._start_afresh()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
