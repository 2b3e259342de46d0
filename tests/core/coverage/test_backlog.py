from dataclasses import replace

import numpy as np
import pytest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.coverage.backlog import (
    TopicState,
    forget_labels,
    get_backlog_topic,
    list_backlog,
    list_topic_ids,
    record_sightings,
)
from core.coverage.operations import mark_topic, rename_topic
from core.coverage.topics import find_topics, recognize
from core.errors import Conflict, InvalidInput, NotFound
from core.log.values import AskedQuery
from core.reverts import revert
from quarterdeck.scope import Scope

ME = Act("ada", "agreed on Monday")
HOUR_MS = 3_600_000


def blobs(count: int = 20) -> tuple[list[AskedQuery], np.ndarray]:
    """Two topics: queries around two axes."""
    rng = np.random.default_rng(1)
    rows = np.vstack([np.eye(16)[axis] + rng.normal(0, 0.02, (count, 16)) for axis in (0, 1)])
    words = ("vpp graph node", "card arrival")
    queries = [AskedQuery(f"{words[at // count]} {at}", 3, 0.2) for at in range(2 * count)]
    return queries, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def seen(store):
    queries, vectors = blobs()
    topics = find_topics(queries, vectors, clusters=2).topics
    record_sightings(store, topics, "m1", at_ms=HOUR_MS)
    return topics


def test_a_gap_keeps_its_id_and_its_first_day_from_run_to_run(store, seen):
    queries, vectors = blobs(30)
    known = [topic.known for topic in list_backlog(store, "m1")]
    again = find_topics(queries, vectors, clusters=2, previous=known).topics
    record_sightings(store, again, "m1", at_ms=5 * HOUR_MS)
    assert {topic.topic_id for topic in again} == {topic.topic_id for topic in seen}
    assert {topic.first_seen.hour for topic in list_backlog(store, "m1")} == {1}
    assert {topic.last_seen.hour for topic in list_backlog(store, "m1")} == {5}


def test_a_decision_is_audited_and_survives_the_next_sighting(store, seen):
    topic = get_backlog_topic(store, seen[0].topic_id)
    assert topic.state is TopicState.OPEN
    mark_topic(store, topic, TopicState.PLANNED, ME, owner="ada", note="with v2")
    record_sightings(store, seen, "m1", at_ms=2 * HOUR_MS)
    marked = get_backlog_topic(store, seen[0].topic_id)
    assert (marked.state, marked.owner, marked.note) == (TopicState.PLANNED, "ada", "with v2")
    entry = list_audit(store)[0]
    assert (entry.action, entry.target, entry.after["state"]) == ("topic.mark", topic.topic_id, "planned")
    revert(store, entry.entry_id, ME)
    assert get_backlog_topic(store, topic.topic_id).state is TopicState.OPEN


def test_a_renamed_topic_keeps_its_name_and_its_id_until_that_is_undone(store, seen):
    first = seen[0].label
    rename_topic(store, get_backlog_topic(store, seen[0].topic_id), "  Graph nodes ", ME)
    entry = list_audit(store)[0]
    assert (entry.action, entry.before, entry.after) == ("topic.rename", {"label": first}, {"label": "Graph nodes"})
    queries, vectors = blobs(30)
    again = find_topics(queries, vectors, clusters=2, previous=[topic.known for topic in list_backlog(store, "m1")])
    record_sightings(store, again.topics, "m1", at_ms=5 * HOUR_MS)
    kept = {topic.topic_id: topic.label for topic in again.topics}
    assert kept[seen[0].topic_id] == "Graph nodes"
    assert {topic.topic_id: topic.label for topic in list_backlog(store, "m1")} == kept
    revert(store, entry.entry_id, ME)
    assert get_backlog_topic(store, seen[0].topic_id).label == first


def test_a_name_that_is_empty_or_longer_than_a_line_is_refused(store, seen):
    topic = get_backlog_topic(store, seen[0].topic_id)
    for label in ("  ", "x" * 81, "a\x00b"):
        with pytest.raises(InvalidInput, match="label"):
            rename_topic(store, topic, label, ME)


def test_a_label_that_was_a_forgotten_question_is_made_anew(store, seen):
    with store.begin() as connection:
        forget_labels(connection, [seen[0].label.casefold()])
    assert get_backlog_topic(store, seen[0].topic_id).label == ""
    record_sightings(store, [replace(seen[0], label="another question")], "m1", at_ms=2 * HOUR_MS)
    assert get_backlog_topic(store, seen[0].topic_id).label == "another question"


def test_the_second_of_two_who_decide_gets_a_conflict(store, seen):
    topic = get_backlog_topic(store, seen[0].topic_id)
    mark_topic(store, topic, TopicState.PLANNED, ME)
    with pytest.raises(Conflict):
        mark_topic(store, topic, TopicState.WONT_DO, ME)


def test_topics_of_another_model_are_another_backlog(store, seen):
    assert list_backlog(store, "m2") == ()
    with pytest.raises(NotFound, match="no topic 'nope'"):
        get_backlog_topic(store, "nope")


def test_the_same_questions_in_staging_are_gaps_of_their_own_with_decisions_of_their_own(store, seen):
    queries, vectors = blobs()
    staging = Scope("staging", "answers")
    there = recognize(find_topics(queries, vectors, clusters=2), (), list_topic_ids(store)).topics
    record_sightings(store, there, "m1", at_ms=2 * HOUR_MS, scope=staging)
    assert not {topic.topic_id for topic in there} & {topic.topic_id for topic in seen}
    topic = get_backlog_topic(store, there[0].topic_id)
    assert topic.scope == staging
    mark_topic(store, topic, TopicState.WONT_DO, ME)
    assert {topic.state for topic in list_backlog(store, "m1")} == {TopicState.OPEN}
    assert {topic.state for topic in list_backlog(store, "m1", staging)} == {TopicState.OPEN, TopicState.WONT_DO}
    entry = list_audit(store)[0]
    assert entry.environment == "staging"
    revert(store, entry.entry_id, ME)
    assert {topic.state for topic in list_backlog(store, "m1", staging)} == {TopicState.OPEN}
