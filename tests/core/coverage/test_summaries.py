"""Titles and summaries by a model: asked once, kept, and never over a name that people gave."""

from dataclasses import dataclass, field

import pytest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.coverage.backlog import get_backlog_topic, list_backlog, record_sightings
from core.coverage.operations import rename_topic
from core.coverage.summaries import get_summary, summarize_topics
from core.coverage.topics import Topics, find_topics
from core.errors import SourceUnavailable
from quarterdeck.store import Store
from tests.core.coverage.test_topics import asked, blobs

ME = Act("ada", "named by a model")
ANSWER = 'Sure: {"title": "Loading plugins", "summary": "How plugins are loaded."}'


@dataclass(frozen=True)
class Reply:
    text: str


@dataclass
class Writer:
    """Says the same to each question, and notes what it was asked."""

    says: str = ANSWER
    name: str = "small-1"
    heard: list[str] = field(default_factory=list)

    def complete(self, text: str, *, max_tokens: int) -> Reply:
        self.heard.append(text)
        return Reply(self.says)


@pytest.fixture
def found(store: Store) -> Topics:
    topics = find_topics(asked((14,)), blobs((14,)), clusters=1)
    record_sightings(store, topics.topics, "m1", at_ms=0)
    return topics


def test_a_model_names_each_topic_once(store: Store, found: Topics) -> None:
    writer = Writer()
    (written,) = summarize_topics(store, found.topics, writer, ME)
    assert (written.title, written.summary, written.model) == ("Loading plugins", "How plugins are loaded.", "small-1")
    assert get_summary(store, found.topics[0].topic_id) == written
    assert [topic.label for topic in list_backlog(store, "m1")] == ["Loading plugins"]
    assert list_audit(store)[0].action == "topic.summarize"
    assert summarize_topics(store, found.topics, writer, ME) == ()
    assert len(writer.heard) == 1
    assert all(query in writer.heard[0] for query in found.topics[0].sample_queries)


def test_a_name_that_somebody_gave_stays(store: Store, found: Topics) -> None:
    topic_id = found.topics[0].topic_id
    rename_topic(store, get_backlog_topic(store, topic_id), "Plugins", ME)
    summarize_topics(store, found.topics, Writer(), ME)
    assert get_backlog_topic(store, topic_id).label == "Plugins"


@pytest.mark.parametrize("says", ["no idea", "{broken", '{"title": "", "summary": "x"}', '{"title": 3}', "[1]"])
def test_an_answer_that_is_no_title_changes_nothing(store: Store, found: Topics, says: str) -> None:
    with pytest.raises(SourceUnavailable, match="small-1 gave no title"):
        summarize_topics(store, found.topics, Writer(says), ME)
    assert get_summary(store, found.topics[0].topic_id) is None
