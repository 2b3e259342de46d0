"""Gateway to the questions of the log, one by one: pages of them by a filter, in an order, with their scores."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace

from sqlalchemy import select

from core.errors import InvalidInput
from core.log.filters import Cursor, GivenScore, LoggedQuestion, Order, QuestionFilter, QuestionPage, read_question
from core.log.readers import open_reader
from core.log.values import normalize_query
from quarterdeck.log import SqlLog, as_log
from quarterdeck.schema import scores
from quarterdeck.store import Store, fetch_many

MOST_ON_A_PAGE = 1_000
_MOST_SPELLINGS = 20_000
_MOST_JUDGED = 20_000
_SLICE = 500


def list_page(
    store: Store,
    wanted: QuestionFilter,
    *,
    limit: int = 50,
    after: Cursor | None = None,
    order: Order = Order.NEWEST,
) -> QuestionPage:
    """Return the first questions that meet a filter, those after a cursor, with the scores that came later.

    Raises SourceUnavailable, and InvalidInput for a limit outside 1 to 1,000.
    """
    if not 1 <= limit <= MOST_ON_A_PAGE:
        raise InvalidInput("limit", f"must be 1 to {MOST_ON_A_PAGE:,}, not {limit}")
    rows = open_reader(store).list_rows(_name_judged(store, wanted), limit + 1, after, order)
    found = [read_question(row) for row in rows[:limit]]
    following = rows[limit - 1].cursor if len(rows) > limit else None
    given = list_scores(store, [(question.environment, question.retrieval_id) for question in found])
    judged = (each.with_scores(given.get((each.environment, each.retrieval_id), ())) for each in found)
    return QuestionPage(tuple(judged), following)


def list_matching(
    store: Store, wanted: QuestionFilter, *, limit: int, order: Order = Order.NEWEST
) -> Iterator[LoggedQuestion]:
    """Yield the first questions that meet a filter, at most `limit`, read page by page."""
    after: Cursor | None = None
    while limit > 0:
        page = list_page(store, wanted, limit=min(limit, MOST_ON_A_PAGE), after=after, order=order)
        yield from page.questions
        limit, after = limit - len(page.questions), page.following
        if after is None:
            return


def count_questions(store: Store, wanted: QuestionFilter, *, most: int | None = None) -> int:
    """Return how many rows of the log meet a filter; with `most`, counting ends there. Raises SourceUnavailable."""
    return open_reader(store).count_matching(_name_judged(store, wanted), most)


def with_spellings(store: Store, wanted: QuestionFilter, *, start_ms: int, end_ms: int) -> QuestionFilter:
    """Return the filter with every spelling of its texts that was asked in a window: other case, other spaces."""
    folded: Collection[str] = {normalize_query(text) for text in wanted.texts or ()}
    asked = open_reader(store).list_asked(wanted.scope, start_ms, end_ms, None, _MOST_SPELLINGS)
    others = {row.query for row in asked if normalize_query(row.query) in folded}
    return replace(wanted, texts=tuple(sorted(others.union(wanted.texts or ()))))


def list_scores(store: Store, questions: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[GivenScore, ...]]:
    """Return the scores of some questions by environment and id, each question's by name and source."""
    wanted, found = set(questions), defaultdict[tuple[str, str], list[GivenScore]](list)
    ids = sorted({name for _, name in wanted})
    c = scores.c
    with store.read() as connection:
        for start in range(0, len(ids), _SLICE):
            query = select(c.environment, c.retrieval_id, c.name, c.value, c.source, c.comment).where(
                c.retrieval_id.in_(ids[start : start + _SLICE])
            )
            for environment, name, *score in fetch_many(
                connection, query.order_by(c.retrieval_id, c.name, c.source), exact=True
            ):
                if (environment, name) in wanted:
                    found[environment, name].append(GivenScore(*score))
    return {name: tuple(given) for name, given in found.items()}


def _name_judged(store: Store, wanted: QuestionFilter) -> QuestionFilter:
    """Return the filter with the ids of judged questions, where the log does not lie beside the scores.

    They are the newest 20,000 with such a score.
    """
    if not wanted.score_name or isinstance(as_log(store), SqlLog):
        return wanted
    c = scores.c
    query = select(c.retrieval_id).where(c.name == wanted.score_name).order_by(c.ts_ms.desc()).limit(_MOST_JUDGED)
    if wanted.score_below is not None:
        query = query.where(c.value < wanted.score_below)
    if wanted.scope.environment:
        query = query.where(c.environment == wanted.scope.environment)
    with store.read() as connection:
        return replace(wanted, judged=tuple(connection.scalars(query)))
