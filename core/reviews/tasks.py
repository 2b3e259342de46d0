"""Rule: what reviewers may be asked about an answer, and which labels they give."""

from dataclasses import dataclass
from enum import StrEnum


class ReviewTask(StrEnum):
    """What is labeled: the name of the score that a label gives."""

    FAITHFULNESS = "faithfulness"
    RELEVANCY = "relevancy"
    FEEDBACK = "feedback"


class ReviewRule(StrEnum):
    """How the questions of a queue were chosen. Only a random sample says something about all answers."""

    RANDOM = "random"
    LOW = "low scores"
    TOPIC = "per topic"
    DISAGREEMENT = "judge and user disagree"
    SELECTION = "selection"


@dataclass(frozen=True, slots=True)
class LabelChoice:
    """A label: its word, its value, and the key that gives it."""

    word: str
    value: float
    key: str


QUESTIONS = {
    ReviewTask.FAITHFULNESS: "Is what the answer says supported by the documents that were found?",
    ReviewTask.RELEVANCY: "Does the answer answer the question?",
    ReviewTask.FEEDBACK: "Is this a good answer?",
}
_THREE = (LabelChoice("Yes", 1.0, "1"), LabelChoice("Partly", 0.5, "2"), LabelChoice("No", 0.0, "3"))
CHOICES = {
    ReviewTask.FAITHFULNESS: _THREE,
    ReviewTask.RELEVANCY: _THREE,
    ReviewTask.FEEDBACK: (LabelChoice("Good", 1.0, "1"), LabelChoice("Bad", -1.0, "2")),
}
JUDGED = (ReviewTask.FAITHFULNESS, ReviewTask.RELEVANCY)  # what judges score too
