"""Gateway to the deck's own judgments of questions: they are scores of the source `quarterdeck`, in the store.

What is judged, and how, is decided in `core/coverage/judging.py`.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import select

from core.log.filters import ANSWERABILITY, OWN_SOURCE
from quarterdeck.exposures import store_scores
from quarterdeck.schema import scores
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_SLICE = 500


class QuestionJudgment(NamedTuple):
    """A question of the log, the probability that it was answerable, and the finding; "" if it did not score low."""

    retrieval_id: str
    probability: float
    finding: str


def find_judged(store: Store, environment: str, names: Collection[str], *, since_ms: int) -> set[str]:
    """Return which of these questions of an environment were judged at a time or later."""
    listed, c = sorted(names), scores.c
    own = (c.name == ANSWERABILITY, c.source == OWN_SOURCE, c.environment == environment, c.ts_ms >= since_ms)
    found: set[str] = set()
    with store.read() as connection:
        for start in range(0, len(listed), _SLICE):
            query = select(c.retrieval_id).where(*own, c.retrieval_id.in_(listed[start : start + _SLICE]))
            found |= set(connection.scalars(query))
    return found


def save_judgments(store: Store, judged: Sequence[QuestionJudgment], *, scope: Scope, at_ms: int) -> None:
    """Save judgments of questions of a scope; each replaces the last one. Raises SourceUnavailable."""
    shared = {"name": ANSWERABILITY, "source": OWN_SOURCE, **scope._asdict(), "ts_ms": at_ms}
    rows = [
        {**shared, "retrieval_id": each.retrieval_id, "value": each.probability, "comment": each.finding}
        for each in judged
    ]
    if rows:
        with store.begin() as connection:
            store_scores(connection, rows)
