"""Shell: judges a random sample of production answers: whether the documents support them, and whether they answer.

Works in the background under a budget a day. `core.prompts.judges` are the judges, `judged.py` keeps what they said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.coverage.answerability import ANSWERS_FROM
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder
from core.log.filters import LoggedQuestion, QuestionFilter
from core.log.questions import list_matching, list_page
from core.log.retrievals import last_days, list_days, list_scopes, today_in
from core.prompts import answers
from core.prompts.answerers import SentenceVectors
from core.prompts.answers import Answer, Judgment
from core.prompts.judges import OFFLINE_VERSION, RUBRIC_VERSION, Judge, llm_judge, offline_judge
from core.prompts.models import LanguageModel, ModelFailure
from core.prompts.spending import Budget, CeilingReached
from core.reviews.drawing import fraction_of
from core.reviews.judged import JudgedAnswer, find_known, save_judged, sum_judging
from core.reviews.passages import AnswerPassages
from core.reviews.queues import list_waiting
from core.reviews.tasks import JUDGED, ReviewTask
from core.tracking.cases import Case
from quarterdeck.clock import to_ms
from quarterdeck.scope import Scope
from quarterdeck.store import Store

WINDOW_DAYS = 7
MOST_READ = 5_000  # newest questions of a scope that are looked at
MOST_AT_ONCE = 50  # answers of a scope that are judged in one run
_NO_PASSAGE = "none of its documents is in an index of the deck's embedding model"
_REFUSED = "it refuses, and whether the corpus answers the question is not known"


_Said = tuple[str, float | None, str, str]  # the score's name and value, why there is none, what was found


@dataclass(frozen=True, slots=True)
class ProductionJudge:
    """A judge with its name and version, and what it may still spend; offline judges have no budget.

    `needs_passages` says whether it can say nothing about an answer without the passages behind it.
    """

    name: str
    judge: Judge
    budget: Budget | None = None
    needs_passages: bool = False


def make_offline_judge(embedder: Embedder) -> ProductionJudge:
    """Return the judge by wording and embeddings. Users' sentences are not cached: erasing them would miss those."""
    vectors = SentenceVectors(Embedder(embedder.model))
    return ProductionJudge(f"offline v{OFFLINE_VERSION}", offline_judge(vectors))


def make_model_judge(model: LanguageModel, budget: Budget) -> ProductionJudge:
    """Return the judge that asks a language model, under the budget that the model was opened with."""
    return ProductionJudge(f"{model.name} rubric v{RUBRIC_VERSION}", llm_judge(model), budget, needs_passages=True)


def judge_all_answers(store: Store, embedder: Embedder, judge: ProductionJudge, *, now: datetime, per_day: int) -> int:
    """Judge answers of every scope, at most `per_day` of each a UTC day; return how many were judged now."""
    scopes = list_scopes(store) if per_day else ()
    return sum(judge_answers(store, embedder, judge, scope=scope, now=now, per_day=per_day) for scope in scopes)


def judge_answers(
    store: Store, embedder: Embedder, judge: ProductionJudge, *, scope: Scope, now: datetime, per_day: int
) -> int:
    """Judge a part of the sample of a scope's answers that is not judged yet; return how many answers.

    The sample holds every answer of the last seven days with the same chance, by a hash of its id; the chance is such
    that a day has about `per_day` of them. Answers in open review queues come first. Each gets scores named
    faithfulness and relevancy of the source `judge`; a service that reports its own faithfulness keeps it. Without the
    passages of its documents an answer has no faithfulness, and a refusal is judged only where answerability is known.
    Ends early at the budget. Raises SourceUnavailable.
    """
    left = min(MOST_AT_ONCE, per_day - sum_judging(store, since_ms=start_of_day(now), scope=scope).answers)
    chosen = _choose(store, scope, now=now, per_day=per_day, most=left) if left > 0 else []
    passages = AnswerPassages(store, embedder) if chosen else None
    found = list[JudgedAnswer]()
    for question, is_drawn in chosen:
        try:
            judged = _judge(question, judge, passages.find(question) if passages else (), is_drawn=is_drawn)
        except CeilingReached:
            break
        save_judged(store, scope, judged, at_ms=to_ms(now))  # one by one: what was paid for is kept
        found += judged
    return len({each.retrieval_id for each in found})


def start_of_day(now: datetime) -> int:
    """Return the first millisecond of a UTC day: budgets are those of UTC days."""
    return to_ms(now.replace(hour=0, minute=0, second=0, microsecond=0))


def _choose(store: Store, scope: Scope, *, now: datetime, per_day: int, most: int) -> list[tuple[LoggedQuestion, bool]]:
    """Return the answers that are judged next, each with whether it belongs to the sample."""
    wanted = QuestionFilter(scope=scope, start_ms=to_ms(now - timedelta(days=WINDOW_DAYS)), end_ms=to_ms(now) + 1)
    newest = list(list_matching(store, wanted, limit=MOST_READ))
    answered = [each for each in newest if each.answer and each.query]
    window = last_days(WINDOW_DAYS, until=today_in(store, scope, now=now))
    asked = sum(day.questions for day in list_days(store, window=window, scope=scope)) / WINDOW_DAYS
    rate = per_day / max(asked * len(answered) / max(len(newest), 1), 1.0)
    drawn = {each.retrieval_id: each for each in answered if fraction_of(each.retrieval_id, seed=0) < rate}
    known = find_known(store, scope.environment, drawn)
    new = [each for name, each in drawn.items() if name not in known]
    chosen = {each.retrieval_id: each for each in (*_load_waiting(store, scope), *new)}
    return [(each, name in drawn) for name, each in chosen.items()][:most]


def _load_waiting(store: Store, scope: Scope) -> list[LoggedQuestion]:
    """Return the answers in open review queues about what judges score too, those not judged yet."""
    waiting = list_waiting(store, scope, JUDGED)
    known = find_known(store, scope.environment, [item.retrieval_id for item in waiting])
    found = list[LoggedQuestion]()
    for item in [each for each in waiting if each.retrieval_id not in known][:MOST_AT_ONCE]:
        page = list_page(store, QuestionFilter(scope=scope, retrieval_id=item.retrieval_id), limit=1)
        found += [each for each in page.questions if each.answer and each.query]
    return found


def _judge(
    question: LoggedQuestion, judge: ProductionJudge, passages: Sequence[Chunk], *, is_drawn: bool
) -> list[JudgedAnswer]:
    """Return what the judge says of an answer. Raises CeilingReached."""
    before = 0.0 if judge.budget is None else judge.budget.spent_usd
    try:
        said = list(_ask(question, judge, passages))
    except ModelFailure as failure:
        said = [(str(task), None, str(failure), "") for task in JUDGED]
    cost = 0.0 if judge.budget is None else judge.budget.spent_usd - before
    return [
        JudgedAnswer(
            question.retrieval_id, name, to_ms(question.ts), judge.name, value, problem[:500],
            0.0 if place else cost, is_drawn, found,
        )
        for place, (name, value, problem, found) in enumerate(said)
    ]  # fmt: skip


def _ask(question: LoggedQuestion, judge: ProductionJudge, passages: Sequence[Chunk]) -> Iterator[_Said]:
    is_refusal = answers.is_refusal(question.answer or "")
    problem = _find_problem(question, judge, passages, is_refusal=is_refusal)
    if problem:
        yield from ((str(task), None, problem, "") for task in JUDGED)
        return
    found = judge.judge(_make_case(question), _make_answer(question, passages, is_refusal=is_refusal))
    if question.faithfulness is None or _was_scored(question):
        is_known = is_refusal or bool(passages)
        value, problem = (found.faithfulness, "") if is_known else (None, _NO_PASSAGE)
        yield str(ReviewTask.FAITHFULNESS), value, problem, _describe(found, is_refusal=is_refusal)
    yield str(ReviewTask.RELEVANCY), found.relevancy, "", "a refusal" if is_refusal else "answer against question"


def _find_problem(
    question: LoggedQuestion, judge: ProductionJudge, passages: Sequence[Chunk], *, is_refusal: bool
) -> str:
    """Return why nothing can be said of an answer; "" where something can."""
    if is_refusal:
        return _REFUSED if question.answerability is None else ""
    return _NO_PASSAGE if judge.needs_passages and not passages else ""


def _was_scored(question: LoggedQuestion) -> bool:
    """Whether the number on the row is a later score, which takes its place there."""
    return any(score.name == ReviewTask.FAITHFULNESS for score in question.scores)


def _describe(found: Judgment, *, is_refusal: bool) -> str:
    if is_refusal:
        return "a refusal"
    return f"{sum(found.supported)} of {len(found.supported)} sentences are supported"


def _make_case(question: LoggedQuestion) -> Case:
    is_answerable = question.answerability is not None and question.answerability >= ANSWERS_FROM
    return Case(question.retrieval_id, question.query, (), "", answerable=is_answerable)


def _make_answer(question: LoggedQuestion, passages: Sequence[Chunk], *, is_refusal: bool) -> Answer:
    said = (question.answer or "").strip()
    sentences = () if is_refusal else answers.split_sentences(said) or (" ".join(said.split()),)
    context = dict.fromkeys(sentence for chunk in passages for sentence in answers.split_sentences(chunk.text))
    return Answer(
        sentences, is_refusal, tuple(hit.id for hit in question.documents), tuple(context), 0, 0, 0.0, said=said,
        passages=tuple(chunk.text for chunk in passages),
    )  # fmt: skip
