"""The commands `quarterdeck cases …`, and evaluations and probes on the sets of the store."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.cases.cases import render_cases
from core.cases.operations import change_cases, import_cases
from core.cases.store import find_set, get_set
from core.config import PROJECT
from core.log.filters import QuestionFilter
from core.log.questions import list_page
from core.tracking.cases import parse_cases
from core.tracking.gateway import Tracking
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.app.commands.running import Run, only_line

DEMO = PROJECT / "data" / "demo" / "cases" / "qa.jsonl"
ME = Act("ada", "a test")


@pytest.fixture
def cases(store: Store, url: str, quarterdeck: Run) -> Run:
    """Runs `quarterdeck cases …` on an empty store."""
    return lambda *arguments: quarterdeck("cases", *arguments, "--database", url)


def test_a_file_goes_into_the_store_and_comes_out_byte_for_byte(cases: Run, store: Store, tmp_path: Path) -> None:
    said = cases("import", "qa", DEMO)
    (entry,) = list_audit(store)
    assert (said.code, said.out) == (0, f"qa holds 20 cases, version 1 (audit entry {entry.entry_id})\n")
    assert cases("import", "qa", DEMO).out == "qa holds these cases already\n"
    target = tmp_path / "new" / "qa.jsonl"
    assert cases("export", "qa", target).code == 0
    assert target.read_bytes() == DEMO.read_bytes()
    assert cases("export", "qa").out.encode() == DEMO.read_bytes()
    assert cases("export", "qa", DEMO, "--check").out == f"{DEMO} is qa, version 1: 20 cases\n"


def test_a_check_fails_with_each_case_that_differs(cases: Run, store: Store, tmp_path: Path) -> None:
    filed = parse_cases(DEMO.read_text(encoding="utf-8"))
    import_cases(store, "qa", filed, ME)
    case = get_set(store, "qa").cases[0]
    change_cases(
        store, "qa", [replace(case, case=replace(case.case, reference_answer="The driver."))], ME, removed=["c02"],
        expected=1,
    )  # fmt: skip
    said = cases("export", "qa", DEMO, "--check")
    assert said.code == 1
    assert said.out.splitlines()[1:] == ["  c02: only in the file", "  c01: differs in reference_answer"]
    assert cases("export", "qa", DEMO, "--check", "--json").json["same"] is False
    former = tmp_path / "former.jsonl"
    former.write_text(render_cases(filed), encoding="utf-8")
    assert cases("export", "qa@1", former, "--check").code == 0
    spaced = "\n".join(json.dumps(json.loads(line)) for line in former.read_text(encoding="utf-8").splitlines())
    former.write_text(spaced, encoding="utf-8")
    assert "written in another way" in cases("export", "qa@1", former, "--check").out


def test_sets_and_their_cases_are_listed(cases: Run, store: Store) -> None:
    assert "no case set is stored yet" in cases("list").out
    import_cases(store, "qa", parse_cases(DEMO.read_text(encoding="utf-8")), ME)
    cases("golden", "qa")
    assert cases("list").out.split() == [
        "qa", "20", "cases", "version", "1", "20", "not", "reviewed", "golden", "set", "of", "index", "swaps",
    ]  # fmt: skip
    assert "not reviewed" in cases("list", "qa").out.splitlines()[0]
    assert len(cases("list", "qa", "--json").json) == 20
    assert cases("golden", "qa", "--off").code == 0
    assert "golden" not in cases("list").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "nothing"), "case set: there is no set 'nothing'; there are: none"),
        (("list", "qa@x"), "must be a name, or a name and a version"),
        (("export", "qa"), "there is no set 'qa'"),
        (("import", "../qa", str(DEMO)), "case set: must be 1 to 100"),
        (("import", "qa", "/nowhere/qa.jsonl"), "cases: /nowhere/qa.jsonl cannot be read"),
        (("add", "qa"), "give either --question or --topic"),
        (("golden", "qa"), "there is no set 'qa'"),
    ],
)
def test_a_wrong_call_is_one_line(arguments: tuple[str, ...], said: str, cases: Run) -> None:
    assert said in only_line(cases(*arguments), 2)


@pytest.mark.deep
@pytest.mark.slow
def test_questions_are_added_as_drafts_and_repeats_are_named(cases: Run, lab: Store) -> None:
    now = datetime.now(UTC)
    texts = ("how do I load a vpp plugin", "How can I load a VPP plugin?")
    append_retrievals(lab, [Retrieval(now - timedelta(minutes=at), text, 0.3) for at, text in enumerate(texts)])
    first, second = list_page(lab, QuestionFilter(), limit=2).questions
    assert (first.query, second.query) == texts
    asked = ("--question", first.retrieval_id, "--question", second.retrieval_id)
    shown = cases("add", "qa", *asked)
    assert "1 would be added; add --yes" in shown.out
    assert f"repeats {first.query!r}" in shown.out
    assert find_set(lab, "qa").version == 0
    assert cases("add", "qa", *asked, "--yes", "--json").json["added"] == 1
    (case,) = get_set(lab, "qa").cases
    assert (case.case.question, case.case.answerable, case.tags, case.reviewer) == (first.query, False, ("draft",), "")
    assert (case.source.retrieval_id, case.source.environment) == (first.retrieval_id, first.environment)
    assert cases("add", "qa", *asked, "--yes", "--json").json["added"] == 0
    topic = cases("add", "vpp", "--topic", "0", "--yes", "--json").json
    assert topic["added"] == len(topic["proposals"]) >= 1
    assert all(each.source.topic_id for each in get_set(lab, "vpp").cases)
    assert "no question 'gone'" in only_line(cases("add", "qa", "--question", "gone"), 2)


@pytest.mark.slow
@pytest.mark.deep
def test_evaluations_and_gates_read_the_sets_of_the_store(
    store: Store, url: str, tracking: Tracking, quarterdeck: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_cases(store, "few", parse_cases(DEMO.read_text(encoding="utf-8"))[:2], ME)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.tracking_uri)
    data = PROJECT / "data" / "demo"
    options = ("--set", "few", "--corpus", data / "corpus" / "v1", "--database", url, "--json")
    prompt = data / "prompts" / "qa" / "v3.md"
    monkeypatch.setenv("QUARTERDECK_PROGRESS", "lines")
    done = quarterdeck("eval", prompt, *options)
    (row,) = done.json
    assert "progress: qa_v3 2 of 2" in done.err
    run = tracking.get_run(row["run_id"])
    assert (run.params["cases"], run.params["prompt"]) == ("2", "qa")
    version = run.linked_prompts[0][1]
    (again,) = quarterdeck("eval", f"prompts:/qa/{version}", *options).json
    assert again["metrics"] == row["metrics"]
    (report,) = quarterdeck("gate", "prompt-eval", prompt, *options).json
    assert report["checks"][0]["detail"] == "2 of 2 cases"
    assert "give either --cases or --set" in only_line(quarterdeck("eval", prompt, "--cases", DEMO, *options), 2)
