"""Answers of two prompts, by a model behind a local server that refuses, is busy and costs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.index_swap import HashEmbedder
from core.errors import SourceUnavailable
from core.indexes.backends import Passage
from core.prompts.models import AccessRefused, Protocols, open_model
from core.prompts.prices import Price
from core.prompts.prompts import Prompt
from core.prompts.spending import Budget
from core.replay.answering import AnswerComparison
from core.replay.prompting import AnsweredSide, AnswerPlan, answer_both
from core.replay.sampling import DrawnQuestion
from quarterdeck.store import Store
from tests.model_server import Fault, ModelServer, Reply, serve_models

OLD, NEW = (Prompt("qa", version, "", f"{version} {{context}} {{question}}", 1, 2, None) for version in ("1", "2"))
PRICES = {"m": Price("m", 1.0, 1.0), "extractive-offline": Price("extractive-offline", 1.0, 1.0)}
JUDGED = '{"sentences": [{"number": 1, "supported": %s}], "relevancy": 1.0}'
ASKED = {at: DrawnQuestion(f"secret question {at}", "", 1, 1.0, 1.0, 0.5) for at in range(60)}
HITS = {at: (Passage("a.md", "", f"The ring {at} holds 128 entries.", 0.9),) for at in ASKED}
SIDES = (AnsweredSide(OLD, HITS), AnsweredSide(NEW, HITS))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serve_models() as running:
        running.answer = reply
        yield running


def reply(text: str) -> Reply:
    """The old prompt is answered well, the new one is not; some questions are refused."""
    if text.startswith("You judge"):
        return Reply(JUDGED % ("false" if "2 answers" in text else "true"))
    if "question 7" in text:
        return Reply("I do not know from these documents.")
    return Reply(f"It {'2' if text.startswith('2') else '1'} answers.")


def plan(server: ModelServer, folder: Path, *, usd: float = 10.0, attempts: int = 0) -> AnswerPlan:
    budget = Budget(usd)
    model = open_model(
        Protocols.OPENAI, "m", prices=PRICES, budget=budget, base_url=server.base_url("openai"), environ={},
        sleep=lambda _s: None,
    )  # fmt: skip
    return AnswerPlan(OLD, PRICES, folder, answerer=model, judge=model, budget=budget)


def answer(store: Store, made: AnswerPlan, sides=SIDES) -> AnswerComparison:
    return answer_both(made, HashEmbedder(32, store), ASKED, sides, labels={})


@pytest.mark.deep
def test_a_prompt_that_invents_is_less_faithful_and_nothing_is_bought_twice(
    store: Store, server: ModelServer, tmp_path: Path
) -> None:
    found = answer(store, plan(server, tmp_path))
    assert (found.compared, found.faithfulness.live, found.faithfulness.candidate) == (60, 1.0, 0.0)
    assert found.faithfulness.shift.is_fall
    assert found.refused.live == pytest.approx(1 / 60)
    assert found.spent_usd == pytest.approx(0.0011 * (2 * 60 + 2 * 59))  # each call has 1,000 and 100 tokens
    assert found.live_latency_ms
    asked = len(server.requests)
    again = answer(store, plan(server, tmp_path))
    assert (len(server.requests), again.remembered, again.spent_usd) == (asked, 120, 0)
    assert again.faithfulness == found.faithfulness
    assert "secret" not in "".join(path.read_text() for path in tmp_path.glob("answers-*"))
    other = (AnsweredSide(OLD, {at: (Passage("b.md", "", "Other.", 0.9),) for at in ASKED}), SIDES[1])
    assert answer(store, plan(server, tmp_path), other).remembered == 60  # other passages are another text


@pytest.mark.deep
def test_at_the_budget_both_sides_have_the_same_questions_and_a_later_run_goes_on(
    store: Store, server: ModelServer, tmp_path: Path
) -> None:
    found = answer(store, plan(server, tmp_path, usd=0.1))
    assert 0 < found.compared < 60
    assert found.compared + found.not_run == 60
    assert "are spent, and the next call could cost" in found.stopped
    assert found.spent_usd <= 0.1
    calls = len(server.requests)
    rest = answer(store, plan(server, tmp_path))
    assert (rest.compared, rest.not_run, rest.stopped) == (60, 0, "")
    assert len(server.requests) - calls <= 240 - calls + 4  # the running calls of the first run are kept too


@pytest.mark.deep
def test_a_busy_server_is_asked_again_and_what_fails_is_left_out(
    store: Store, server: ModelServer, tmp_path: Path
) -> None:
    server.script = [Reply(status=429, headers={"retry-after": "0"}), Reply(status=400), Reply(fault=Fault.EMPTY)]
    found = answer(store, plan(server, tmp_path))
    assert (found.failed, found.compared) == (1, 59)


def test_a_refused_key_a_tiny_budget_and_a_dead_server_are_one_line(
    store: Store, server: ModelServer, tmp_path: Path
) -> None:
    server.answer = lambda _text: Reply(status=401, message="no such key")
    with pytest.raises(AccessRefused, match="refuses access"):
        answer(store, plan(server, tmp_path))
    with pytest.raises(SourceUnavailable, match="no question was answered and judged on both sides: .* could cost"):
        answer(store, plan(server, tmp_path, usd=0.0001))
    server.answer = lambda _text: Reply(status=400, message="no")
    with pytest.raises(SourceUnavailable, match="on both sides: m answered HTTP 400: no"):
        answer(store, plan(server, tmp_path))


def test_offline_answers_cost_nothing_but_their_tokens(store: Store, tmp_path: Path) -> None:
    made = AnswerPlan(OLD, PRICES, tmp_path)
    found = answer(store, made)
    assert (found.compared, found.faithfulness.candidate, found.spent_usd) == (60, 1.0, 0)
    assert found.live_latency_ms is None
    assert answer(store, made).remembered == 120
