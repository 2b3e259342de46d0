"""Models behind an API: each server error is retried or reported for its case, and no run is lost."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidInput, SourceUnavailable
from core.prompts.answerers import model_pipeline
from core.prompts.answers import is_refusal
from core.prompts.evaluate import EvaluationResult, evaluate_prompt_variant
from core.prompts.journal import Journal
from core.prompts.judges import llm_judge, parse_verdict
from core.prompts.models import AccessRefused, LanguageModel, ModelFailure, Protocols, open_model
from core.prompts.prices import Price
from core.prompts.prompts import Prompt
from core.prompts.spending import Budget, CeilingReached
from core.tracking.cases import Case
from tests.model_server import Fault, ModelServer, Reply, serve_models

KEY = "sk-secret-0123456789abcdef"
PRICES = {"m": Price("m", 1.0, 10.0), "j": Price("j", 2.0, 20.0)}
PROMPT = Prompt("qa", "4", "", "Answer from the context only.\n{context}\n{question}\n", 1, 2, None)
CASES = tuple(Case(f"c{i}", f"Question {i}: how large is the headroom?", ("a.md",), "128", True) for i in range(4))


@dataclass(frozen=True)
class Passage:
    document: str = "a.md"
    text: str = "The headroom is 128 bytes. It may be changed."
    score: float = 0.9


@pytest.fixture(params=["openai", "anthropic"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serve_models() as serving:
        yield serving


@dataclass
class Asked:
    """A model with what it waited for, and what it spent."""

    model: LanguageModel
    waits: list[float]
    budget: Budget


def connect(
    server: ModelServer, protocol: str, *, name: str = "m", ceiling: float | None = None, timeout: float = 10.0
) -> Asked:
    waits: list[float] = []
    budget = Budget(ceiling)
    model = open_model(
        Protocols(protocol),
        name,
        prices=PRICES,
        budget=budget,
        base_url=server.base_url(protocol),
        environ={"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY},
        timeout_seconds=timeout,
        sleep=waits.append,
    )
    return Asked(model, waits, budget)


def judge_everything(_case: Case, answer: Any) -> Any:
    from core.prompts.answers import judge_answer

    return judge_answer(
        refused=answer.refused, answerable=True, supported=[True] * len(answer.sentences), question_similarity=1.0
    )


def evaluate(model: LanguageModel, *, judge: Any = judge_everything, **options: Any) -> EvaluationResult:
    pipeline = model_pipeline(PROMPT, search=lambda _question, _top_k: [Passage()], model=model)
    return evaluate_prompt_variant("qa", "4", CASES, pipeline, judge, **options)


@pytest.mark.deep
def test_the_answer_comes_with_the_tokens_that_the_provider_counted(server: ModelServer, protocol: str) -> None:
    asked = connect(server, protocol)
    done = asked.model.complete("How large?")
    assert (done.text, done.input_tokens, done.output_tokens) == ("It is 128 bytes.", 1_000, 100)
    assert asked.budget.spent_usd == pytest.approx(0.002)
    assert server.requests[0]["model"] == "m"
    assert server.requests[0]["messages"] == [{"role": "user", "content": "How large?"}]


@pytest.mark.deep
@pytest.mark.parametrize(
    ("reply", "waits"),
    [
        (Reply(status=429, headers={"Retry-After": "7"}), [7.0]),
        (Reply(status=429), [0.5]),
        (Reply(status=500), [0.5]),
        (Reply(status=529, headers={"Retry-After": "0"}), [0.0]),
        (Reply(fault=Fault.MALFORMED), [0.5]),
        (Reply(fault=Fault.CUT), [0.5]),
        (Reply(fault=Fault.ENDS_EARLY), [0.5]),
        (Reply(fault=Fault.ERROR_EVENT), [0.5]),
        (Reply(fault=Fault.EMPTY), [0.5]),
    ],
)
def test_a_passing_fault_is_tried_again(server: ModelServer, protocol: str, reply: Reply, waits: list[float]) -> None:
    server.script = [reply]
    asked = connect(server, protocol)
    assert asked.model.complete("How large?").text == "It is 128 bytes."
    assert asked.waits == waits
    assert len(server.requests) == 2


@pytest.mark.deep
def test_a_server_that_hangs_is_left_and_asked_again(server: ModelServer, protocol: str) -> None:
    server.script = [Reply(fault=Fault.HANG)]
    asked = connect(server, protocol, timeout=1.0)
    assert asked.model.complete("How large?").text == "It is 128 bytes."
    assert server.script == []
    assert len(asked.waits) == len(server.requests) - 1 >= 1, "a busy machine may let a sound answer time out as well"


@pytest.mark.deep
@pytest.mark.parametrize(
    ("reply", "attempts", "said"),
    [
        (Reply(status=503), 4, "m answered HTTP 503: try later (4 attempts)"),
        (Reply(fault=Fault.CUT), 4, "(4 attempts)"),
        (Reply(fault=Fault.MALFORMED), 4, "not of its protocol (4 attempts)"),
        (Reply(fault=Fault.EMPTY), 4, "m gave an empty answer (4 attempts)"),
        (Reply(status=400, message="too long"), 1, "m answered HTTP 400: too long"),
        (Reply(status=404, message="no such model"), 1, "m answered HTTP 404: no such model"),
        (Reply(status=429, headers={"Retry-After": "300"}), 1, "and asks to wait 300 s"),
        (Reply(fault=Fault.NO_USAGE), 1, "no token usage"),
        (Reply(fault=Fault.FILTERED), 1, "content filter"),
    ],
)
def test_a_lasting_fault_is_one_line_after_bounded_attempts(
    server: ModelServer, protocol: str, reply: Reply, attempts: int, said: str
) -> None:
    server.script = [reply] * attempts
    asked = connect(server, protocol)
    with pytest.raises(ModelFailure) as caught:
        asked.model.complete("How large?")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (len(server.requests), server.script) == (attempts, [])


def test_a_server_that_is_not_there_is_told_after_four_attempts(protocol: str) -> None:
    with serve_models() as gone:
        pass
    asked = connect(gone, protocol)
    with pytest.raises(ModelFailure, match=r"could not be reached.*\(4 attempts\)"):
        asked.model.complete("How large?")
    assert asked.waits == [0.5, 1.0, 2.0]


def test_a_failed_case_is_reported_with_its_error_and_the_others_are_judged(server: ModelServer, protocol: str) -> None:
    server.answer = lambda text: Reply(status=400, message="bad one") if "Question 2" in text else Reply()
    result = evaluate(connect(server, protocol).model)
    assert [case.case_id for case in result.failed] == ["c2"]
    assert result.failed[0].error == "m answered HTTP 400: bad one"
    assert not result.is_complete
    assert result.metrics["faithfulness_mean"] == 1.0
    assert result.metrics["cost_usd_mean"] == pytest.approx(0.002)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_ends_the_run_without_showing_the_key(
    server: ModelServer, protocol: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [Reply(status=status, message=f"Incorrect API key provided: {KEY}. Also sk-other-12345678")]
    with caplog.at_level(logging.DEBUG), pytest.raises(AccessRefused, match=f"HTTP {status}") as caught:
        evaluate(connect(server, protocol).model)
    assert KEY not in str(caught.value)
    assert "sk-other" not in str(caught.value)
    assert KEY not in caplog.text


def test_a_model_without_a_price_is_refused_before_anything_is_asked(server: ModelServer, protocol: str) -> None:
    with pytest.raises(InvalidInput, match="'dear' is not in the price table"):
        connect(server, protocol, name="dear")
    assert server.requests == []


def test_a_missing_key_is_told_by_its_variable(protocol: str) -> None:
    with pytest.raises(InvalidInput, match=f"{protocol.upper()}_API_KEY: is not set"):
        open_model(Protocols(protocol), "m", prices=PRICES, budget=Budget(), environ={})


def test_a_missing_library_is_told_with_the_command_that_brings_it(
    server: ModelServer, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, protocol, None)
    with pytest.raises(SourceUnavailable, match=rf"pip install 'quarterdeck\[{protocol}\]'"):
        connect(server, protocol)


def test_the_spending_ceiling_stops_before_it_is_passed_and_names_what_was_not_run(
    server: ModelServer, protocol: str
) -> None:
    dearest = 0.0102 + 0.0002  # 1,024 tokens of output at 10 USD a million, and the question
    asked = connect(server, protocol, ceiling=dearest + 2 * 0.002)
    result = evaluate(asked.model)
    assert asked.budget.spent_usd <= dearest + 2 * 0.002
    assert [case.case_id for case in result.cases] == ["c0", "c1", "c2"]
    assert result.not_run == ("c3",)
    assert "could cost" in result.stopped
    assert len(server.requests) == 3


def test_a_stopped_run_goes_on_where_it_was(server: ModelServer, protocol: str, tmp_path: Path) -> None:
    server.script = [Reply(), Reply(), Reply(status=401)]
    with pytest.raises(AccessRefused):
        evaluate(connect(server, protocol).model, journal=Journal(tmp_path / "j.jsonl"))
    with (tmp_path / "j.jsonl").open("a") as file:
        file.write('\n{"case": "c2", "ans')  # a killed process may leave this
    seen: list[tuple[int, int]] = []
    result = evaluate(
        connect(server, protocol).model,
        journal=Journal(tmp_path / "j.jsonl"),
        on_progress=lambda *step: seen.append(step),
    )
    assert result.is_complete
    assert [case.case_id for case in result.cases] == ["c0", "c1", "c2", "c3"]
    assert seen == [(2, 4), (3, 4), (4, 4)]
    assert len(server.requests) == 5


def test_an_answer_that_was_paid_for_is_not_asked_again_when_judging_failed(
    server: ModelServer, protocol: str, tmp_path: Path
) -> None:
    def broken(_case: Case, _answer: Any) -> Any:
        raise ModelFailure("the judge is ill")

    first = evaluate(connect(server, protocol).model, judge=broken, journal=Journal(tmp_path / "j.jsonl"))
    assert {case.error for case in first.failed} == {"the judge is ill"}
    assert first.metrics == {}
    second = evaluate(connect(server, protocol).model, journal=Journal(tmp_path / "j.jsonl"))
    assert second.is_complete
    assert len(server.requests) == 4


def test_cases_are_asked_at_the_same_time(server: ModelServer, protocol: str) -> None:
    together = threading.Barrier(4, timeout=30)

    def wait_for_the_others(_text: str) -> Reply:
        together.wait()
        return Reply()

    server.answer = wait_for_the_others
    result = evaluate(connect(server, protocol).model, concurrency=4)
    assert [case.case_id for case in result.cases] == ["c0", "c1", "c2", "c3"]
    assert result.is_complete


VERDICT = json.dumps({"sentences": [{"number": 1, "supported": False}], "relevancy": 0.5})


def test_the_judge_is_asked_sentence_by_sentence(server: ModelServer, protocol: str) -> None:
    server.answer = lambda text: Reply(f"```json\n{VERDICT}\n```" if "You judge" in text else "It is 256 bytes.")
    model = connect(server, protocol).model
    result = evaluate(model, judge=llm_judge(model))
    assert {(case.supported, case.faithfulness, case.relevancy) for case in result.cases} == {((False,), 0.0, 0.5)}
    asked = [request["messages"][0]["content"] for request in server.requests if "You judge" in str(request)]
    assert "1. It is 256 bytes." in asked[0]
    assert Passage().text in asked[0]
    assert result.metrics["cost_usd_mean"] == pytest.approx(0.002)  # the judge is no part of what a query costs


def test_a_verdict_that_cannot_be_read_is_asked_for_once_more(server: ModelServer, protocol: str) -> None:
    server.script = [Reply("It is 128 bytes."), Reply("Well, I think so."), Reply(VERDICT)]
    server.answer = lambda text: Reply(VERDICT if "You judge" in text else "It is 128 bytes.")
    model = connect(server, protocol).model
    assert evaluate(model, judge=llm_judge(model)).is_complete
    assert "there is no JSON object" in server.requests[2]["messages"][0]["content"]
    server.answer = lambda text: Reply("{}" if "You judge" in text else "It is 128 bytes.")
    failed = evaluate(model, judge=llm_judge(model)).failed
    assert len(failed) == 4
    assert "twice sent an unreadable verdict: `relevancy` is not a number" in failed[0].error


def test_a_refusal_is_judged_without_asking(server: ModelServer, protocol: str) -> None:
    server.answer = lambda _text: Reply("I do not know: the documentation does not cover this.")
    model = connect(server, protocol).model
    result = evaluate(model, judge=llm_judge(model))
    assert [case.refused for case in result.cases] == [True] * 4
    assert result.metrics["refusal_accuracy"] == 0.0
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "{",
        '{"relevancy": true, "sentences": []}',
        '{"relevancy": 2, "sentences": []}',
        '{"relevancy": 1}',
        '{"relevancy": 1, "sentences": [{"number": 1, "supported": "yes"}]}',
        '{"relevancy": 1, "sentences": [{"number": 2, "supported": true}]}',
        '{"relevancy": 1, "sentences": [{"number": 1, "supported": true}, {"number": 1, "supported": true}]}',
    ],
)
def test_a_wrong_verdict_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_verdict(text, 1)


def test_money_held_by_others_is_waited_for_and_not_taken_for_spent() -> None:
    budget = Budget(1.0)
    started, spent = threading.Event(), []

    def second() -> None:
        started.set()
        with budget.expense(at_most_usd=0.8) as expense:
            expense.spent_usd = 0.1
        spent.append(budget.spent_usd)

    other = threading.Thread(target=second)
    with budget.expense(at_most_usd=0.8) as expense:
        other.start()
        started.wait()
        assert spent == []
        expense.spent_usd = 0.1
    other.join(timeout=30)
    assert spent == [pytest.approx(0.2)]
    with pytest.raises(CeilingReached, match="could cost"), budget.expense(at_most_usd=0.81):
        raise AssertionError("it does not fit")
    with pytest.raises(InvalidInput, match="max-cost-usd"):
        Budget(0.0)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I do not know: the documentation does not cover this.", True),
        ("I don’t know.", True),
        ("The context does not mention a default.", True),
        ("There is no information about VPP.", True),
        ("This is not covered in the provided documents.", True),
        ("The documentation says that it is 128 bytes.", False),
        ("It is 128 bytes. The context does not say why.", False),
        ("Do not free the mbuf: the driver owns it.", False),
        ("You cannot find devices that are bound to vfio-pci with ip link.", False),
    ],
)
def test_a_refusal_is_known_by_its_first_sentence(text: str, refused: bool) -> None:
    assert is_refusal(text) is refused
