"""How far the judges can be trusted: their agreement with labeled cases, and the command that prints it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config import load_config
from core.errors import InvalidInput
from core.prompts.agreement import (
    Agreement,
    JudgeVerdict,
    Labeled,
    Skill,
    describe_agreement,
    parse_labeled,
    say_verdicts,
)
from core.prompts.answers import is_refusal
from core.prompts.calibration import LABELED, Examination, examine_judges
from tests.app.commands.running import Run, only_line
from tests.model_server import ModelServer, Reply, serve_models


def test_the_share_and_the_way_of_the_errors_are_told() -> None:
    yes, no = Labeled("a", "So it is.", True, kind="restated"), Labeled("b", "So\nit is not.", False)
    verdicts = (
        JudgeVerdict(yes, True),
        JudgeVerdict(no, True),
        JudgeVerdict(yes, False),
        JudgeVerdict(no, problem="no verdict (down)"),
    )
    found = Agreement("j", Skill.FAITHFULNESS, verdicts)
    assert (found.share, found.too_kind, found.too_strict, found.unjudged) == (0.25, 1, 1, 1)
    assert describe_agreement(found) == (
        "faithfulness, j: agrees with 25.0% of 4 labeled cases; 1 too kind, 1 too strict, 1 no verdict"
    )
    assert say_verdicts(found.wrong) == [
        "b: labeled no, judged yes: So it is not.",
        "a (restated): labeled yes, judged no: So it is.",
        "b: labeled no, no verdict (down): So it is not.",
    ]
    assert describe_agreement(Agreement("j", Skill.REFUSAL, verdicts[:1])).endswith("100.0% of 1 labeled cases")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.jsonl: has no labeled rows"),
        ("{", "line 1: is not JSON"),
        ("3", "line 1: must be a JSON object, not int"),
        ('{"id": "a", "answer": "x"}', "line 1, field refused: must be a bool"),
        ('\n{"id": "a", "answer": "", "refused": true}', "line 2, field answer: must be a str and not be empty"),
    ],
)
def test_a_wrong_row_is_told_by_number_and_field(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_labeled(text, Skill.REFUSAL, source="r.jsonl")


def test_refusals_are_known_by_their_wording() -> None:
    rows = parse_labeled((LABELED / "judge_refusal.jsonl").read_text(encoding="utf-8"), Skill.REFUSAL, source="r")
    assert len(rows) >= 40
    assert 0.4 <= sum(row.label for row in rows) / len(rows) <= 0.6
    assert sum(is_refusal(row.text) is row.label for row in rows) / len(rows) >= 0.85


@pytest.mark.deep
@pytest.mark.slow
def test_each_offline_judge_agrees_with_at_least_85_percent_of_its_labeled_cases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grades = examine_judges(load_config({"QUARTERDECK_HOME": str(tmp_path)}), Examination())
    with capsys.disabled():
        print("", *map(describe_agreement, grades.agreements), sep="\n")
    assert {each.skill for each in grades.agreements} == set(Skill)
    for each in grades.agreements:
        assert len(each.verdicts) >= 40
        assert 1 / 3 <= sum(verdict.row.label for verdict in each.verdicts) / len(each.verdicts) <= 2 / 3
        assert each.share >= 0.85
    # What it cannot do: talk about the same subject that does not answer looks as relevant as an answer.
    relevancy = next(each for each in grades.agreements if each.skill is Skill.RELEVANCY)
    blind = [verdict for verdict in relevancy.verdicts if verdict.row.kind == "same subject, no answer"]
    assert blind
    assert not any(verdict.agrees for verdict in blind)


ROWS: dict[str, list[dict[str, Any]]] = {
    "faithfulness": [
        {"id": "s1", "context": "It is 128 bytes. It may change.", "sentence": "It is 128 bytes.", "supported": True},
        {"id": "s2", "context": "It is 128 bytes.", "sentence": "It is 256 bytes.", "supported": False},
    ],
    "relevancy": [
        {"id": "v1", "question": "How large is an mbuf?", "answer": "An mbuf is 2 KB. It is large.", "relevant": True},
        {"id": "v2", "question": "How large is an mbuf?", "answer": "It rains.", "relevant": False},
    ],
    "refusal": [{"id": "r1", "answer": "I do not know.", "refused": True}],
}


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    for skill, rows in ROWS.items():
        (tmp_path / f"judge_{skill}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "prices.yaml").write_text("models:\n  m: {input: 1.0, output: 10.0}\n")
    return tmp_path


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serve_models() as serving:
        yield serving


def rule_on(text: str, *bad: str) -> Reply:
    """A judge that turns down answers with one of the words `bad`, and lets all others pass."""
    said = re.search(r"<answer>\n(.*)\n</answer>", text, re.DOTALL)
    assert said
    good = not any(word in said[1] for word in bad)
    numbers = range(1, len(said[1].splitlines()) + 1)
    sentences = [{"number": number, "supported": good} for number in numbers]
    return Reply(json.dumps({"sentences": sentences, "relevancy": 1.0 if good else 0.0}))


def model_options(server: ModelServer, folder: Path) -> list[str | Path]:
    return [
        "--cases", folder, "--judge-answerer", "openai", "--judge-model", "m",
        "--base-url", server.base_url("openai"), "--prices", folder / "prices.yaml",
    ]  # fmt: skip


@pytest.mark.deep
@pytest.mark.slow
def test_a_model_is_asked_about_each_row_beside_the_offline_judges(
    labeled: Path,
    server: ModelServer,
    quarterdeck: Run,
) -> None:
    server.answer = lambda text: rule_on(text, "256", "rains")
    shown = quarterdeck("judges", *model_options(server, labeled), "--concurrency", "3", "--json")
    assert shown.code == 0, shown
    grades = {(row["skill"], row["judge"]): row for row in shown.json}
    assert grades["faithfulness", "model: m"]["agreement"] == grades["relevancy", "model: m"]["agreement"] == 1.0
    assert grades["faithfulness", "offline: wording and embeddings"]["cases"] == 2
    assert len(server.requests) == 4  # refusals are known by their wording, and cost nothing
    sent = " ".join(request["messages"][0]["content"] for request in server.requests)
    assert "<context>\nIt is 128 bytes. It may change.\n</context>" in sent
    assert "1. An mbuf is 2 KB.\n2. It is large." in sent


@pytest.mark.deep
@pytest.mark.slow
def test_a_judge_that_says_yes_to_everything_is_too_kind_and_fails(
    labeled: Path,
    server: ModelServer,
    quarterdeck: Run,
) -> None:
    server.answer = rule_on
    shown = quarterdeck("judges", *model_options(server, labeled))
    assert shown.code == 1
    assert "faithfulness, model: m: agrees with 50.0% of 2 labeled cases; 1 too kind" in shown.out
    assert "  s2: labeled no, judged yes: It is 256 bytes." in shown.out
    assert "spent: $0.0080" in shown.out  # four replies of 1,000 tokens in and 100 out
    assert quarterdeck("judges", *model_options(server, labeled), "--at-least", "50").code == 0


@pytest.mark.deep
@pytest.mark.slow
def test_a_row_without_a_verdict_is_no_agreement(
    labeled: Path,
    server: ModelServer,
    quarterdeck: Run,
) -> None:
    server.answer = lambda _text: Reply("Well, I think so.")
    failed = quarterdeck("judges", *model_options(server, labeled), "--json").json
    assert [row["no_verdict"] for row in failed] == [0, 0, 0, 2, 2]
    assert "twice sent an unreadable verdict" in failed[3]["differs"][0]
    stopped = quarterdeck("judges", *model_options(server, labeled), "--max-cost-usd", "0.000001")
    assert stopped.code == 1
    assert "no verdict ($0.0000 of $0.0000 are spent" in stopped.out
    assert "agrees with 0.0% of 2 labeled cases; 2 no verdict" in stopped.out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--judge-model", "m"), "--judge-answerer together"),
        (("--judge-answerer", "openai"), "--judge-answerer together"),
        (("--judge-answerer", "openai", "--judge-model", "m", "--base-url", "http://x"), "'m' is not in the price"),
        (("--judge-answerer", "openai", "--judge-model", "gpt-4o"), "OPENAI_API_KEY: is not set"),
        (("--max-cost-usd", "1"), "the offline judges spend nothing"),
        (("--cases", "/nowhere"), "/nowhere/judge_faithfulness.jsonl: cannot be read"),
    ],
)
def test_wrong_options_are_one_line(
    options: tuple[str, ...],
    named: str,
    quarterdeck: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert named in only_line(quarterdeck("judges", *options), 2)
