"""The shelves of the backlog, and what is a cure: the newest index that went live after a gap was seen, and stayed."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pytest

from core.coverage.exports import count_weeks, list_rows, say_effect, write_issue
from core.coverage.shelves import Closing, Shelf, ShelvedTopic, find_cure, shelve_topics
from core.coverage.topics import Topic, Trend
from core.indexes.retention import Swap
from core.log.values import AskedQuery

DAY = datetime(2026, 3, 1, tzinfo=UTC)
TOPIC = Topic(
    "t1", 0, "vpp", 30, 2, 1.0, 0.3, 0.9, 5.0, ("how do I <b>load</b> @it",), Trend.GROWING, (1.0,), (0, 1), ("vpp",)
)
CLOSED = Closing("docs-v2", date(2026, 3, 3), 40, 0.31, 12, 0.62, True, threshold=0.47)


@dataclass(frozen=True)
class Known:
    topic_id: str
    label: str = "vpp"
    state: str = "open"
    owner: str = ""
    note: str = ""
    first_seen: datetime = DAY
    last_seen: datetime = DAY


def swaps(*indexes: str) -> list[Swap]:
    names = (None, *indexes)
    return [
        Swap(DAY + timedelta(days=at), former, now)
        for at, (former, now) in enumerate(zip(names, indexes, strict=False))
    ]


@pytest.mark.parametrize(
    ("indexes", "cure", "undone"),
    [
        (("v1",), None, False),
        (("v1", "v2"), "v2", False),
        (("v1", "v2", "v1"), "v2", True),
        (("v1", "v2", "v1", "v2"), "v2", False),
        (("v1", "v2", "v3", "v2"), "v2", False),
        (("v1", "v2", "v3", "v1"), "v3", True),
    ],
)
def test_an_index_from_before_the_gap_is_no_cure_however_it_comes_back(
    indexes: tuple[str, ...], cure: str | None, undone: bool
) -> None:
    found = find_cure(swaps(*indexes), first_seen=DAY + timedelta(hours=1))
    assert (found and found.index_name) == cure
    assert bool(found and found.undone) == undone


def shelf_of(state: str, closing: Closing | None) -> Shelf:
    closings = {"t1": closing} if closing else {}
    return shelve_topics([Known("t1", state=state)], [TOPIC], closings=closings, decided={})[0].shelf


def test_a_gap_is_shipped_when_it_was_marked_or_an_index_has_closed_it() -> None:
    undone = replace(CLOSED, closed=None, undone=date(2026, 3, 4))
    by_search = replace(
        CLOSED,
        closed=None,
        after_score=None,
        after_count=0,
        searched_count=40,
        searched_score=0.6,
        covered_share=0.9,
    )
    assert [shelf_of("open", each) for each in (None, CLOSED, undone, by_search)] == [
        Shelf.OPEN, Shelf.SHIPPED, Shelf.OPEN, Shelf.SHIPPED,
    ]  # fmt: skip
    assert shelf_of("planned", replace(CLOSED, closed=False, searched_score=0.9, covered_share=1.0)) is Shelf.PLANNED
    assert shelf_of("open", replace(by_search, covered_share=0.4)) is Shelf.OPEN
    assert shelf_of("indexed", None) is Shelf.SHIPPED
    assert shelf_of("won't do", CLOSED) is Shelf.WONT_DO


def test_a_topic_that_left_the_window_keeps_its_shelf_and_its_history() -> None:
    found = shelve_topics([Known("gone", state="planned", owner="ada")], [TOPIC], closings={}, decided={"gone": DAY})
    assert [(each.topic_id, each.shelf, each.topic is None, each.decided) for each in found] == [
        ("t1", Shelf.OPEN, False, None), ("gone", Shelf.PLANNED, True, DAY),
    ]  # fmt: skip


def test_every_row_of_the_files_has_the_same_columns() -> None:
    shelved = shelve_topics([Known("gone", owner="ada")], [TOPIC], closings={"t1": CLOSED}, decided={})
    here, gone = list_rows(shelved, scored_count=60, of_drop={"t1": 0.5}, cures={"t1": "v2: 0.31 → 0.63"})
    assert list(here) == list(gone)
    assert (here["share of all"], here["share of the drop"], here["state"]) == (0.5, 0.5, "shipped")
    assert here["effect"] == "docs-v2: 0.31 before, 0.62 over 12 questions since: closed"
    assert (gone["asked"], gone["owner"]) == (None, "ada")


def test_weeks_are_added_up_at_the_latest() -> None:
    queries = [AskedQuery("a", 3, 0.2, (1, 2)), AskedQuery("b", 4, 0.2, (4,))]
    assert count_weeks(TOPIC, queries) == [1, 6]


def test_too_few_questions_are_no_verdict() -> None:
    early = replace(CLOSED, closed=None, after_score=None, after_count=0)
    assert say_effect(early) == "docs-v2: 0.31 before; too few questions since to tell"


def test_an_issue_escapes_what_users_typed_and_holds_its_marker() -> None:
    each: ShelvedTopic[Known] = ShelvedTopic("t1", "vpp", Shelf.OPEN, TOPIC, Known("t1"))
    title, body = write_issue(each, where="chat in production", cure="", days=30)
    assert title == "Coverage gap: vpp"
    assert "&lt;b&gt;load" in body
    assert "@it" not in body
    assert body.endswith("<!-- quarterdeck-topic: t1 -->")


@pytest.mark.parametrize(
    ("asked", "live"),
    [
        ("[reset it](https://evil.example)", "](http"), ("![x](https://evil.example/a.png)", "![x]"),
        ("see https://evil.example", "https://evil"), ("see WWW.evil.example", "WWW.evil"), ("as in #12", "#12"),
        ("as in GH-12", "GH-12"), ("a & b &lt;i&gt;", "&lt;i&gt;"), ("$$x$$", "$$x"), ("__b__ ~~c~~", "__b"),
    ],
)  # fmt: skip
def test_what_users_typed_is_no_markup_of_an_issue(asked: str, live: str) -> None:
    each: ShelvedTopic[Known] = ShelvedTopic(
        "t1", "vpp", Shelf.OPEN, replace(TOPIC, sample_queries=(asked,)), Known("t1")
    )
    _, body = write_issue(each, where="chat in production", cure="", days=1)
    assert live not in body
    assert "in the last 1 day," in body
