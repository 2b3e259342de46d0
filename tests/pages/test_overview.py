"""The overview: on the demo, and while something is refused."""

from datetime import UTC, datetime

import pytest

from app.panels.overview.todos import MOST_LINES, take_turns
from core.audit.acts import Act
from core.audit.permissions import Roles
from core.flags.operations import create_flag
from core.todo.items import Todo
from quarterdeck.clock import HOUR_MS, now_ms
from quarterdeck.definitions import boolean_flag
from quarterdeck.intake import DUPLICATE, TAKEN, Counted, store_counts
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import intake
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.opening import (
    HOSTILE,
    assert_shown_as_text,
    forget,
    markdown_of,
    open_page,
    shown_text,
    text_of,
    verdict,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def test_overview_has_one_sentence_with_its_number_for_each_area(as_demo: Demo) -> None:
    app = open_page("overview")
    assert verdict(app) == verdict(open_page("drift"))
    figures = {metric.label: metric.value for metric in app.metric}
    assert figures | {"Drift": "", "Gaps": ""} == {
        "Drift": "",
        "Gaps": "",
        "Prompt": "v2",
        "Corpus": "v1",
        "Rollouts": "2",
    }
    links = [each.proto for each in app.get("page_link")]
    sentences = " ".join(text_of(link.help) for link in links if link.label.startswith("Open "))
    for expected in ("score fell", "score low", "v2 is in production", "v1 is live", "2 of 5 flags"):
        assert expected in sentences


def refuse(store: Store, *counted: tuple[str, str, str, int, str]) -> None:
    with store.begin() as connection:
        store_counts(
            connection,
            {
                Counted(Scope(environment, "answers"), source, reason): (n, example)
                for environment, source, reason, n, example in counted
            },
        )


@pytest.mark.deep
def test_what_is_refused_is_shown_while_it_is_with_an_example(empty_url: str, store: Store) -> None:
    append_retrievals(store, [Retrieval(datetime.now(UTC), "what is an mbuf", 0.7)])
    refuse(store, ("production", "http", TAKEN, 5, ""), ("production", "http", DUPLICATE, 3, ""))
    assert "refused and not stored" not in shown_text(open_page("overview"))
    refuse(
        store, ("production", "otlp", "no_documents", 1_200, f"no_documents: the span has none | {HOSTILE}"),
        ("production", "http", "score", 1, "score: must be a number"), ("staging", "http", "ts", 7, ""),
    )  # fmt: skip
    forget()
    app = open_page("overview")
    assert "In the last 24 hours 1,201 rows, spans or scores were refused and not stored." in shown_text(app)
    (table,) = [each.value for each in app.dataframe if "reason" in each.value]
    rows = {tuple(row) for row in table[["service", "entry point", "reason", "count"]].itertuples(index=False)}
    assert rows == {("answers", "otlp", "no_documents", 1_200), ("answers", "http", "score", 1)}
    assert [each.label for each in app.expander if "example" in each.label] == ["One example of each"]
    assert any(HOSTILE in each.value for each in app.text)
    assert_shown_as_text(app)
    with store.begin() as connection:
        connection.execute(intake.update().values(hour_ms=now_ms() // HOUR_MS * HOUR_MS - 30 * HOUR_MS))
    forget()
    assert "refused and not stored" not in shown_text(open_page("overview"))


@pytest.mark.deep
def test_examples_of_refusals_are_for_readers_of_questions(
    empty_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.visitor.hold_everywhere", lambda role: Roles((("*", role),)))
    refuse(store, ("production", "http", "score", 1, "score: wrong | how do I boil an egg"))
    app = open_page("overview")
    assert "1 row, span or score was refused" in shown_text(app)
    assert "Examples may hold what users asked" in shown_text(app)
    assert not any("egg" in each.value for each in (*app.text, *app.caption, *app.markdown))


@pytest.mark.deep
def test_two_hundred_flags_sixty_gaps_and_five_services_make_no_list_of_names(empty_url: str, store: Store) -> None:
    now = datetime.now(UTC)
    for service in ("answers", "chat", "mail", "search", "voice"):
        append_retrievals(store, [Retrieval(now, f"what is {service}", 0.7, scope=Scope("production", service))])
    for at in range(200):
        flag = boolean_flag(on=True, rollout_pct=20)
        create_flag(store, f"a_flag_with_quite_a_long_name_{at:03}", flag, Act("ada", "many"))
    app = open_page("overview")
    assert not app.exception
    shown = [text_of(text) for text in [*markdown_of(app), *(each.proto.help for each in app.get("page_link"))]]
    assert {metric.label: metric.value for metric in app.metric}["Rollouts"] == "200"
    assert max(text.count("a_flag_with_quite_a_long_name_") for text in shown) == 3
    assert any("and 197 more" in text for text in shown)
    assert app.selectbox(key="service").options == ["answers", "chat", "mail", "search", "voice"]


def test_the_first_line_of_each_page_goes_first_and_the_rest_is_one_click_away() -> None:
    lines = [Todo(f"topic/{at}", "coverage", f"gap {at}") for at in range(60)]
    lines += [Todo("corpus/v2", "corpus", "Ship v2"), Todo("prompt/v3", "prompts", "Promote v3")]
    first = take_turns(lines)
    assert [todo.text for todo in first[:MOST_LINES]] == ["gap 0", "Ship v2", "Promote v3", "gap 1"]
    assert len(first) == 62
