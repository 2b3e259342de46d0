"""Gateway to the answers of the log that a judge scored: what it said, when, and what that cost."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select

from quarterdeck.exposures import store_scores
from quarterdeck.schema import judged_answers
from quarterdeck.scope import Scope
from quarterdeck.scores import check_score
from quarterdeck.store import Store

JUDGE = "judge"  # the source of the scores
_SLICE = 500


class JudgedAnswer(NamedTuple):
    """What a judge said of an answer under the name of a score; `judge` is its name and version.

    `value` is None where it could not say anything, and `problem` says why. `drawn` says whether the answer belongs to
    the random sample; the others are in a review queue. `said` is the comment of the score.
    """

    retrieval_id: str
    name: str
    asked_ms: int
    judge: str
    value: float | None
    problem: str
    cost_usd: float
    drawn: bool
    said: str = ""


class JudgingDay(NamedTuple):
    """How many answers were judged since a time, and what that cost."""

    answers: int
    spent_usd: float


def save_judged(store: Store, scope: Scope, found: Sequence[JudgedAnswer], *, at_ms: int) -> None:
    """Save what a judge said of answers of a scope, and the scores of those with a value. Raises SourceUnavailable."""
    if not found:
        return
    rows = [
        {**{name: value for name, value in each._asdict().items() if name != "said"}, **scope._asdict(),
         "drawn": int(each.drawn), "judged_ms": at_ms}
        for each in found
    ]  # fmt: skip
    scores = [
        {**check_score(each.retrieval_id, each.name, each.value, comment=f"{each.judge}: {each.said}", source=JUDGE,
                       ts_ms=at_ms)._asdict(), **scope._asdict()}
        for each in found
        if each.value is not None
    ]  # fmt: skip
    c = judged_answers.c
    with store.begin() as connection:
        for each in found:
            same = (c.environment == scope.environment, c.retrieval_id == each.retrieval_id, c.name == each.name)
            connection.execute(delete(judged_answers).where(*same))
        connection.execute(insert(judged_answers), rows)
        store_scores(connection, scores)


def list_judged(store: Store, scope: Scope, name: str, *, start_ms: int, end_ms: int) -> tuple[JudgedAnswer, ...]:
    """Return what was judged under a name of the answers to questions that were asked in a time, the oldest first."""
    c = judged_answers.c
    where = (
        c.environment == scope.environment, c.service == scope.service, c.name == name, c.asked_ms >= start_ms,
        c.asked_ms < end_ms,
    )  # fmt: skip
    columns = (c.retrieval_id, c.name, c.asked_ms, c.judge, c.value, c.problem, c.cost_usd, c.drawn)
    with store.read() as connection:
        rows = connection.execute(select(*columns).where(*where).order_by(c.asked_ms, c.retrieval_id))
        return tuple(JudgedAnswer(*row[:-1], bool(row[-1])) for row in rows)


def find_known(store: Store, environment: str, names: Collection[str]) -> set[str]:
    """Return which of these questions were judged."""
    listed, c, found = sorted(names), judged_answers.c, set[str]()
    with store.read() as connection:
        for start in range(0, len(listed), _SLICE):
            part = listed[start : start + _SLICE]
            query = select(c.retrieval_id).where(c.environment == environment, c.retrieval_id.in_(part))
            found |= set(connection.scalars(query))
    return found


def sum_judging(store: Store, *, since_ms: int, scope: Scope | None = None) -> JudgingDay:
    """Return how many answers of a scope, or of all, were judged since a time, and what that cost."""
    c = judged_answers.c
    query = select(func.count(func.distinct(c.retrieval_id)), func.coalesce(func.sum(c.cost_usd), 0.0))
    query = query.where(c.judged_ms >= since_ms)
    if scope is not None:
        query = query.where(c.environment == scope.environment, c.service == scope.service)
    with store.read() as connection:
        count, spent = connection.execute(query).one()
    return JudgingDay(int(count), float(spent))
