"""Rule: why the passages nearest to a topic's questions do not answer them: which words of the questions they lack."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from core.coverage.labels import subject_words

_MOST_DOCUMENTS, _MOST_WORDS = 5, 3


@dataclass(frozen=True, slots=True)
class NearPassage:
    """A passage found by a search for a question; `score` is their cosine similarity, 0 to 1."""

    question: str
    document: str
    section: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Miss:
    """One document near a topic: its best passage, how many questions found it, and what it lacks of them."""

    document: str
    section: str
    score: float
    questions: int
    lacks: tuple[str, ...]

    @property
    def reason(self) -> str:
        """Why it is no answer, as one clause."""
        if not self.lacks:
            return "has the words, but is about something else"
        return f"says nothing of {', '.join(self.lacks)}"


def explain_misses(passages: Sequence[NearPassage]) -> tuple[Miss, ...]:
    """Return up to five documents nearest to the questions, the nearest first, and the words that each lacks.

    A document lacks a word if a question that found it has this word, the word carries its subject (no stop word), and
    none of the document's found passages has it; endings are stripped. Names the three words that most of the questions
    have. It says what is missing, not what the answer would be.
    """
    by_document: dict[str, list[NearPassage]] = {}
    for passage in passages:
        by_document.setdefault(passage.document, []).append(passage)
    misses = []
    for document, found in by_document.items():
        best = max(found, key=lambda passage: passage.score)
        questions = {passage.question for passage in found}
        misses.append(Miss(document, best.section, best.score, len(questions), _lacking(found, sorted(questions))))
    return tuple(sorted(misses, key=lambda miss: (-miss.score, miss.document))[:_MOST_DOCUMENTS])


def _lacking(found: Sequence[NearPassage], questions: Sequence[str]) -> tuple[str, ...]:
    held = {stem for passage in found for stem in subject_words(f"{passage.section}\n{passage.text}")}
    wanted: Counter[str] = Counter()
    written: dict[str, str] = {}
    for question in questions:
        for stem, word in subject_words(question).items():
            if stem not in held:
                wanted[stem] += 1
                written.setdefault(stem, word)
    ranked = sorted(wanted, key=lambda stem: (-wanted[stem], stem))
    return tuple(written[stem] for stem in ranked[:_MOST_WORDS])
