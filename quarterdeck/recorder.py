"""The batched writer behind `log_retrieval`: a bounded queue, one thread, one transaction per batch.

Rows and their rollups are stored together. When the queue is full, the caller waits for up to `block_s` seconds; then
the row is dropped, counted in `dropped` and logged. A batch that the store refuses is kept and retried. A row that no
store can hold is refused alone.
"""

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from functools import lru_cache

from sqlalchemy import Connection

from quarterdeck.errors import InvalidInput, QuarterdeckError, SourceUnavailable, first_line
from quarterdeck.intake import IntakeCounter
from quarterdeck.log import RetrievalLog, as_log
from quarterdeck.retrieval import COLUMNS, FAILED, Retrieval, Row, check_redacted
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

_LARGEST_BATCH = 10_000
_REDACTED_KEPT = 2_048
_ANSWER, _STATE, _NOTED = (COLUMNS.index(name) for name in ("answer", "state", "attributes"))
_FAULTS_OF_ROWS = frozenset({"DataError", "IntegrityError"})  # as each driver calls them
_CLOSED = "The recorder is closed; make a new Quarterdeck client to log again."


class Recorder:
    """Appends retrievals to the log in batches of `batch_rows`, or every `batch_s` seconds, whichever comes first.

    `redact` is applied to each query and answer before it is queued. Recording takes no lock while there is room and
    the thread need not be woken, so threads that record at the same moment may overfill the queue by one row each.
    """

    _queue: deque[Row]
    _batch: list[Row]  # taken from the queue, not stored yet
    _changed: threading.Condition
    _thread: threading.Thread | None
    _written: int
    _room: int  # the queue's limit: lower while a batch is being written, 0 once closed
    _wake_at: int  # queue length at which to wake the thread
    _flush_wanted: bool
    _closed: bool
    _stopped: bool
    _failure: str
    dropped: int

    def __init__(
        self,
        log: Store | RetrievalLog,
        *,
        batch_rows: int = 5_000,
        batch_s: float = 0.05,
        max_queue: int = 100_000,
        block_s: float = 5.0,
        redact: Callable[[str], str] | None = None,
        intake: IntakeCounter | None = None,
    ) -> None:
        self.log = as_log(log)
        self._intake = intake
        self._batch_rows = batch_rows
        self._batch_s = batch_s
        self._max_queue = max_queue
        self._block_s = block_s
        self._redact = lru_cache(_REDACTED_KEPT)(redact) if redact else None  # questions repeat
        self._start_afresh()
        _recorders.add(self)

    def record(self, retrieval: Retrieval) -> bool:
        """Queue one retrieval; return False if the queue stayed full and it was dropped."""
        return self.record_row(retrieval.row)

    def record_row(self, row: Row) -> bool:
        """Queue one checked row; return False if the queue stayed full and it was dropped.

        Raises InvalidInput if `redact` returns no text that can be stored.
        """
        if self._redact is not None:
            redacted = self._redact(row[1])
            if redacted is not row[1]:
                row = (row[0], check_redacted("query", redacted), *row[2:])
            if row[_ANSWER] is not None:
                answer = check_redacted("answer", self._redact(row[_ANSWER]))
                row = (*row[:_ANSWER], answer, *row[_ANSWER + 1 :])
            if row[_STATE] == FAILED and row[_NOTED] and "error" in row[_NOTED]:  # it may repeat the question
                error = check_redacted("error", self._redact(str(row[_NOTED]["error"])))
                row = (*row[:_NOTED], {**row[_NOTED], "error": error}, *row[_NOTED + 1 :])
        queue = self._queue
        if len(queue) >= self._room and not self._wait_for_room():
            return False
        queue.append(row)
        if len(queue) >= self._wake_at:
            self._wake()
        return True

    def flush(self, timeout_s: float = 10.0) -> None:
        """Return once every retrieval accepted so far is stored. Raises SourceUnavailable after `timeout_s` seconds."""
        with self._changed:
            target = self._written + len(self._batch) + len(self._queue)
            self._flush_wanted = True
            if self._queue:
                self._start()
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._written >= target, timeout_s):
                waiting = target - self._written
                raise SourceUnavailable(
                    f"{waiting:,} retrievals are not stored after {timeout_s:g} s and stay queued"
                    + (f": {self._failure}" if self._failure else ".")
                )

    def close(self, timeout_s: float = 10.0) -> None:
        """Accept no more rows, flush, and stop the thread. Safe to call twice. Raises as `flush` does."""
        if self._closed:
            return
        with self._changed:
            self._closed = True
            self._room = 0
        try:
            self.flush(timeout_s)
        finally:
            with self._changed:
                self._stopped = True
                self._wake_at = 1  # a caller who got in just before is told, see `_wake`
                self._changed.notify_all()

    def _start_afresh(self) -> None:
        self._queue = deque()
        self._batch = []
        self._changed = threading.Condition()
        self._thread = None
        self._written = self.dropped = 0
        self._room = self._max_queue
        self._wake_at = 1
        self._flush_wanted = self._closed = self._stopped = False
        self._failure = ""

    def _wait_for_room(self) -> bool:
        with self._changed:
            found = self._changed.wait_for(lambda: self._closed or len(self._queue) < self._room, self._block_s)
            if self._closed:
                raise SourceUnavailable(_CLOSED)
            if not found:
                self.dropped += 1
                if self.dropped & (self.dropped - 1) == 0:
                    logger.error(
                        "the recorder's queue is full: %d retrievals dropped so far. %s", self.dropped, self._failure
                    )
            return found

    def _wake(self) -> None:
        with self._changed:
            if self._stopped:
                raise SourceUnavailable(_CLOSED)
            self._start()
            self._changed.notify_all()

    def _start(self) -> None:
        """Start the thread if it does not run. If the system has none to give, the next row tries again."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="quarterdeck-recorder", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._failure = str(error)
            else:
                self._thread = thread

    def _run(self) -> None:
        pause_s = 0.0
        while self._take_batch():
            try:
                new, known = self._store(self._batch)
            except Exception as error:  # noqa: BLE001 - a thread that dies of it would store nothing ever again
                said = first_line(error)
                if said != self._failure:
                    logger.warning("retrievals stay queued, the store refuses them: %s", said)
                self._failure = said
                if self._stopped:
                    return
                pause_s = min(2.0, pause_s * 2 or 0.1)
                time.sleep(pause_s)
            else:
                pause_s = 0.0
                if self._intake is not None:
                    self._intake.take(new)
                    self._intake.ignore(known)
                self._forget_batch()

    def _store(self, rows: list[Row]) -> tuple[int, int]:
        """Store rows; return how many are new, and how many were known. One that no store can hold is refused alone."""
        try:
            known = self.log.append(rows)
        except Exception as error:
            if not _is_of_rows(error):
                raise
            if len(rows) > 1:
                halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
                (new, known), (more, further) = map(self._store, halves)
                return new + more, known + further
            refusal = InvalidInput("row", f"cannot be stored: {first_line(error)}")
            if self._intake is not None:
                self._intake.refuse(refusal, rows[0][1])
            else:
                logger.error("a retrieval was dropped: %s", refusal)
            return 0, 0
        return len(rows) - known, known

    def _take_batch(self) -> bool:
        """Wait for rows, then for a full batch or the time limit; return False once stopped. Keeps a refused batch."""
        with self._changed:
            if not self._batch:
                self._wait_until(1, lambda: False, None)
                self._wait_until(self._batch_rows, lambda: self._flush_wanted, self._batch_s)
                self._flush_wanted = False
                count = min(len(self._queue), _LARGEST_BATCH)
                if not self._closed:
                    self._room = self._max_queue - count
                self._batch = [self._queue.popleft() for _ in range(count)]
            return bool(self._batch)

    def _wait_until(self, length: int, or_when: Callable[[], bool], timeout_s: float | None) -> None:
        if not self._stopped:
            self._wake_at = length
            self._changed.wait_for(lambda: self._stopped or or_when() or len(self._queue) >= length, timeout_s)
        if not self._stopped:
            self._wake_at = sys.maxsize

    def _forget_batch(self) -> None:
        with self._changed:
            self._written += len(self._batch)
            self._batch = []
            if not self._closed:
                self._room = self._max_queue
            self._failure = ""
            self._changed.notify_all()


def append_retrievals(
    log: Store | RetrievalLog, retrievals: Iterable[Retrieval], *, within: Connection | None = None
) -> int:
    """Write retrievals and their rollups in one transaction; return how many are new. Raises SourceUnavailable.

    `within` is an open transaction to write them in, see `RetrievalLog.append`.
    """
    batch = [retrieval.row for retrieval in retrievals]
    return len(batch) - as_log(log).append(batch, within) if batch else 0


def _is_of_rows(error: Exception) -> bool:
    """Return whether a row is at fault, and not the store: then trying again does not help."""
    if isinstance(error, TypeError | ValueError | OverflowError):
        return True
    named = {each.__name__ for each in type(error.__cause__).__mro__}
    return isinstance(error, QuarterdeckError) and not named.isdisjoint(_FAULTS_OF_ROWS)


_recorders: "weakref.WeakSet[Recorder]" = weakref.WeakSet()


def _for_each_recorder(act: Callable[[Recorder], None]) -> None:
    for recorder in list(_recorders):
        try:
            act(recorder)
        except SourceUnavailable as error:
            logger.error("at exit: %s", error)


def _after_fork() -> None:
    """Empty a forked child's queue: the parent still holds, and writes, what was queued before the fork."""
    for recorder in list(_recorders):
        recorder.log.forget_connections()
        recorder._start_afresh()


atexit.register(_for_each_recorder, Recorder.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
