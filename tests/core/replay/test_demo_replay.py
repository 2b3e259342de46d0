"""A replay of the demo's real questions predicts the mean that the week after the swap then has."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from core.audit.acts import Act
from core.config import PROJECT
from core.coverage.assignments import assign_topics
from core.coverage.report import report_coverage
from core.demo.traffic import LIVE_INDEX, NEXT_INDEX, begin_new_topic, draw_traffic
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.flags.store import list_flags
from core.indexes.backends import open_indexes
from core.indexes.operations import swap_index
from core.indexes.registry import get_index
from core.log.retrievals import get_span, last_days, list_daily_scores
from core.replay.replaying import ReplayPlan, replay_index
from quarterdeck.flags import FlagSet
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.conftest import CHAT, Demo

pytestmark = [pytest.mark.slow, pytest.mark.deep]


@pytest.fixture
def copy(demo: Demo, tmp_path: Path) -> Iterator[Store]:
    with (
        closing(sqlite3.connect(demo.config.home / "quarterdeck.db")) as source,
        closing(sqlite3.connect(tmp_path / "copy.db")) as to,
    ):
        source.backup(to)
    opened = Store(f"sqlite:///{tmp_path / 'copy.db'}")
    yield opened
    opened.close()


def mean_of(store: Store, window) -> float:
    days = list_daily_scores(store, window=window, scope=CHAT)
    return sum(day.count * day.mean for day in days) / sum(day.count for day in days)


def test_predicted_and_measured_means_agree_when_the_next_index_goes_live(demo: Demo, copy: Store) -> None:
    span = get_span(copy, CHAT)
    assert span
    now, cache = span[1], VectorCache(copy)
    today = now.date()
    coverage = report_coverage(copy, Embedder(cache=cache), scope=CHAT, today=today, window_days=7)
    before = last_days(7, until=today)
    live, candidate = get_index(copy, LIVE_INDEX), get_index(copy, NEXT_INDEX)
    plan = ReplayPlan(CHAT, before, coverage.threshold)
    found = replay_index(
        copy, lambda model: Embedder(model, cache=cache), live, candidate, plan, topics=assign_topics(coverage)
    )
    assert found.embedded == 0
    assert found.live_score == pytest.approx(found.logged_score, abs=0.01)  # the chat's log has what the search gives
    assert "vpp" in " ".join(each.label for each in found.topics if each.verdict == "wins").casefold()

    swap_index(copy, "default", NEXT_INDEX, Act("ada", "covers VPP"), expected=LIVE_INDEX)
    later = now + timedelta(days=12)  # other weekdays, so that other questions are drawn: 6% are the same
    queries = {
        path.stem: tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
        for path in sorted((PROJECT / "data/demo/queries").glob("*.txt"))
    }
    flags = {flag.key: flag.definition for flag in list_flags(copy, "production")}
    drawn = draw_traffic(queries, FlagSet.from_definitions({"flags": flags}), environment="production", now=later)
    asked = [each for each in drawn if each.scope == CHAT and each.ts >= begin_new_topic(later)]
    vectors = Embedder(cache=cache).embed([each.text for each in asked])
    hits = open_indexes(candidate.location).search(NEXT_INDEX, vectors, top_k=1)
    append_retrievals(
        copy,
        [
            Retrieval(
                each.ts, each.text, hit[0].score, session_id=each.session_id, user_id=each.user_id,
                index_version=NEXT_INDEX, scope=CHAT,
            )
            for each, hit in zip(asked, hits, strict=True)
        ],
    )  # fmt: skip
    measured = mean_of(copy, last_days(7, until=later.date())) - mean_of(copy, before)
    print(f"predicted {found.score}, measured {measured:+.4f}, {found.replayed} questions")
    assert abs(found.score.value - measured) < 0.02
    assert found.predicted.low <= measured <= found.predicted.high
