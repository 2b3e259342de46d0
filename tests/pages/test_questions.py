"""The questions page: every question by filters in the address, one question, judging, views, and who may not read."""

import pytest
from streamlit.testing.v1 import AppTest

from core.audit.trail import AuditFilter, list_audit
from core.log.filters import QuestionFilter
from core.log.questions import list_page
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.opening import HOSTILE, assert_shown_as_text, only_error, open_page, shown_text, text_of, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]
COLUMNS = ["when", "question", "score", "state"]


def table_of(app: AppTest) -> list[str]:
    """The questions that the table shows."""
    return list(app.dataframe[0].value["question"]) if app.dataframe else []


def test_it_shows_every_question_newest_first(as_demo: Demo) -> None:
    app = open_page("questions")
    assert "questions of the last 30 days, newest first." in verdict(app)
    shown = app.dataframe[0].value
    assert list(shown.columns[:4]) == COLUMNS
    assert len(shown) == 50
    assert shown["when"].is_monotonic_decreasing


def test_filters_in_the_address_narrow_the_list_and_the_sentence(demo_url: str) -> None:
    app = open_page("questions", days="7d", low="1", text="vpp")
    found = table_of(app)
    assert found
    assert all("vpp" in question.lower() for question in found)
    assert "questions of the last 7 days match the filters." in verdict(app)
    assert app.toggle(key="questions_low").value is True
    app.text_input(key="questions_text").set_value("gnome").run()
    assert "gnome" in app.query_params["text"]
    assert verdict(app).startswith("0 of ")
    assert "No question matches." in shown_text(app)


@pytest.mark.deep
def test_older_questions_follow_and_the_newest_come_back(as_demo: Demo) -> None:
    app = open_page("questions")
    first = app.dataframe[0].value
    next(button for button in app.button if button.label == "Older").click().run()
    older = app.dataframe[0].value
    assert older["when"].max() <= first["when"].min()
    next(button for button in app.button if button.label == "Newest").click().run()
    assert list(app.dataframe[0].value["question"]) == list(first["question"])


@pytest.mark.deep
def test_the_order_is_in_the_address_and_each_page_follows_the_one_before(as_demo: Demo) -> None:
    app = open_page("questions", days="7d", sort="lowest", low="1")
    first = app.dataframe[0].value["score"]
    assert first.is_monotonic_increasing
    assert "Questions without a score are left out." in shown_text(app)
    next(button for button in app.button if button.label == "Higher").click().run()
    assert app.dataframe[0].value["score"].min() >= first.max()
    app.selectbox(key="questions_sort").set_value("oldest").run()
    assert "oldest" in app.query_params["sort"] and "after" not in app.query_params
    assert app.dataframe[0].value["when"].is_monotonic_increasing
    app = open_page("questions", sort="best")
    assert app.dataframe[0].value["when"].is_monotonic_decreasing


@pytest.mark.deep
def test_a_topic_of_the_coverage_page_opens_its_questions(as_demo: Demo) -> None:
    coverage = open_page("coverage", days="7d")
    topic = coverage.selectbox(key="topic").value
    app = open_page("questions", topic=topic, days="7d")
    assert "belong to “" in verdict(app)
    assert table_of(app)
    line = only_error(open_page("questions", topic="no-such-topic"))
    assert "no topic" in line


@pytest.mark.deep
@pytest.mark.parametrize(
    "wrong", [{"day": "yesterday"}, {"state": "lost"}, {"attribute": "tenant"}, {"topic": HOSTILE}]
)
def test_a_wrong_filter_is_one_line_that_names_it(wrong: dict[str, str], as_demo: Demo) -> None:
    app = open_page("questions", **wrong)
    assert next(iter(wrong)) in only_error(app)
    assert_shown_as_text(app)


def newest_of(url: str) -> str:
    scope = Scope("production", "docs-chat")
    store = Store(url)
    try:
        return list_page(store, QuestionFilter(scope=scope), limit=1).questions[0].retrieval_id
    finally:
        store.close()


@pytest.mark.deep
def test_a_link_opens_one_question_with_its_hits_and_it_can_be_judged(demo_url: str) -> None:
    name = newest_of(demo_url)
    app = open_page("questions", question=name)
    assert "low under" in shown_text(app)
    app.text_input(key=f"note-{name}").set_value("invented").run()
    app.button(key=f"Bad-{name}").click().run()
    assert not app.exception
    store = Store(demo_url)
    (entry,) = list_audit(store, AuditFilter(action="question.judge"), limit=5)
    said = f"Recorded as audit entry {entry.entry_id}. Marked 1 answer bad."
    assert said in [text_of(each.value) for each in app.success]
    assert (entry.target, entry.reason) == (name, "invented")
    found = list_page(store, QuestionFilter(retrieval_id=name)).questions[0]
    assert ("feedback", -1.0, "reviewer", "invented") in [tuple(score) for score in found.scores]
    store.close()
    assert "✗ bad" in shown_text(app)


@pytest.mark.deep
def test_a_question_that_is_gone_says_so(as_demo: Demo) -> None:
    app = open_page("questions", question="gone")
    assert "There is no question gone" in shown_text(app) + " ".join(info.value for info in app.info)


@pytest.mark.deep
def test_filters_are_saved_as_a_view_and_deleted_again(demo_url: str) -> None:
    app = open_page("questions", low="1", document="a.md")
    app.text_input(key="questions_view_name").set_value("low of a")
    next(button for button in app.button if button.label == "Save").click().run()
    assert not app.exception
    assert any("low of a" in element.proto.label for element in app.get("page_link"))
    app.button(key="view-low of a").click().run()
    assert not any("low of a" in element.proto.label for element in app.get("page_link"))
    next(button for button in app.button if button.label == "Undo").click().run()
    assert any("low of a" in element.proto.label for element in app.get("page_link"))
