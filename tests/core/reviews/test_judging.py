"""The background judge: a sample of answers under a budget, its scores, and reviewers' labels that correct its mean."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.config import load_config
from core.drift.present import LowScores
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput
from core.indexes.backends import open_indexes
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index
from core.log.filters import QuestionFilter
from core.log.metrics import list_metric_days, list_metric_segments
from core.log.questions import list_matching
from core.log.retrievals import Window, list_user_sums
from core.log.scores import apply_scores
from core.prompts.answers import Answer, Judgment
from core.prompts.models import Completion, LanguageModel
from core.prompts.prices import Price
from core.prompts.spending import Budget
from core.reviews.corrected import MeanStatus
from core.reviews.daily import judge_production
from core.reviews.judged import JUDGE, list_judged, sum_judging
from core.reviews.judging import (
    MOST_AT_ONCE,
    ProductionJudge,
    judge_answers,
    make_model_judge,
    make_offline_judge,
    start_of_day,
)
from core.reviews.operations import QueueDraft, create_queue, label_question
from core.reviews.queues import list_queues
from core.reviews.report import report_judged
from core.reviews.sampling import ReviewSample, draw_items
from core.reviews.tasks import ReviewRule, ReviewTask
from core.tracking.cases import Case
from quarterdeck.clock import now_ms, to_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store

NOW = datetime(2026, 3, 2, 18, tzinfo=UTC)
ANSWERS = Scope("production", "answers")
ADA = Act("ada", "why")
WINDOW = Window((NOW - timedelta(days=6)).date(), NOW.date())


def judge_by_length(case: Case, answer: Answer) -> Judgment:
    """A judge whose verdict a test can foresee: by the last digit of the question."""
    value = int(case.question[-1]) / 10
    return Judgment(value, value, (True,) * len(answer.sentences), refusal_correct=True)


PLAIN = ProductionJudge("by digit v1", judge_by_length)


def write(store: Store, count: int, *, answer: str = "It is so.", arm: str | None = None) -> None:
    rows = [
        Retrieval(
            NOW - timedelta(minutes=5 * n), f"question {n}", 0.5, retrieval_id=f"q-{n}", scope=ANSWERS, answer=answer,
            documents=[("a.md", 0.5)], arm=arm, session_id=f"s-{n}",
        )
        for n in range(count)
    ]  # fmt: skip
    append_retrievals(store, rows)


def build(store: Store, folder: Path, texts: dict[str, str]) -> Embedder:
    """Build an index of one passage a document, and let it go live."""
    embedder, before = Embedder(cache=VectorCache(store)), Act("ada", "why", at=NOW - timedelta(days=9))
    chunks = [Chunk(document, "", text) for document, text in texts.items()]
    open_indexes(str(folder)).build("v1", chunks, embedder.embed([chunk.text for chunk in chunks]))
    register_index(store, Index("v1", str(folder), "v1", embedder.model, len(chunks), NOW, "ada"), before)
    swap_index(store, "default", "v1", before, expected=None)
    return embedder


def run(store: Store, judge: ProductionJudge = PLAIN, *, per_day: int = 1_000) -> int:
    return judge_answers(store, Embedder(cache=VectorCache(store)), judge, scope=ANSWERS, now=NOW, per_day=per_day)


def judged(store: Store, name: str = "relevancy") -> dict[str, float | None]:
    found = list_judged(store, ANSWERS, name, start_ms=0, end_ms=to_ms(NOW) + 1)
    return {each.retrieval_id: each.value for each in found}


def test_answers_are_judged_in_parts_each_once_and_get_scores(store: Store) -> None:
    write(store, 70)
    assert [run(store), run(store), run(store)] == [MOST_AT_ONCE, 20, 0]
    assert judged(store)["q-17"] == 0.7
    assert judged(store, "faithfulness")["q-17"] is None  # none of its documents is in an index
    question = next(
        each for each in list_matching(store, QuestionFilter(scope=ANSWERS), limit=99) if each.query[-2:] == "17"
    )
    assert [tuple(score) for score in question.scores] == [
        ("relevancy", 0.7, JUDGE, "by digit v1: answer against question")
    ]
    assert sum_judging(store, since_ms=start_of_day(NOW), scope=ANSWERS).answers == 70


def test_a_day_has_a_budget_of_answers_and_the_sample_is_the_same_for_everybody(store: Store) -> None:
    write(store, 280)
    assert [run(store, per_day=10), run(store, per_day=10)] == [10, 0]
    first = set(judged(store))
    assert len(first) == 10
    tomorrow = NOW + timedelta(days=1)
    again = judge_answers(store, Embedder(cache=VectorCache(store)), PLAIN, scope=ANSWERS, now=tomorrow, per_day=10)
    assert again == 10
    drawn = [each for each in list_judged(store, ANSWERS, "relevancy", start_ms=0, end_ms=to_ms(NOW) + 1) if each.drawn]
    assert 50 < 280 * (10 / 40) <= 120  # the chance of each is a quarter: 10 of about 40 a day
    assert len(drawn) == 20


def test_answers_without_text_and_those_that_refuse_are_left_alone(store: Store) -> None:
    write(store, 3, answer="I do not know from these documents.")
    append_retrievals(store, [Retrieval(NOW, "no answer 1", 0.5, retrieval_id="n", scope=ANSWERS)])
    assert run(store) == 3
    assert judged(store) == {"q-0": None, "q-1": None, "q-2": None}
    (quality, _) = report_judged(store, ANSWERS, WINDOW)
    assert quality.mean.status is MeanStatus.NOTHING_JUDGED
    assert quality.problems == (("it refuses, and whether the corpus answers the question is not known", 3),)


def test_a_service_keeps_its_own_faithfulness(store: Store) -> None:
    row = Retrieval(NOW, "question 1", 0.5, retrieval_id="own", scope=ANSWERS, answer="Yes, it is.", faithfulness=0.25)
    append_retrievals(store, [row])
    run(store)
    assert (judged(store, "faithfulness"), judged(store)) == ({}, {"own": 0.1})
    apply_scores(store, now_ms=now_ms())
    assert next(list_matching(store, QuestionFilter(scope=ANSWERS), limit=1)).faithfulness == 0.25


class Talker:
    """A provider that supports every sentence; each reply costs a fixed number of tokens."""

    name = "talker"

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, text: str, *, max_tokens: int) -> Completion:
        self.asked += 1
        count = text.split("<answer>")[1].split("</answer>")[0].strip().count("\n") + 1
        rows = ", ".join(f'{{"number": {n}, "supported": true}}' for n in range(1, count + 1))
        return Completion(f'{{"sentences": [{rows}], "relevancy": 0.5}}', 1_000, 100, 1.0)


@pytest.mark.deep
def test_a_model_ends_at_the_money_of_the_day_and_says_its_version(store: Store, tmp_path: Path) -> None:
    write(store, 20)
    build(store, tmp_path, {"a.md": "It is so."})
    talker, budget = Talker(), Budget(0.03)
    judge = make_model_judge(LanguageModel(talker, Price("talker", 1.0, 10.0), budget=budget), budget)
    done = run(store, judge)
    assert 0 < done < 20
    assert talker.asked == done
    spent = sum_judging(store, since_ms=start_of_day(NOW)).spent_usd
    assert spent == pytest.approx(done * 0.002)
    assert spent <= 0.03
    found = list_judged(store, ANSWERS, "faithfulness", start_ms=0, end_ms=to_ms(NOW) + 1)
    assert {(each.judge, each.value) for each in found} == {("talker rubric v1", 1.0)}


@pytest.mark.slow
def test_the_offline_judge_reaches_pages_segments_and_canaries(store: Store, tmp_path: Path) -> None:
    embedder = build(
        store, tmp_path, {"a.md": "The mempool cache holds 512 objects per core.", "b.md": "Rings have no locks."}
    )
    said = {"q-1": "The mempool cache holds 512 objects per core.", "q-2": "The mempool cache holds 4096 objects."}
    rows = [
        Retrieval(NOW, "how large is the mempool cache", 0.5, retrieval_id=name, scope=ANSWERS, answer=answer,
                  documents=[("a.md", 0.5)], arm="green", session_id=name)
        for name, answer in said.items()
    ]  # fmt: skip
    append_retrievals(store, rows)
    judge = make_offline_judge(embedder)
    assert judge_answers(store, embedder, judge, scope=ANSWERS, now=NOW, per_day=100) == 2
    assert judged(store, "faithfulness") == {"q-1": 1.0, "q-2": 0.0}
    assert all(0.3 < (value or 0) <= 1 for value in judged(store).values())
    assert apply_scores(store, now_ms=now_ms()).applied == 4
    days = list_metric_days(store, ANSWERS, ("faithfulness", "relevancy"), WINDOW)
    assert (days["faithfulness"][NOW.date()].count, days["faithfulness"][NOW.date()].mean) == (2, 0.5)
    assert days["relevancy"][NOW.date()].count == 2
    segments = list_metric_segments(store, ANSWERS, ("faithfulness",), WINDOW, "arm")
    assert segments["green"]["faithfulness"].mean == 0.5
    users = list_user_sums(
        store, "arm", ["green"], start_ms=0, end_ms=to_ms(NOW) + 1, scope=ANSWERS
    )  # what canaries and experiments read
    assert sum(user.judged for user in users) == 2
    assert sum(user.faithfulness for user in users) == 1.0


@pytest.mark.deep
def test_labels_of_a_random_queue_correct_the_mean_and_those_of_others_do_not(store: Store) -> None:
    write(store, 300)
    for _ in range(6):
        run(store)
    assert len(judged(store)) == 300
    sample = ReviewSample(ReviewTask.RELEVANCY, ReviewRule.RANDOM, 40, seed=1)
    for rule in (ReviewRule.LOW, ReviewRule.RANDOM):
        items = draw_items(store, ANSWERS, WINDOW, sample, low=LowScores(0.6))
        create_queue(store, QueueDraft(ANSWERS, str(rule), ReviewTask.RELEVANCY, rule, ("ada",)), items, ADA)
        queue = next(each for each in list_queues(store, ANSWERS) if each.rule is rule)
        for item in items:
            digit = int(item.retrieval_id[-1])
            label_question(store, queue, item.retrieval_id, 1.0 if digit >= 7 else 0.5 if digit >= 4 else 0.0, ADA)
        (_, quality) = report_judged(store, ANSWERS, WINDOW)
        assert quality.mean.labels == (0 if rule is ReviewRule.LOW else 40)
    assert (quality.judge, quality.mean.status, quality.mean.judged) == ("by digit v1", MeanStatus.OK, 300)
    assert quality.mean.judge_mean == pytest.approx(0.45)
    assert quality.mean.low is not None
    assert quality.mean.high is not None
    assert quality.mean.low < 0.45 < quality.mean.high  # the labels' own mean over all digits
    assert (quality.mean.standard_error or 1) < 0.7 * (quality.mean.label_error or 0)


def test_answers_in_a_review_queue_are_judged_first_but_are_no_part_of_the_sample(store: Store) -> None:
    write(store, 280)
    names = [f"q-{n}" for n in range(200, 205)]
    items = [item for item in draw_items(
        store, ANSWERS, WINDOW, ReviewSample(ReviewTask.RELEVANCY, ReviewRule.RANDOM, 280), low=LowScores(0.5)
    ) if item.retrieval_id in names]  # fmt: skip
    create_queue(store, QueueDraft(ANSWERS, "x", ReviewTask.RELEVANCY, ReviewRule.SELECTION, ("ada",)), items, ADA)
    assert run(store, per_day=5) == 5
    found = list_judged(store, ANSWERS, "relevancy", start_ms=0, end_ms=to_ms(NOW) + 1)
    assert {each.retrieval_id for each in found} == set(names)
    assert not all(each.drawn for each in found)


@pytest.mark.sqlite_only(reason="a setting")
def test_settings_say_whether_and_by_whom_answers_are_judged(store: Store, tmp_path: Path) -> None:
    given = {"QUARTERDECK_HOME": str(tmp_path)}
    config = load_config(given)
    assert (config.judge_answers, config.judge_model, config.judge_usd) == (200, "", 1.0)
    off = load_config({**given, "QUARTERDECK_JUDGE_ANSWERS": "off"})
    write(store, 3)
    assert judge_production(off, store, now=NOW) == 0
    for name, value in (("ANSWERS", "-1"), ("MODEL", "gpt"), ("USD", "0")):
        with pytest.raises(InvalidInput, match=f"QUARTERDECK_JUDGE_{name}"):
            load_config({**given, f"QUARTERDECK_JUDGE_{name}": value})
    unpriced = load_config({**given, "QUARTERDECK_JUDGE_MODEL": "openai:nobody-knows"})
    with pytest.raises(InvalidInput, match="price table"):
        judge_production(unpriced, store, now=NOW)
