"""Cases on the pages: sets on Prompts, and the buttons of Questions and Coverage that add to them."""

from collections.abc import Iterator

import pytest
from streamlit.testing.v1 import AppTest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.cases.cases import DRAFT
from core.cases.operations import import_cases
from core.cases.store import find_golden, find_set, get_set, list_sets_of_topic
from core.config import PROJECT
from core.log.filters import QuestionFilter
from core.log.questions import list_matching
from core.tracking.cases import parse_cases
from quarterdeck.store import Store
from tests.pages.opening import open_page, shown_text, text_of
from tests.pages.test_coverage import WORDS, ask_in_vain

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]
DEMO = PROJECT / "data" / "demo" / "cases" / "qa.jsonl"
ME = Act("ada", "a test")


@pytest.fixture
def filled(store: Store, empty_url: str, as_new_mlflow: None) -> Iterator[Store]:
    """A store with the demo's set of cases, and MLflow without a run."""
    import_cases(store, "qa", parse_cases(DEMO.read_text(encoding="utf-8")), ME)
    yield store


def press(app: AppTest, key: str) -> AppTest:
    app.button(key=key).click().run()
    assert not app.exception
    return app


def undo(app: AppTest) -> AppTest:
    """Take the last change back by the button of the toast."""
    return press(app, next(button.key for button in app.button if str(button.key).startswith("saved-")))


def outcome(app: AppTest) -> str:
    """What the page says became of the last change."""
    said = [each.value for each in (*app.success, *app.error)]
    assert len(said) == 1, said
    return text_of(said[0])


@pytest.mark.deep
def test_without_a_set_the_page_says_how_to_make_one(empty_url: str, as_new_mlflow: None) -> None:
    app = open_page("prompts")
    assert not app.exception
    assert "No case set is stored yet." in " ".join(info.value for info in app.info)
    assert "quarterdeck cases import qa data/demo/cases/qa.jsonl" in [code.value for code in app.code]


@pytest.mark.deep
def test_a_set_is_shown_and_a_case_is_added_by_hand_and_taken_back(filled: Store) -> None:
    app = open_page("prompts")
    assert "qa: 20 cases, version 1" in shown_text(app).replace("**", "")
    (table,) = [each.value for each in app.get("data_editor") if "question" in each.value]
    assert list(table["id"])[:2] == ["c01", "c02"]
    app.text_area(key="case_new_question").set_value("What is a plugin?")
    app.text_area(key="case_new_reference").set_value("A refusal is right.")
    app.checkbox(key="case_new_answerable").set_value(False)
    app.text_input(key="case_new_reason").set_value("asked by a customer")
    next(button for button in app.button if button.label == "Add").click().run()
    assert outcome(app).endswith("The case is added.")
    new = get_set(filled, "qa").cases[-1]
    assert (new.id, new.case.question, new.reviewer) == ("c21", "What is a plugin?", "tester")
    undo(app)
    assert outcome(app).endswith(" is undone.")
    assert [each.id for each in find_set(filled, "qa").cases][-1] == "c20"
    assert [entry.action for entry in list_audit(filled)] == ["case.restore", "case.add", "case.import"]


@pytest.mark.deep
def test_a_wrong_case_and_a_missing_reason_change_nothing(filled: Store) -> None:
    app = open_page("prompts")
    app.text_area(key="case_new_question").set_value("What is a plugin?")
    app.text_area(key="case_new_reference").set_value("A piece of code.")
    app.text_input(key="case_new_reason").set_value("asked by a customer")
    next(button for button in app.button if button.label == "Add").click().run()
    assert "c21, expected_documents: is empty, but the case is answerable" in outcome(app)
    next(button for button in app.button if button.label == "Save").click().run()
    assert "reason: is empty" in outcome(app)
    assert get_set(filled, "qa").version == 1


@pytest.mark.deep
def test_a_set_becomes_the_golden_one_and_a_former_version_comes_back(filled: Store) -> None:
    import_cases(filled, "qa", get_set(filled, "qa").plain[:5], ME)
    app = press(open_page("prompts"), "case-golden-qa")
    golden = find_golden(filled)
    assert golden is not None and golden.name == "qa"
    assert "It is the golden set of index swaps." in shown_text(app)
    import_cases(filled, "other", get_set(filled, "qa").plain[:2], ME)
    app = press(open_page("prompts", case_set="other"), "case-golden-other")
    undo(app)
    assert (golden := find_golden(filled)) is not None
    assert golden.name == "qa"  # as it was before, and not none
    app.selectbox(key="case_set").set_value("qa").run()
    assert [field.value for field in app.text_input if field.label == "Case set"] == ["qa"]  # of the import
    app = open_page("prompts", case_set="qa")
    app.text_input(key="case-restore-reason-qa").set_value("all of them again")
    next(button for button in app.button if button.label == "Restore").click().run()
    assert outcome(app).endswith("Version 1 is restored.")
    assert len(get_set(filled, "qa").cases) == 20


@pytest.mark.deep
def test_who_may_not_read_questions_sees_counts_only(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.panels.prompts.cases.may_read_questions", lambda _environment: False)
    app = open_page("prompts")
    assert not app.exception
    assert "cases are only counted" in shown_text(app)
    assert "mbuf" not in str([each.value for each in app.dataframe])
    assert not app.get("data_editor")


@pytest.mark.deep
def test_a_question_becomes_a_case_in_two_clicks(filled: Store) -> None:
    ask_in_vain(filled, WORDS[:2])
    first, second = list_matching(filled, QuestionFilter(search="set"), limit=2)
    key = f"questions-{first.retrieval_id}"
    app = press(open_page("questions", question=first.retrieval_id), f"propose-{key}")
    (table,) = [each.value for each in app.dataframe if "repeats" in each.value]
    assert (table["question"][0], table["expects"][0], table["repeats"][0]) == (first.query, "a refusal", "")
    assert "from a similarity of 0.90 on" in shown_text(app)
    press(app, f"add-{key}")
    case = get_set(filled, "qa").cases[-1]
    assert (case.case.question, case.tags, case.reviewer) == (first.query, (DRAFT,), "")
    assert case.source.retrieval_id == first.retrieval_id
    again = press(app, f"propose-{key}")
    (table,) = [each.value for each in again.dataframe if "repeats" in each.value]
    assert table["repeats"][0] == f"{first.query} (1.00)"
    assert again.button(key=f"add-{key}").disabled
    assert second.query != first.query


def test_ten_typical_questions_of_a_topic_become_cases_in_two_clicks(filled: Store) -> None:
    ask_in_vain(filled, WORDS)
    app = open_page("coverage", clusters="1")
    topic = app.selectbox(key="topic").value
    press(app, f"propose-topic-{topic}")
    (table,) = [each.value for each in app.dataframe if "repeats" in each.value]
    count = len(table)
    assert 2 <= count <= 10
    assert set(table["repeats"]) == {""}
    press(app, f"add-topic-{topic}")
    assert outcome(app).endswith(f"Added {count} cases to qa.")
    added = get_set(filled, "qa").cases[20:]
    assert {each.source.topic_id for each in added} == {topic}
    assert f"{count} cases were made of this topic; 0 of them name documents." in shown_text(app)
    import_cases(filled, "another", get_set(filled, "qa").plain[:2], ME)
    assert list_sets_of_topic(filled, topic) == ("qa",)  # the set that the page links to
    undo(app)
    assert len(get_set(filled, "qa").cases) == 20
