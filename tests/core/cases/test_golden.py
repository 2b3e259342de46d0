"""The golden queries of an index swap: files, sets, the marked set, and topics that are marked indexed."""

from pathlib import Path

import pytest

from core.audit.acts import Act
from core.cases.cases import CaseSource, render_cases
from core.cases.golden import INDEXED, GoldenChoice, load_golden
from core.cases.operations import NewCase, add_cases, import_cases, mark_golden
from core.coverage.backlog import TopicState, get_backlog_topic
from core.coverage.operations import mark_topic
from core.errors import InvalidInput, NotFound
from core.indexes.probes import GoldenQuery, Hit, ProbeLimits, check_golden
from core.tracking.cases import Case
from quarterdeck.schema import topics
from quarterdeck.store import Store

ME = Act("ada", "a test")
FILED = (
    Case("c01", "Who frees an mbuf?", ("mbuf.md",), "The driver.", answerable=True),
    Case("c02", "How do I brew tea?", (), "A refusal is right.", answerable=False),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "golden.jsonl"
    path.write_text(render_cases(FILED), encoding="utf-8")
    return path


def ask_about_vpp(store: Store) -> None:
    """A topic on the backlog with three cases, one of which expects a refusal and one repeats a case of the file."""
    named = {"model": "m", "centroid": b"\0" * 16, "first_seen_ms": 1, "last_seen_ms": 2, "owner": "", "note": ""}
    with store.begin() as connection:
        connection.execute(topics.insert().values(topic_id="t1", label="vpp", state="open", version=1, **named))
    source = CaseSource("production", "chat", "q-1", "t1")
    new = [
        NewCase("Does VPP run on one core?", ("vpp.md",), "Yes.", answerable=True, source=source),
        NewCase("Is VPP free of charge?", (), "A refusal is right.", answerable=False, source=source),
        NewCase("Who frees an mbuf?", ("mbuf.md",), "The driver.", answerable=True, source=source),
    ]
    add_cases(store, "gaps", new, ME)


def texts(found: tuple[GoldenQuery, ...]) -> list[tuple[str, str]]:
    return [(query.text, query.origin) for query in found]


def test_a_file_is_used_until_a_set_is_marked(store: Store, file: Path) -> None:
    assert load_golden(store, GoldenChoice()) == ()
    assert texts(load_golden(store, GoldenChoice(fallback=file))) == [("Who frees an mbuf?", "golden.jsonl")]
    import_cases(store, "qa", FILED, ME)
    mark_golden(store, "qa", ME)
    assert texts(load_golden(store, GoldenChoice(fallback=file))) == [("Who frees an mbuf?", "qa@1")]
    assert texts(load_golden(store, GoldenChoice(file=file))) == [("Who frees an mbuf?", "golden.jsonl")]
    with pytest.raises(NotFound):
        load_golden(store, GoldenChoice(set_name="gone"))
    with pytest.raises(InvalidInput, match="either"):
        load_golden(store, GoldenChoice(file=file, set_name="qa"))


def test_a_topic_marked_indexed_adds_its_cases_and_no_other_topic_does(store: Store, file: Path) -> None:
    ask_about_vpp(store)
    assert len(load_golden(store, GoldenChoice(file=file))) == 1
    mark_topic(store, get_backlog_topic(store, "t1"), TopicState.INDEXED, ME)
    found = load_golden(store, GoldenChoice(file=file))
    assert texts(found) == [("Who frees an mbuf?", "golden.jsonl"), ("Does VPP run on one core?", INDEXED)]
    check, missed = check_golden(found, [[Hit("mbuf.md", "t", 0.9)], []], ProbeLimits())
    assert not check.passed
    assert check.reason.startswith("1 of 2 golden queries find their document in the top 5 (90% required; 1 of")
    assert f"1 of {INDEXED}" in check.reason
    assert [query.text for query in missed] == ["Does VPP run on one core?"]
    mark_topic(store, get_backlog_topic(store, "t1"), TopicState.WONT_DO, ME)
    assert len(load_golden(store, GoldenChoice(file=file))) == 1
