"""Shell: finds the questions of a review queue by a rule: random, low scores, each topic, judge and user disagree."""

from dataclasses import dataclass, replace

from core.coverage.report import Coverage
from core.drift.present import LowScores
from core.errors import InvalidInput
from core.log.filters import LoggedQuestion, QuestionFilter
from core.log.questions import list_matching
from core.log.retrievals import Window, find_bounds
from core.log.values import normalize_query
from core.reviews.drawing import draw, draw_evenly
from core.reviews.judged import list_judged
from core.reviews.queues import ReviewItem
from core.reviews.tasks import ReviewRule, ReviewTask
from quarterdeck.clock import to_ms
from quarterdeck.scope import Scope
from quarterdeck.store import Store

MOST_READ = 20_000  # newest questions of a window from which a rule draws
_CONTENT, _DOUBTFUL = 0.75, 0.5  # a judge's score from which on, or below which, a user's feedback contradicts it


@dataclass(frozen=True, slots=True)
class ReviewSample:
    """Which questions are drawn: a rule, how many, and the seed that makes it repeatable."""

    task: ReviewTask
    rule: ReviewRule
    size: int
    seed: int = 0


def draw_items(
    store: Store, scope: Scope, window: Window, wanted: ReviewSample, *, low: LowScores,
    coverage: Coverage | None = None,
) -> tuple[ReviewItem, ...]:  # fmt: skip
    """Return the questions that a rule draws from the newest 20,000 of a window; fewer where there are not so many.

    A random sample for what judges score too is drawn from the judged answers, if there are enough: these labels then
    correct the judge's mean. Questions without an answer are left out of tasks about answers, unless no answer is
    stored at all. Raises InvalidInput for a size outside 1 to 1,000 and for topics without a coverage report.
    """
    start_ms, end_ms = find_bounds(store, scope, window)
    if wanted.rule is ReviewRule.RANDOM:
        judged = list_judged(store, scope, str(wanted.task), start_ms=start_ms, end_ms=end_ms)
        asked = {each.retrieval_id: each.asked_ms for each in judged if each.value is not None and each.drawn}
        if len(asked) >= wanted.size:
            return _to_items(draw(asked, wanted.size, seed=wanted.seed), asked)
    filters = QuestionFilter(scope=scope, start_ms=start_ms, end_ms=end_ms)
    if wanted.rule in (ReviewRule.LOW, ReviewRule.TOPIC):
        filters = replace(filters, below=low.below, bounds=low.bounds)
    found = _prefer_answered([each for each in list_matching(store, filters, limit=MOST_READ) if each.query])
    asked = {each.retrieval_id: to_ms(each.ts) for each in found}
    if wanted.rule is ReviewRule.TOPIC:
        if coverage is None:
            raise InvalidInput("rule", "topics are not known yet: open the coverage page first")
        names = draw_evenly(_group(found, coverage), wanted.size, seed=wanted.seed)
    elif wanted.rule is ReviewRule.DISAGREEMENT:
        names = draw([each.retrieval_id for each in found if is_contradicted(each)], wanted.size, seed=wanted.seed)
    else:
        names = draw(asked, wanted.size, seed=wanted.seed)
    return _to_items(names, asked)


def is_contradicted(question: LoggedQuestion) -> bool:
    """Whether a user's feedback contradicts the judge: bad for an answer scored 0.75 or more, good for one below 0.5.

    The judge's scores are those named faithfulness and relevancy; the lower one counts.
    """
    judged = [score.value for score in question.scores if score.source == "judge"]
    rated = [score.value for score in question.scores if score.name == "feedback" and score.source != "reviewer"]
    feedback = rated[-1] if rated else question.feedback
    if not judged or not feedback:
        return False
    return min(judged) >= _CONTENT if feedback < 0 else min(judged) < _DOUBTFUL


def _prefer_answered(found: list[LoggedQuestion]) -> list[LoggedQuestion]:
    answered = [each for each in found if each.answer]
    return answered or found


def _group(found: list[LoggedQuestion], coverage: Coverage) -> dict[str, list[str]]:
    topic_of = {
        normalize_query(coverage.queries[member].text): topic.topic_id
        for topic in coverage.topics.topics
        for member in topic.members
    }
    groups: dict[str, list[str]] = {topic.topic_id: [] for topic in coverage.topics.topics}
    for question in found:
        if topic_id := topic_of.get(normalize_query(question.query)):
            groups[topic_id].append(question.retrieval_id)
    return groups


def _to_items(names: tuple[str, ...], asked: dict[str, int]) -> tuple[ReviewItem, ...]:
    return tuple(ReviewItem(name, asked[name]) for name in names)
