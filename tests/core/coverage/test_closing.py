from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from core.audit.acts import Act
from core.coverage.backlog import list_backlog, record_sightings
from core.coverage.closing import measure_closing
from core.coverage.topics import find_topics
from core.drift.present import LowScores
from core.embedding.chunks import Chunk
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.indexes.backends import open_indexes
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index
from core.log.values import AskedQuery
from quarterdeck.clock import to_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval

SEEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHIPPED = SEEN + timedelta(days=10)
TODAY = date(2026, 3, 20)
TEXTS = [f"vpp question {n}" for n in range(20)] + [f"other question {n}" for n in range(20)]


@pytest.fixture
def gap(store):
    """A gap of twenty questions around one axis, twenty others around another, one index live and one waiting."""
    rng = np.random.default_rng(2)
    rows = np.vstack([np.eye(12)[at // 20] + rng.normal(0, 0.03, 12) for at in range(40)]).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    VectorCache(store).save_vectors("m1", TEXTS, rows)
    topics = find_topics([AskedQuery(text, 2, 0.3) for text in TEXTS], rows, clusters=2).topics
    record_sightings(store, topics, "m1", at_ms=to_ms(SEEN))
    for name in ("docs-v1", "docs-v2"):
        register_index(store, Index(name, "here", name[-2:], "m1", 1, SEEN, "ada"), Act("ada", "built", at=SEEN))
    swap_index(store, "default", "docs-v1", Act("ada", "first", at=SEEN - timedelta(days=1)), expected=None)
    ask(store, SHIPPED - timedelta(days=3), 0.3)
    vpp = next(topic for topic in topics if "vpp" in topic.sample_queries[0])
    return next(known for known in list_backlog(store, "m1") if known.topic_id == vpp.topic_id)


def ask(store, when: datetime, vpp_score: float, other_score: float = 0.3, texts=TEXTS) -> None:
    scored = [(text, vpp_score if text.startswith("vpp") else other_score) for text in texts]
    append_retrievals(store, [Retrieval(when, text, score) for text, score in scored])


def measure(store, gap):
    embedder = Embedder("m1", cache=VectorCache(store))
    return measure_closing(store, embedder, gap, low=LowScores(0.47), today=TODAY)


def ship(store) -> None:
    swap_index(store, "default", "docs-v2", Act("ada", "ship v2", at=SHIPPED), expected="docs-v1")


def test_nothing_is_measured_before_an_index_ships(store, gap):
    assert measure(store, gap) is None


def test_a_gap_whose_questions_score_well_since_is_closed(store, gap):
    ship(store)
    ask(store, SHIPPED + timedelta(days=2), 0.65)
    found = measure(store, gap)
    assert (found.index_name, found.shipped, found.closed) == ("docs-v2", SHIPPED.date(), True)
    assert (found.before_count, round(found.before_score, 6)) == (20, 0.3)
    assert found.after_count >= 18
    assert round(found.after_score, 6) == 0.65


def test_a_gap_whose_questions_still_score_low_is_not(store, gap):
    ship(store)
    ask(store, SHIPPED + timedelta(days=2), 0.32, other_score=0.9)
    assert measure(store, gap).closed is False


def test_a_handful_of_questions_tells_nothing_yet(store, gap):
    ship(store)
    ask(store, SHIPPED + timedelta(days=2), 0.65, texts=TEXTS[:5])
    found = measure(store, gap)
    assert found.closed is None
    assert 0 < found.after_count <= 5


def test_a_swap_from_before_the_gap_was_seen_says_nothing_about_it(store, gap):
    ship(store)
    assert measure(store, replace(gap, first_seen=SHIPPED + timedelta(days=1))) is None


def test_a_rollback_is_no_cure(store, gap):
    ship(store)
    ask(store, SHIPPED + timedelta(days=2), 0.65)
    swap_index(
        store, "default", "docs-v1", Act("ada", "back", at=SHIPPED + timedelta(days=4)), expected="docs-v2",
        rollback=True,
    )  # fmt: skip
    found = measure(store, gap)
    assert (found.index_name, found.undone, found.closed) == ("docs-v2", SHIPPED.date() + timedelta(days=4), None)
    assert found.is_cured is False


@pytest.mark.slow
def test_the_questions_from_before_are_searched_again_in_the_index_that_went_live(store, gap, tmp_path):
    known = VectorCache(store).get_vectors("m1", TEXTS)
    about = [text for text in TEXTS if text.startswith("vpp")]
    built, location = SHIPPED - timedelta(days=1), str(tmp_path / "indexes")
    chunks = [Chunk(f"{at}.md", "", text) for at, text in enumerate(about)]
    open_indexes(location).build("docs-v3", chunks, np.array([known[text] for text in about], dtype=np.float32))
    register_index(store, Index("docs-v3", location, "v3", "m1", len(chunks), built, "ada"), Act("ada", "built"))
    swap_index(store, "default", "docs-v3", Act("ada", "ship", at=SHIPPED), expected="docs-v1")
    found = measure(store, gap)
    assert (found.closed, found.after_count, found.before_count) == (None, 0, 20)
    assert (found.searched_count, found.covered_share, found.is_cured) == (20, 1.0, True)
    assert found.searched_score > 0.99
