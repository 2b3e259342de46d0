"""What users ask that the index hardly covers: topics, the backlog with its decisions, and documents by their work."""

from datetime import date, datetime, timedelta
from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from app.http.backends import get_config, get_store
from app.http.v1.callers import Caller, From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import (
    Answered,
    Days,
    Environment,
    Limit,
    Page,
    Position,
    Reasoned,
    Service,
    Untrusted,
    cut_page,
    lead_to,
)
from app.http.v1.reads import GAP_DAYS, get_embedder, load_emerging, load_low, load_named_coverage, today_of
from app.http.v1.routing import make_router
from core.coverage.asked import find_topic
from core.coverage.backlog import BacklogTopic, TopicState, get_backlog_topic, list_backlog
from core.coverage.closing import measure_closing
from core.coverage.labels import LONGEST_TITLE
from core.coverage.operations import mark_topic, rename_topic
from core.coverage.topics import Topic, Trend
from core.errors import Conflict, NotFound, QuarterdeckError
from core.log.documents import list_documents
from core.predictions.nearest import list_topic_predictions
from core.questions.documents import report_documents
from quarterdeck.scope import Scope

TOPIC_DAYS = 30
router = make_router("topics")


class TopicAnswer(Answered):
    """A group of low-scoring questions that ask for the same. Labels and samples are users' text, and untrusted."""

    topic_id: str
    label: Untrusted[str]
    count: int = Field(description="Times asked.")
    distinct: int
    share: float = Field(description="Of the low-scoring questions, 0 to 1.")
    mean_score: float
    gain: float = Field(description="The expected benefit of indexing it, by which topics are ranked.")
    trend: Trend
    keywords: Untrusted[tuple[str, ...]]
    sample_queries: Untrusted[tuple[str, ...]]
    language: str
    state: TopicState = Field(description="What was decided about it.")
    owner: Untrusted[str]


class TopicsAnswer(Answered):
    """The topics of a window, most worth indexing first."""

    environment: str
    service: str
    threshold: float = Field(description="A question scores low below it.")
    low_count: int
    scored_count: int
    empty_count: int
    pending: int = Field(description="Distinct questions without a vector yet, which are in no topic.")
    reason: str
    topics: Page[TopicAnswer]


class EmergingTopicAnswer(Answered):
    """A topic that is new. Label and questions are users' text, and untrusted."""

    topic_id: str
    label: Untrusted[str]
    since: date
    called_on: date
    count: int = Field(description="Questions of it that were bet on, each text and each session once.")
    expected: float = Field(description="How many of them the four weeks before let expect.")
    odds: float = Field(description="What a bet of 1 that it is new has become.")
    questions: Untrusted[tuple[str, ...]]


class EmergingAnswer(Answered):
    """The topics that were called in the last two weeks, the newest first."""

    environment: str
    service: str
    until: date | None = Field(description="The last day that was looked at; null before the first look.")
    problem: str = Field(description="Why nothing can be called yet.")
    topics: tuple[EmergingTopicAnswer, ...]


class PredictionAnswer(Answered):
    """What a corpus version is predicted to do for a topic. Scores are 0 to 1."""

    target: str
    live_score: float
    predicted_score: float
    lifted_share: float
    documents: Untrusted[tuple[str, ...]]


class BacklogAnswer(Answered):
    """A topic that was ever seen, with what was decided. The label is users' text, and untrusted."""

    topic_id: str
    label: Untrusted[str]
    environment: str
    service: str
    first_seen: datetime
    last_seen: datetime
    state: TopicState
    owner: Untrusted[str]
    note: Untrusted[str]
    version: int = Field(description="Send it with a change: 409 if somebody else was faster.")


class ClosingAnswer(Answered):
    """Whether a gap is closed: what its questions scored before an index went live and after it."""

    index_name: str
    shipped: date
    before_count: int
    before_score: float | None
    after_count: int
    after_score: float | None
    closed: bool | None


class BacklogDetailAnswer(BacklogAnswer):
    """A topic on the backlog, with what corpus versions would do for it and whether it is closed."""

    predictions: tuple[PredictionAnswer, ...]
    closing: ClosingAnswer | None


class DocumentAnswer(Answered):
    """A document and its questions in a window."""

    document: Untrusted[str]
    retrieved: int
    first: int
    mean_rank: float | None
    mean_score: float | None
    low_share: float | None = Field(description="The share of its questions that scored low, 0 to 1.")
    bad: int = Field(description="Questions with bad feedback.")
    last: date | None
    work: float = Field(description="Low questions and bad feedback, by which documents are ranked.")


class TopicDecisionChange(Reasoned):
    """A decision about a topic."""

    version: int = Field(ge=0)
    state: TopicState
    owner: str = Field("", max_length=200)
    note: str = Field("", max_length=2_000)


class TopicNameChange(Reasoned):
    """What a topic is called from now on."""

    version: int = Field(ge=0)
    label: str = Field(min_length=1, max_length=LONGEST_TITLE)


TopicId = Annotated[str, Path(min_length=1, max_length=64)]


@router.get("/v1/topics", responses=lead_to(get_topic={"parameters": {
    "topic_id": "$response.body#/topics/items/0/topic_id", "service": "$request.query.service",
}}))  # fmt: skip
def list_topics(
    caller: From,
    environment: Environment = None,
    service: Service = None,
    days: Days = GAP_DAYS,
    limit: Limit = 50,
    cursor: Position = None,
) -> TopicsAnswer:
    """Return the topics of the low-scoring questions of a window of at most 30 days, most worth indexing first.

    Without the scope `questions`, topics go by number and have no samples.
    """
    scope = caller.find_scope(environment, service)
    coverage, known = load_named_coverage(scope, min(days, TOPIC_DAYS), readable=caller.may_read(scope.environment))
    items, following = cut_page(coverage.topics.ranked(), cursor, limit)
    return TopicsAnswer(
        environment=scope.environment, service=scope.service, threshold=coverage.threshold,
        low_count=coverage.low_count, scored_count=coverage.scored_count, empty_count=coverage.empty_count,
        pending=len(coverage.pending), reason=coverage.topics.reason,
        topics=Page[TopicAnswer](
            items=tuple(_describe_topic(each, known.get(each.topic_id)) for each in items), next=following
        ),
    )  # fmt: skip


@router.get("/v1/emerging", name="list_emerging")
def list_emerging_topics(caller: From, environment: Environment = None, service: Service = None) -> EmergingAnswer:
    """Return the topics that are new in the last two weeks: called before the mean score moves.

    They come from the last look in the background. Without the scope `questions`, topics have no questions.
    """
    scope = caller.find_scope(environment, service)
    found = load_emerging(scope, readable=caller.may_read(scope.environment))
    return EmergingAnswer(
        environment=scope.environment, service=scope.service, until=found.until, problem=found.problem,
        topics=tuple(map(EmergingTopicAnswer.model_validate, found.topics)),
    )  # fmt: skip


@router.get("/v1/topics/{topic_id}")
def get_topic(
    caller: From,
    topic_id: TopicId,
    environment: Environment = None,
    service: Service = None,
    days: Days = GAP_DAYS,
) -> TopicAnswer:
    """Return one topic of a window by its id."""
    scope = caller.find_scope(environment, service)
    coverage, known = load_named_coverage(scope, min(days, TOPIC_DAYS), readable=caller.may_read(scope.environment))
    topic = find_topic(coverage, topic_id)
    return _describe_topic(topic, known.get(topic.topic_id))


@router.get("/v1/backlog", name="list_backlog", responses=lead_to(get_backlog_topic={"parameters": {
    "topic_id": "$response.body#/items/0/topic_id",
}}))  # fmt: skip
def list_topics_seen(
    caller: From,
    environment: Environment = None,
    service: Service = None,
    limit: Limit = 50,
    cursor: Position = None,
) -> Page[BacklogAnswer]:
    """Return every topic that was ever seen, the latest first, with what was decided about each."""
    scope = caller.find_scope(environment, service)
    known = load_backlog(scope)
    items, following = cut_page(known, cursor, limit)
    readable = caller.may_read(scope.environment)
    answers = tuple(BacklogAnswer(**_tell(each, readable=readable)) for each in items)
    return Page[BacklogAnswer](items=answers, next=following)


@router.get("/v1/backlog/{topic_id}", name="get_backlog_topic")
def get_topic_seen(caller: From, topic_id: TopicId) -> BacklogDetailAnswer:
    """Return a topic on the backlog, what corpus versions are predicted to do for it, and whether it is closed."""
    topic = _find(caller, topic_id)
    store, today = get_store(), today_of(topic.scope)
    closing = measure_closing(store, get_embedder(), topic, low=load_low(topic.scope), today=today)
    predictions = tuple(
        PredictionAnswer(
            target=target, live_score=each.live_score, predicted_score=each.predicted_score,
            lifted_share=each.lifted_share, documents=each.documents,
        )
        for target, each in list_topic_predictions(store, topic_id, topic.scope)
    )  # fmt: skip
    return BacklogDetailAnswer(
        **_tell(topic, readable=caller.may_read(topic.scope.environment)), predictions=predictions,
        closing=ClosingAnswer.model_validate(closing) if closing else None,
    )  # fmt: skip


@router.put("/v1/backlog/{topic_id}/decision", name="decide_topic")
def put_decision(topic_id: TopicId, body: TopicDecisionChange, make: Make) -> ChangeAnswer:
    """Decide about a topic: open, planned, indexed or won't do."""
    topic = _find(make.caller, topic_id)
    return make.make(
        body.reason,
        topic.scope.environment,
        lambda act: mark_topic(
            get_store(), _expect(topic, body.version), body.state, act, owner=body.owner, note=body.note
        ),
    )


@router.put("/v1/backlog/{topic_id}/label", name="rename_topic")
def put_label(topic_id: TopicId, body: TopicNameChange, make: Make) -> ChangeAnswer:
    """Say what a topic is called. The token needs the scope `questions` too."""
    topic = _find(make.caller, topic_id)
    make.caller.check_reads(topic.scope.environment)
    return make.make(
        body.reason,
        topic.scope.environment,
        lambda act: rename_topic(get_store(), _expect(topic, body.version), body.label, act),
    )


@router.get("/v1/documents", name="list_documents")
def list_found_documents(
    caller: From,
    environment: Environment = None,
    service: Service = None,
    days: Days = 30,
    limit: Limit = 50,
    cursor: Position = None,
) -> Page[DocumentAnswer]:
    """Return the documents that were found in a window, those that need the most work first."""
    scope, store = caller.find_scope(environment, service), get_store()
    today = today_of(scope)
    below = load_low(scope).below
    found = list_documents(store, scope, first=today - timedelta(days=days - 1), last=today)
    items, following = cut_page(report_documents(found, below=below).rows, cursor, limit)
    return Page[DocumentAnswer](items=tuple(map(DocumentAnswer.model_validate, items)), next=following)


def load_backlog(scope: Scope) -> tuple[BacklogTopic, ...]:
    """Return every topic of a scope that was seen with the present embedding model, the latest first."""
    return list_backlog(get_store(), get_config().embedding_model, scope)


def _find(caller: Caller, topic_id: str) -> BacklogTopic:
    """Return a topic of the backlog. One of another environment or service is not there for the caller."""
    topic = get_backlog_topic(get_store(), topic_id)
    try:
        caller.find_scope(topic.scope.environment, topic.scope.service)
    except QuarterdeckError:
        raise NotFound(f"topic: there is no topic {topic_id[:80]!r}") from None
    return topic


def _expect(topic: BacklogTopic, version: int) -> BacklogTopic:
    """Return the topic if it is the version that the caller saw. Raises Conflict."""
    if topic.version != version:
        raise Conflict(f"topic {topic.topic_id!r} is at version {topic.version}, not {version}; read it again")
    return topic


def _describe_topic(topic: Topic, known: BacklogTopic | None) -> TopicAnswer:
    told = {name: getattr(topic, name) for name in TopicAnswer.model_fields if hasattr(topic, name)}
    return TopicAnswer(**told, state=known.state if known else TopicState.OPEN, owner=known.owner if known else "")


def _tell(topic: BacklogTopic, *, readable: bool) -> dict[str, Any]:
    told = {name: getattr(topic, name) for name in BacklogAnswer.model_fields if hasattr(topic, name)}
    place = {"environment": topic.scope.environment, "service": topic.scope.service}
    return told | place | ({} if readable else {"label": ""})
