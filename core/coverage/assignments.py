"""Shell: which topic each low-scoring question belongs to, as the last grouping has it."""

from collections.abc import Mapping
from dataclasses import dataclass

from core.coverage.report import Coverage
from core.drift.present import LowScores
from core.log.filters import LoggedQuestion
from core.log.values import normalize_query


@dataclass(frozen=True, slots=True)
class TopicAssignments:
    """The topics of a window by id, the largest first, and the topic of each text that scores `low`."""

    labels: Mapping[str, str]
    by_text: Mapping[str, str]
    low: LowScores

    def find(self, question: LoggedQuestion) -> str:
        """Return the id of a question's topic; "" for one that scores well, is in none, or was not grouped."""
        if not self.low.holds(question.model, question.similarity):
            return ""
        return self.by_text.get(normalize_query(question.query), "")


def assign_topics(coverage: Coverage) -> TopicAssignments:
    """Return the assignments of a coverage report."""
    topics = coverage.topics.topics
    by_text = {
        normalize_query(coverage.queries[member].text): topic.topic_id for topic in topics for member in topic.members
    }
    return TopicAssignments({topic.topic_id: topic.label for topic in topics}, by_text, coverage.low)
