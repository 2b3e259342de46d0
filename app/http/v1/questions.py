"""The questions of the log with what was found for each, judging answers, and saved views."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import Field

from app.http.backends import get_store
from app.http.v1.callers import Caller, From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import (
    Answered,
    Days,
    Environment,
    Limit,
    Page,
    Position,
    Reason,
    Reasoned,
    Service,
    Untrusted,
    cut_page,
    lead_to,
)
from app.http.v1.reads import get_embedder, load_coverage, load_known_questions, load_low, today_of
from app.http.v1.routing import make_router
from core.coverage.asked import narrow_to_topic
from core.coverage.newcomers import narrow_to_new
from core.errors import InvalidInput, NotFound
from core.log.filters import LoggedQuestion, Order, QuestionFilter, read_cursor
from core.log.questions import count_questions, list_page
from core.log.retrievals import calendar_of
from core.questions.neighbors import narrow_to_like
from core.questions.operations import BAD, GOOD, delete_view, judge_questions, save_view
from core.questions.views import SavedView, list_views
from core.questions.wanted import COUNTABLE, FILTERS, ShownSpan, make_filter
from quarterdeck.scope import Scope

MOST_COUNTED = 10_000
MOST_JUDGED = 100
TOPIC_DAYS = 30  # the longest window of topics
router = make_router("questions")


class HitAnswer(Answered):
    """A document that was found: its id, the retriever's own number, its rank from 1."""

    id: Untrusted[str]
    score: float | None
    rank: int


class ScoreAnswer(Answered):
    """A later judgment of a question."""

    name: Untrusted[str]
    value: float
    source: Untrusted[str]
    comment: Untrusted[str]


class QuestionAnswer(Answered):
    """A logged question. What users wrote is untrusted text."""

    retrieval_id: str
    ts: datetime
    query: Untrusted[str]
    score: float | None = Field(description="The retriever's own number, of the kind `score_kind`.")
    score_kind: str
    similarity: float | None = Field(description="0 to 1.")
    answerability: float | None = Field(description="The probability that the index answered it, 0 to 1.")
    finding: str = Field(description="Why it scores low; empty if it does not.")
    state: str
    session_id: Untrusted[str | None]
    user_id: Untrusted[str | None]
    service: str
    environment: str
    arm: Untrusted[str | None]
    prompt_version: Untrusted[str | None]
    index_version: Untrusted[str | None]
    model: Untrusted[str | None]
    documents: tuple[HitAnswer, ...]
    attributes: Untrusted[dict[str, Any]]
    trace_id: Untrusted[str | None]
    answer: Untrusted[str | None]
    latency_ms: float | None
    cost_usd: float | None
    tokens: float | None
    feedback: float | None
    faithfulness: float | None
    weight: int
    scores: tuple[ScoreAnswer, ...]


class CountAnswer(Answered):
    """How many questions match; with `is_least`, there are more than were counted."""

    count: int
    is_least: bool


class ViewAnswer(Answered):
    """A saved view: filters of the questions page under a name."""

    name: Untrusted[str]
    filters: Untrusted[tuple[tuple[str, str], ...]]


class JudgmentChange(Reasoned):
    """Gives answers the feedback of a reviewer."""

    retrieval_ids: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(
        min_length=1, max_length=MOST_JUDGED
    )
    judgment: Literal["good", "bad"]
    note: str = Field("", max_length=500)
    service: str | None = Field(None, max_length=128)
    environment: str | None = Field(None, max_length=64)


class ViewChange(Reasoned):
    """Saves filters under the view's name."""

    filters: tuple[tuple[str, str], ...] = Field(min_length=1, max_length=50)
    environment: str | None = Field(None, max_length=64)


Filters = Annotated[
    list[Annotated[str, Field(max_length=600)]],
    Query(
        max_length=50,
        description="A filter of the questions page as `name:value`, such as `state:empty`, `low:1`, `text:mbuf`, "
        "`topic:ID`, `like:ID`, `day:2026-11-21`, `score:feedback<0`. Repeat it to combine several.",
    ),
]
Sort = Annotated[
    Literal["newest", "oldest", "lowest"],
    Query(description="Which come first; `lowest` sorts the newest 10,000 that match and have a score."),
]
ViewName = Annotated[str, Path(min_length=1, max_length=80)]


@router.get("/v1/questions", responses=lead_to(get_question={"parameters": {
    "retrieval_id": "$response.body#/items/0/retrieval_id", "service": "$request.query.service",
}}))  # fmt: skip
def list_questions(
    caller: From,
    environment: Environment = None,
    service: Service = None,
    days: Days = 7,
    filters: Filters = [],  # noqa: B006 - FastAPI copies it
    sort: Sort = "newest",
    limit: Limit = 50,
    cursor: Position = None,
) -> Page[QuestionAnswer]:
    """Return the questions that meet all filters, newest first by default. The token needs the scope `questions`."""
    scope = caller.find_scope(environment, service)
    caller.check_reads(scope.environment)
    order = Order(sort)
    after = read_cursor(cursor, order) if cursor is not None else None
    wanted = _read_filter(caller, scope, days, filters)
    found = list_page(get_store(), wanted, limit=limit, after=after, order=order)
    following = str(found.following) if found.following else None
    return Page[QuestionAnswer](items=tuple(map(QuestionAnswer.model_validate, found.questions)), next=following)


@router.get("/v1/questions/count", name="count_questions")
def count_matching(
    caller: From,
    environment: Environment = None,
    service: Service = None,
    days: Days = 7,
    filters: Filters = [],  # noqa: B006 - FastAPI copies it
) -> CountAnswer:
    """Return how many questions meet all filters; counting ends after 10,000.

    Without the scope `questions`, the filters may be `low`, `state`, `day`, `since` and the labels.
    """
    scope = caller.find_scope(environment, service)
    counted = count_questions(get_store(), _read_filter(caller, scope, days, filters), most=MOST_COUNTED + 1)
    return CountAnswer(count=min(counted, MOST_COUNTED), is_least=counted > MOST_COUNTED)


@router.get("/v1/questions/{retrieval_id}")
def get_question(
    caller: From,
    retrieval_id: Annotated[str, Path(min_length=1, max_length=256)],
    environment: Environment = None,
    service: Service = None,
) -> QuestionAnswer:
    """Return one question by its id. The token needs the scope `questions`."""
    scope = caller.find_scope(environment, service)
    caller.check_reads(scope.environment)
    return QuestionAnswer.model_validate(_get_question(scope, retrieval_id))


@router.post("/v1/judgments", name="judge_answers")
def judge(body: JudgmentChange, make: Make) -> ChangeAnswer:
    """Judge answers as good or bad, as a reviewer, with a note. The token needs the scope `questions` too."""
    scope = make.caller.find_scope(body.environment, body.service)
    make.caller.check_reads(scope.environment)
    found = [_get_question(scope, each) for each in dict.fromkeys(body.retrieval_ids)]
    value = GOOD if body.judgment == "good" else BAD
    return make.make(
        body.reason, scope.environment, lambda act: judge_questions(get_store(), found, value, act, note=body.note)
    )


@router.get("/v1/views", name="list_views")
def list_saved_views(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[ViewAnswer]:
    """Return the saved views of the questions page. The token needs the scope `questions`."""
    named = caller.find_environment(environment)
    caller.check_reads(named)
    items, following = cut_page(list_views(get_store(), named).views, cursor, limit)
    return Page[ViewAnswer](items=tuple(map(ViewAnswer.model_validate, items)), next=following)


@router.put("/v1/views/{name}", name="save_view")
def put_view(name: ViewName, body: ViewChange, make: Make) -> ChangeAnswer:
    """Save a view, replacing one of that name. The token needs the scope `questions` too."""
    environment = make.caller.find_environment(body.environment)
    make.caller.check_reads(environment)
    view = SavedView(name, body.filters)
    return make.make(body.reason, environment, lambda act: save_view(get_store(), view, act))


@router.delete("/v1/views/{name}", name="delete_view")
def remove_view(name: ViewName, make: Make, reason: Reason, environment: Environment = None) -> ChangeAnswer:
    """Delete a view. The token needs the scope `questions` too."""
    named = make.caller.find_environment(environment)
    make.caller.check_reads(named)
    return make.make(reason, named, lambda act: delete_view(get_store(), name, act))


def _read_filter(caller: Caller, scope: Scope, days: int, filters: list[str]) -> QuestionFilter:
    """Return the questions that the filters mean. Raises Forbidden for filters that only readers may use."""
    pairs = tuple((name, value) for name, _, value in (each.partition(":") for each in filters))
    for name, _ in pairs:
        if name not in FILTERS:
            raise InvalidInput("filter", f"must be name:value with one of {', '.join(FILTERS)}, not {name[:40]!r}")
    if any(name not in COUNTABLE for name, _ in pairs):
        caller.check_reads(scope.environment)
    store, today = get_store(), today_of(scope)
    calendar = calendar_of(store, scope)
    span = ShownSpan(calendar.start_of(today - timedelta(days=days - 1)), calendar.end_of(today), calendar)
    wanted = make_filter(pairs, scope, span, low=load_low(scope))
    if new := next((value for name, value in pairs if name == "new"), ""):
        wanted = narrow_to_new(store, wanted, scope, new)[1]
    if topic := next((value for name, value in pairs if name == "topic"), ""):
        wanted = narrow_to_topic(store, wanted, load_coverage(scope, min(days, TOPIC_DAYS)), topic)
    if like := next((value for name, value in pairs if name == "like"), ""):
        wanted = narrow_to_like(store, get_embedder(), load_known_questions(scope), wanted, like)[1]
    return wanted


def _get_question(scope: Scope, retrieval_id: str) -> LoggedQuestion:
    found = list_page(get_store(), QuestionFilter(scope=scope, retrieval_id=retrieval_id), limit=1).questions
    if not found:
        raise NotFound(f"question: there is no {retrieval_id[:80]!r} in {scope.environment}/{scope.service}")
    return found[0]
