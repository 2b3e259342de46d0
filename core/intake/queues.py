"""Gateway to the queues of the store: how much waits to be worked off, and since when."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from quarterdeck.schema import scores, trace_spans
from quarterdeck.store import Store


@dataclass(frozen=True, slots=True)
class WorkQueue:
    """How many entries wait, and the time of the oldest; None where none waits."""

    name: str
    waiting: int
    oldest_ms: int | None


def list_queues(store: Store) -> tuple[WorkQueue, ...]:
    """Return the scores that the rollups do not have yet, and the spans whose rows are not stored yet.

    A score that came before its row waits for it, up to seven days. Raises SourceUnavailable.
    """
    score, span = scores.c, trace_spans.c
    queries = {
        "scores": select(func.count(), func.min(score.ts_ms)).where(score.pending > 0),
        "spans": select(func.count(), func.min(span.received_ms)).where(span.settled == 0),
    }
    with store.read() as connection:
        return tuple(_read(name, connection.execute(query).one()) for name, query in queries.items())


def _read(name: str, row: Any) -> WorkQueue:
    waiting, oldest = row
    return WorkQueue(name, int(waiting), None if oldest is None else int(oldest))
