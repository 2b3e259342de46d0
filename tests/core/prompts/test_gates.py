"""The gates' rule: what fails, what is noise, and how a report names the failing case; all on literal results."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from core.errors import InvalidInput
from core.prompts.bench import read_corpora
from core.prompts.gatekeeper import run_prompt_gate
from core.prompts.gates import Evaluated, GateCheck, GateReport, Thresholds, check_cost, check_prompt, parse_thresholds
from core.prompts.prices import Price
from core.prompts.verdicts import render_junit, render_markdown, render_text
from core.tracking.cases import Case, CaseResult
from tests.conftest import Demo

THRESHOLDS = Thresholds(faithfulness_mean=0.9, faithfulness_min=0.5, refusal_accuracy=0.95)
CASES = tuple(Case(f"c{i:02}", f"Question {i}?", ("a.md",), f"Answer {i}.", i < 18) for i in range(20))
GOOD = CaseResult(
    case_id="", question="", answerable=True, answer="It is so.", refused=False, faithfulness=1.0, relevancy=0.8,
    refusal_correct=True, retrieval_hit=True, documents=("a.md",), sentences=("It is so.",), supported=(True,),
    input_tokens=1_000, output_tokens=100, cost_usd=0.002, latency_ms=None,
)  # fmt: skip


def results(**changed: dict[str, object]) -> tuple[CaseResult, ...]:
    """Twenty good results; `c03={...}` changes that one."""
    return tuple(
        replace(GOOD, case_id=c.id, question=c.question, answerable=c.answerable, **changed.get(c.id, {}))
        for c in CASES
    )


def find(report: GateReport, name: str) -> GateCheck:
    return next(check for check in report.checks if check.name == name)


def failing(report: GateReport) -> list[str]:
    return [check.name for check in report.checks if not check.passed]


UNSUPPORTED = {
    "faithfulness": 0.4, "supported": (True, False), "sentences": ("True.", "Made up."), "answer": "True. Made up.",
}  # fmt: skip
ANSWERED = {"refusal_correct": False, "faithfulness": 1.0}


def test_a_good_prompt_passes_and_says_that_there_was_nothing_to_compare_with() -> None:
    report = check_prompt(Evaluated("qa-v3", results()), CASES, THRESHOLDS)
    assert report.passed
    assert [check.name for check in report.checks] == [
        "every case judged", "faithfulness, mean", "faithfulness, each case", "refusal accuracy",
    ]  # fmt: skip
    assert report.notes == ("There is no baseline, so only the thresholds were checked.",)


def test_one_unfaithful_case_fails_by_name_with_the_sentence_that_nothing_supports() -> None:
    report = check_prompt(Evaluated("qa-v3", results(c03=UNSUPPORTED)), CASES, THRESHOLDS)
    assert failing(report) == ["faithfulness, each case"]
    failure = find(report, "faithfulness, each case").failures[0]
    assert (failure.case_id, failure.question, failure.expected) == ("c03", "Question 3?", "Answer 3.")
    assert failure.actual == "True. Made up."
    assert failure.reasons == ("not supported by the retrieved context: Made up.",)


def test_a_low_mean_fails_though_no_case_is_below_the_minimum() -> None:
    low = {f"c{i:02}": {**UNSUPPORTED, "faithfulness": 0.5} for i in range(5)}
    report = check_prompt(Evaluated("qa-v3", results(**low)), CASES, THRESHOLDS)
    assert failing(report) == ["faithfulness, mean"]
    assert find(report, "faithfulness, mean").detail == "0.88, needed 0.9"
    assert len(find(report, "faithfulness, mean").failures) == 5


def test_a_score_at_its_threshold_passes() -> None:
    at = {"c00": {**UNSUPPORTED, "faithfulness": 0.5}, "c18": ANSWERED}
    assert check_prompt(Evaluated("qa-v3", results(**at)), CASES, THRESHOLDS).passed


def test_wrong_refusals_say_which_way_they_are_wrong() -> None:
    refused = {"refused": True, "refusal_correct": False, "faithfulness": 1.0, "sentences": (), "supported": ()}
    report = check_prompt(Evaluated("qa-v3", results(c01=refused, c19=ANSWERED)), CASES, THRESHOLDS)
    assert failing(report) == ["refusal accuracy"]
    reasons = {each.case_id: each.reasons for each in find(report, "refusal accuracy").failures}
    assert reasons == {
        "c01": ("it was refused, but the documents hold the answer",),
        "c19": ("it was answered, but the documents do not hold the answer",),
    }
    assert find(report, "refusal accuracy").failures[1].expected == "a refusal: Answer 19."


def test_a_case_without_a_verdict_or_an_answer_fails_the_gate() -> None:
    failed = Evaluated("qa-v3", results(c05={"error": "m answered HTTP 500", "faithfulness": 0.0})[:-1])
    report = check_prompt(failed, CASES, THRESHOLDS)
    assert failing(report) == ["every case judged"]
    assert {each.case_id: each.reasons for each in find(report, "every case judged").failures} == {
        "c05": ("m answered HTTP 500",), "c19": ("it was not run",),
    }  # fmt: skip
    assert find(report, "faithfulness, mean").detail.startswith("1.00,")


def test_nothing_judged_at_all_fails() -> None:
    none = Evaluated("qa-v3", results(**{case.id: {"error": "down"} for case in CASES}))
    assert failing(check_prompt(none, CASES, THRESHOLDS)) == ["every case judged"]
    assert not check_cost(none, CASES, THRESHOLDS, PRICES).passed


LENIENT = Thresholds(0.0, 0.0, 0.0)


def test_a_fall_that_the_interval_supports_is_a_regression() -> None:
    worse = {f"c{i:02}": {**UNSUPPORTED, "faithfulness": 0.5} for i in range(8)}
    baseline = Evaluated("qa-v2", results(), "in production")
    report = check_prompt(Evaluated("qa-v3", results(**worse)), CASES, LENIENT, baseline=baseline)
    assert failing(report) == ["no regression"]
    check = find(report, "no regression")
    assert check.detail.startswith("-0.20 (95% interval -")
    assert check.detail.endswith("than qa-v2 (in production), 8 cases worse")
    assert [each.case_id for each in check.failures] == [f"c{i:02}" for i in range(8)]
    assert check.failures[0].reasons[0] == "faithfulness fell from 1.00 to 0.50"


def test_a_fall_within_noise_is_told_and_fails_nothing() -> None:
    report = check_prompt(
        Evaluated("qa-v3", results(c00={**UNSUPPORTED, "faithfulness": 0.5})),
        CASES,
        LENIENT,
        baseline=Evaluated("qa-v2", results()),
    )
    assert report.passed
    assert report.notes == ("Lower than qa-v2 by 0.03, which is within noise.",)


def test_an_equal_or_better_prompt_is_no_regression() -> None:
    low = Evaluated("qa-v1", results(**{case.id: UNSUPPORTED for case in CASES}))
    for candidate in (low, Evaluated("qa-v2", results())):
        report = check_prompt(candidate, CASES, LENIENT, baseline=low)
        assert report.passed
        assert report.notes == ()


def test_a_few_common_cases_cannot_tell_a_regression() -> None:
    low = Evaluated("qa-v3", results(**{case.id: UNSUPPORTED for case in CASES}))
    report = check_prompt(low, CASES, LENIENT, baseline=Evaluated("qa-v2", results()[:5]))
    assert report.passed
    assert report.notes == ("5 common cases are too few to tell whether it is worse than qa-v2.",)


PRICES = {"extractive-offline": Price("extractive-offline", 1.0, 10.0), "dear": Price("dear", 30.0, 300.0)}


def test_the_average_cost_is_counted_at_the_price_of_the_chosen_model() -> None:
    report = check_cost(Evaluated("qa-v3", results()), CASES, THRESHOLDS, PRICES)
    assert report.passed
    assert find(report, "average cost").detail == "$0.00200 a query at the price of extractive-offline, allowed $0.01"
    dear = check_cost(
        Evaluated("qa-v3", results(c07={"input_tokens": 9_000})), CASES, replace(THRESHOLDS, model="dear"), PRICES
    )
    assert failing(dear) == ["average cost"]
    worst = find(dear, "average cost").failures[0]
    assert (worst.case_id, worst.reasons) == ("c07", ("$0.3000: 9000 tokens in, 100 out",))
    with pytest.raises(InvalidInput, match="'unknown' is not in the price table"):
        check_cost(Evaluated("qa-v3", results()), CASES, replace(THRESHOLDS, model="unknown"), PRICES)


def test_a_cost_at_its_ceiling_passes() -> None:
    assert check_cost(Evaluated("a", results()), CASES, replace(THRESHOLDS, cost_usd_mean=0.002), PRICES).passed
    assert not check_cost(Evaluated("a", results()), CASES, replace(THRESHOLDS, cost_usd_mean=0.0019), PRICES).passed


HOSTILE = {
    **UNSUPPORTED,
    "answer": "<img src=x> @everyone [link](http://x) ``` | a\n\n# b \x00\x1b[31m\u202e",
    "sentences": ("Fine.", "```code``` & <b>bold</b> ]]>"),
}


def test_the_summary_names_each_failing_case_once_with_all_reasons() -> None:
    baseline = Evaluated("qa-v2", results())
    worse = {f"c{i:02}": UNSUPPORTED for i in range(8)}
    report = check_prompt(Evaluated("qa-v3", results(**worse, c19=ANSWERED)), CASES, THRESHOLDS, baseline=baseline)
    text = render_markdown([report])
    assert text.count("`c03`") == 1
    assert "- **`c03`** `Question 3?`\n  - expected: `Answer 3.`\n  - actual: `True. Made up.`" in text
    assert "why: `not supported by the retrieved context: Made up.`" in text
    assert "why: `faithfulness fell from 1.00 to 0.40`" in text
    assert "| no regression | **failed** |" in text
    assert "c15" not in text


def test_what_questions_and_answers_hold_stays_quoted() -> None:
    report = check_prompt(Evaluated("qa-v3", results(c03=HOSTILE)), CASES, THRESHOLDS)
    line = next(line for line in render_markdown([report]).splitlines() if "actual:" in line)
    assert line == "  - actual: ```` <img src=x> @everyone [link](http://x) ``` | a # b [31m ````"
    assert "\x1b" not in render_text([report])


def test_a_long_list_of_failing_cases_is_cut_and_counted() -> None:
    report = check_prompt(Evaluated("a", results(**{case.id: UNSUPPORTED for case in CASES})), CASES, THRESHOLDS)
    text = render_markdown([report])
    assert text.count("  - actual:") == 12
    assert "and 8 more cases" in text
    long = check_prompt(Evaluated("a", results(c03={**UNSUPPORTED, "answer": "x" * 9_999})), CASES, THRESHOLDS)
    assert len(render_markdown([long])) < 2_000


def test_the_junit_report_is_xml_whatever_the_answers_hold() -> None:
    baseline = Evaluated("qa-v2", results())
    report = check_prompt(Evaluated("qa-v3", results(c03=HOSTILE)), CASES, THRESHOLDS, baseline=baseline)
    suite = ElementTree.fromstring(render_junit([report]).encode()).find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("5", "1")
    failure = suite.find("testcase[@name='faithfulness, each case']/failure")
    assert failure is not None
    assert "c03: Question 3?" in str(failure.text)
    assert "```code``` & <b>bold</b> ]]>" in str(failure.text)


def test_the_text_report_shows_checks_and_failing_cases() -> None:
    lines = render_text([check_prompt(Evaluated("qa-v3", results(c03=UNSUPPORTED)), CASES, THRESHOLDS)]).splitlines()
    assert lines[0] == "prompt-eval qa-v3: FAILED"
    assert "  FAIL faithfulness, each case: 0.40 (c03), needed 0.5" in lines
    assert "         why:      not supported by the retrieved context: Made up." in lines


GATES = """
prompt_eval: {faithfulness_mean: 0.9, faithfulness_min: 0.5, refusal_accuracy: 0.95}
cost_check: {cost_usd_mean: 0.02, model: m}
"""


def test_thresholds_are_read_from_yaml() -> None:
    assert parse_thresholds(GATES) == Thresholds(0.9, 0.5, 0.95, 0.02, "m", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.95", "1.5", "refusal_accuracy: must be a number from 0 to 1, not 1.5"),
        ("0.95", "true", "refusal_accuracy"),
        ("faithfulness_mean: 0.9, ", "", "faithfulness_mean: must be a number from 0 to 1, not None"),
        ("model: m", "modle: m", "modle: is unknown"),
        ("cost_check", "cost", "must contain `prompt_eval:` and `cost_check:`"),
        ("{", "[", "is not YAML"),
        ("0.02", "-1", "cost_usd_mean"),
    ],
)
def test_wrong_thresholds_are_told_by_field(old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_thresholds(GATES.replace(old, new, 1))


@pytest.mark.slow
def test_where_there_is_a_store_the_baseline_is_the_prompt_in_production_with_its_settings(as_demo: Demo) -> None:
    (report,) = run_prompt_gate(as_demo.config, [Path("data/demo/prompts/qa/v3.md")])
    assert report.passed, report
    assert find(report, "no regression").detail.endswith("than qa-v2 (in production), 0 cases worse")


@pytest.mark.slow
def test_the_first_draft_does_not_reach_the_thresholds_and_is_worse_than_production(as_demo: Demo) -> None:
    (report,) = run_prompt_gate(as_demo.config, [Path("data/demo/prompts/qa/v1.md")])
    assert failing(report) == ["faithfulness, mean", "refusal accuracy", "no regression"]
    refused = {each.case_id: each.reasons[-1] for each in find(report, "refusal accuracy").failures}
    assert set(refused) == {"c17", "c18", "c19", "c20"}
    assert set(refused.values()) == {"it was answered, but the documents do not hold the answer"}


@pytest.mark.slow
def test_a_given_baseline_comes_before_the_one_in_production(as_demo: Demo) -> None:
    v1, v3 = Path("data/demo/prompts/qa/v1.md"), Path("data/demo/prompts/qa/v3.md")
    (report,) = run_prompt_gate(as_demo.config, [v3], baseline=v1)
    assert "than qa-v1 (v1.md)" in find(report, "no regression").detail


def test_a_document_of_a_later_corpus_replaces_the_former_one(tmp_path: Path) -> None:
    for folder, texts in {"v1": {"a": "Old.", "b": "Kept."}, "v2": {"a": "New.", "c": "Added."}}.items():
        (tmp_path / folder).mkdir()
        for name, text in texts.items():
            (tmp_path / folder / f"{name}.md").write_text(text)
    chunks = read_corpora([tmp_path / "v1", tmp_path / "v2"])
    assert {chunk.document: chunk.text for chunk in chunks} == {"a.md": "New.", "b.md": "Kept.", "c.md": "Added."}
