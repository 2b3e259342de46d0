"""The coverage page: on the demo, on few questions, and on hostile ones."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from streamlit.testing.v1 import AppTest

from app.colors import DANGER, WARNING
from core.audit.acts import Act
from core.audit.permissions import Roles
from core.audit.trail import list_audit
from core.config import PROJECT
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.flags.operations import create_flag
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from quarterdeck.definitions import boolean_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store
from tests.conftest import Demo
from tests.pages.opening import (
    CHAT_ROWS,
    HOSTILE,
    ask,
    assert_shown_as_text,
    cards_of,
    forget,
    markdown_of,
    only_error,
    open_page,
    text_of,
    utc_midnight_ms,
    verdict,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


@pytest.mark.deep
def test_coverage_names_the_topic_and_its_true_share_of_the_traffic(as_demo: Demo) -> None:
    app = open_page("coverage", days="7d")
    said = re.search(r"most worth indexing is “(.+)”: (\d+)% of all questions, mean score (\d\.\d+)", verdict(app))
    assert said, verdict(app)
    asked = {line.strip() for line in (PROJECT / "data/demo/queries/vpp.txt").read_text().splitlines()}
    rows = ask(
        as_demo.config.home / "quarterdeck.db",
        f"SELECT query, score FROM {CHAT_ROWS} AND ts_ms >= ?",
        utc_midnight_ms(6),
    )
    threshold = float(re.search(r"under ([\d.]+)", " ".join(c.value for c in app.caption))[1])  # type: ignore[index]
    low_vpp = [score for query, score in rows if score < threshold and query in asked]
    gap = 100 * len(low_vpp) / len(rows)
    assert "vpp" in said[1].lower()
    assert gap / 10 < int(said[2]) < gap + 4  # the gap may be several topics
    assert float(said[3]) == pytest.approx(sum(low_vpp) / len(low_vpp), abs=0.1)
    (table,) = [each.value for each in app.dataframe if "share of all" in each.value]
    told = table["topic"] + table["keywords"] + table["typical question"]
    about_vpp = table[told.str.lower().str.contains("vpp|ipsec|acl|nat|memif")]
    assert 100 * about_vpp["share of all"].sum() == pytest.approx(gap, abs=gap / 4)


WORDS = ("memif", "nat", "tap", "ipsec", "bonds", "vxlan", "acl", "lb", "gre", "mpls")


def ask_in_vain(store: Store, words: Sequence[str], scope: Scope = DEFAULT_SCOPE) -> None:
    """Twenty questions about these words, which score low, and as many others, which do not."""
    now = datetime.now(UTC)
    asked = [f"how do I set up {word}" for word in words]
    rows = [Retrieval(now - timedelta(minutes=at), asked[at % len(asked)], 0.1, scope=scope) for at in range(20)]
    append_retrievals(store, [*rows, *(replace(row, query="what is an mbuf", score=0.9) for row in rows)])
    Embedder(cache=VectorCache(store)).embed([row.query for row in rows])


@pytest.mark.deep
def test_one_topic_is_counted_as_one_on_the_page_and_on_the_overview(empty_url: str, store: Store) -> None:
    ask_in_vain(store, WORDS[:1])
    assert verdict(open_page("coverage")).startswith("1 topic scores low, 50% of all questions together.")
    assert "1 topic scores low in the last 7 days" in cards_of(open_page("overview"))


@pytest.mark.deep
def test_typical_questions_link_to_their_newest_trace(empty_url: str, store: Store) -> None:
    ask_in_vain(store, WORDS[:1])
    assert not any("trace" in each.value for each in open_page("coverage").dataframe)
    link = "https://traces.example/{trace_id}"
    save_service(store, ServiceSettings("default", trace_link=link), Act("ada", "where traces are"))
    now = datetime.now(UTC)
    traces = [(3, "old"), (1, "a b<c>"), (0, None)]
    rows = [
        Retrieval(now - timedelta(seconds=ago), f"how do I set up {WORDS[0]}", 0.1, trace_id=t) for ago, t in traces
    ]
    append_retrievals(store, rows)
    forget()
    (table,) = [each.value for each in open_page("coverage").dataframe if "trace" in each.value]
    assert list(table["trace"]) == ["https://traces.example/a%20b%3Cc%3E"]


@pytest.mark.deep
def test_who_may_not_read_questions_sees_counts_only(
    empty_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_in_vain(store, WORDS[:3])
    assert "memif" in shown(open_page("coverage"))
    monkeypatch.setattr("app.visitor.hold_everywhere", lambda role: Roles((("*", role),)))
    app = open_page("coverage")
    assert "50% of all questions" in verdict(app)
    assert "topics go by their ids" in shown(app)
    for page in ("coverage", "overview"):
        assert not any(word in shown(open_page(page)) for word in (*WORDS[:3], "how do I")), page


def shown(app: AppTest) -> str:
    """Everything that a visitor could read: texts, tables, charts and the choices of a list."""
    texts = [*markdown_of(app), *(each.value for each in app.caption), *(str(each.options) for each in app.selectbox)]
    tables = [table.value.to_csv() for table in app.dataframe]
    charts = [str(chart.proto) for chart in app.get("plotly_chart")]
    return text_of("\n".join([*texts, *tables, *charts]))


@pytest.mark.deep
def test_a_topic_is_decided_under_the_environment_that_is_looked_at(empty_url: str, store: Store) -> None:
    create_flag(store, "tried", boolean_flag(on=True), Act("ada", "makes the environment", "staging"))
    ask_in_vain(store, WORDS, Scope("staging", "default"))
    app = open_page("coverage", environment="staging")
    next(button for button in app.button if button.label == "Save").click().run()
    assert "reason" in only_error(app)
    next(field for field in app.text_input if field.key.startswith("reason-")).set_value("asked for a lot")
    next(field for field in app.text_input if field.label == "Owner").set_value("grace")
    next(field for field in app.selectbox if field.label == "State").set_value("planned")
    next(button for button in app.button if button.label == "Save").click().run()
    assert not app.error
    (entry,) = [entry for entry in list_audit(store) if entry.action == "topic.mark"]
    assert (entry.environment, entry.reason) == ("staging", "asked for a lot")
    assert (entry.after or {})["state"] == "planned"


@pytest.mark.deep
def test_a_topic_is_renamed_and_keeps_the_name(empty_url: str, store: Store) -> None:
    ask_in_vain(store, WORDS)
    app = open_page("coverage")
    next(field for field in app.text_input if field.label == "Name of the topic").set_value("Shared memory")
    next(field for field in app.text_input if field.key.startswith("rename-reason-")).set_value("what the team says")
    next(button for button in app.button if button.label == "Rename").click().run()
    assert not app.error
    assert "Shared memory" in shown(app)
    (entry,) = [entry for entry in list_audit(store) if entry.action == "topic.rename"]
    assert entry.after == {"label": "Shared memory"}


@pytest.mark.deep
def test_hostile_queries_are_shown_as_text(empty_url: str, store: Store) -> None:
    now = datetime.now(UTC)
    words = ("mempool", "ring", "vector", "graph", "memif", "ipsec", "nat", "tap", "flow", "lcore", "numa", "hash")
    rows = [
        Retrieval(now - timedelta(minutes=at), f"{HOSTILE} {word}", score)
        for score in (0.1, 0.9)
        for at, word in enumerate(words)
    ]
    append_retrievals(store, rows)
    Embedder(cache=VectorCache(store)).embed([row.query for row in rows])  # a page leaves this to the background
    app = open_page("coverage")
    assert_shown_as_text(app)
    assert_shown_as_text(open_page("overview"))
    (typical,) = [each.value for each in app.dataframe if "question" in each.value]
    assert any(HOSTILE in str(cell) for cell in typical["question"])


@pytest.mark.deep
def test_the_backlog_has_one_table_under_four_tabs_and_a_decision_moves_a_topic(empty_url: str, store: Store) -> None:
    ask_in_vain(store, WORDS)
    app = open_page("coverage")
    table = app.dataframe[0].value
    assert {"topic", "asked", "5 weeks", "gain", "best cure", "owner"} <= set(table.columns)
    assert list(table["gain"]) == sorted(table["gain"], reverse=True)
    topic = app.selectbox(key="topic").value
    before = len(table)
    app = decide(app, "planned", owner="docs team")
    assert not app.error
    assert "Recorded as audit entry" in app.success[0].value
    assert app.selectbox(key="topic").value == topic  # what was decided about stays in view
    planned = open_page("coverage", shelf="planned").dataframe[0].value
    assert list(planned["owner"]) == ["docs team"]
    if before > 1:
        assert len(open_page("coverage", shelf="open").dataframe[0].value) == before - 1
    shown_now = shown(open_page("coverage", shelf="planned", topic=topic))
    assert "agreed on Monday" in shown_now  # the history
    next(button for button in app.button if button.label == "Undo").click().run()
    assert "is undone" in app.success[0].value
    assert len(open_page("coverage", shelf="open").dataframe[0].value) == before  # at once


def decide(app: AppTest, state: str, *, owner: str = "") -> AppTest:
    """Decide about the topic that is shown."""
    next(field for field in app.text_input if field.key.startswith("reason-")).set_value("agreed on Monday")
    next(field for field in app.text_input if field.label == "Owner").set_value(owner)
    next(field for field in app.selectbox if field.label == "State").set_value(state)
    return next(button for button in app.button if button.label == "Save").click().run()


def test_the_to_do_list_respects_decisions(empty_url: str, store: Store) -> None:
    ask_in_vain(store, WORDS[:1])
    assert "To decide (1)" in subheaders(open_page("overview"))
    decide(open_page("coverage", days="7d"), "planned", owner="docs team")
    forget()
    app = open_page("overview")
    assert "To decide (0)" in subheaders(app)
    assert "docs team, planned" in text_of(" ".join(markdown_of(app)))
    decide(open_page("coverage", days="7d"), "indexed", owner="docs team")
    forget()
    assert "waits for its measurement" in text_of(" ".join(markdown_of(open_page("overview"))))
    decide(open_page("coverage", days="7d"), "won't do")
    forget()
    said = text_of(" ".join(markdown_of(open_page("overview"))))
    assert "To decide (0)" in subheaders(open_page("overview"))
    assert "Under way" not in said
    decide(open_page("coverage", days="7d"), "open")
    forget()
    app = open_page("overview")
    next(button for button in app.button if button.label == "Snooze").click().run()
    assert "To decide (0)" in subheaders(app)
    next(button for button in app.button if button.label == "Bring back").click().run()
    assert "To decide (1)" in subheaders(app)
    assert not app.error


def subheaders(app: AppTest) -> list[str]:
    return [each.value for each in app.subheader]


def test_ninety_days_are_not_offered_and_a_link_that_asks_for_them_is_told(empty_url: str, store: Store) -> None:
    ask_in_vain(store, WORDS[:1])
    app = open_page("coverage", days="90d")
    assert "90 days are not offered here, at most 30: these are the last 30." in text_of(shown(app))
    assert "Of the last 30 days." in text_of(shown(app))


def test_a_topic_has_one_color_which_is_no_color_of_a_state(empty_url: str, store: Store) -> None:
    ask_in_vain(store, WORDS)
    app = open_page("coverage")
    charts = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    bars, dots = charts
    colors = dict(zip(bars["data"][0]["y"], bars["data"][0]["marker"]["color"], strict=True))
    assert any(text_of(each.value).endswith("of the gain of indexing") for each in app.markdown)
    assert bars["data"][0]["text"] == [f"{gain:.1f}" for gain in bars["data"][0]["x"]]  # what they are sorted by
    assert bars["layout"]["xaxis"]["title"]["text"] == "gain"
    assert not {WARNING, DANGER} & set(colors.values())
    for trace in dots["data"]:
        named = [color for label, color in colors.items() if label.startswith(trace["name"].rstrip("…")[:20])]
        assert not named or trace["marker"]["color"] in named
    assert not any(name[0].isdigit() and " · " in name for name in colors)  # no number that reads like a rank
