"""The field's words that pages use, explained where they stand: on hover, and in the help. As in docs/glossary.md."""

import re
from collections.abc import Iterable

TERMS = {
    "top-1 similarity, score": "the similarity of the query and the best passage found, from 0 to 1 (a cosine); none "
    "when nothing was found",
    "reference": "the days that the current days are compared with; frozen while retrieval is drifting",
    "low": "scoring below the lowest tenth of the reference (or `QUARTERDECK_LOW_SCORE`)",
    "gain": "what indexing a topic would bring: its questions × the score that they lack × how alike they are "
    "(cohesion to the fourth power); topics are sorted by it",
    "topic": "a cluster of low-scoring questions about the same thing",
    "coverage gap, gap": "a topic on the backlog: it needs a decision about indexing",
    "cohesion": "how similar the questions of a topic are to each other, from 0 to 1",
    "answerability": "the probability that an index answers a question, from 0 to 1",
    "emerging topic": "a group of questions that the four weeks before hardly had, called by a sequential test",
    "finding": "why a question scores low: *not indexed*, *indexed but not found* or *outdated* (another index answers "
    "it)",
    "arm": "the group of users who get one variant, and their retrievals",
    "faithfulness": "the share of an answer's claims that the retrieved passages support, from 0 to 1",
    "relevancy": "how much an answer is about its question",
    "refusal accuracy": "the share of cases that are refused exactly when they must be",
    "frontier": "the prompts that no other prompt beats in both cost and faithfulness",
    "case": "a test question with its expected answer, documents, or refusal",
    "golden set": "the cases whose documents an index has to find before it goes live",
    "index alias": "the name that services use (`default`) and that points at one index at a time",
    "probe": "the check of an index before it goes live: it must find the documents of the golden set",
    "canary": "a flag with the variants blue (stable) and green (new), watched by the server, which can roll it back",
    "experiment": "an A/B test of a flag's variants, decided by a person",
    "index canary": "a canary whose blue and green are two vector indexes of one alias",
    "rehearsal": "what a rollback would do to the questions of the log, told before it is made",
    "layer": "a space of all users, of which each experiment takes a slice that no other one has",
    "holdout": "users who are kept out of a change, to compare with",
    "guardrail": "a metric that may not get worse than its margin while another metric decides",
    "signal": "a metric that pauses a canary when it is surely worse, and never rolls it back",
    "margin": "how much worse a metric may be before it counts as harm",
    "sample-ratio mismatch": "users are not split as the flag says; the figures are then not to be trusted",
    "kill switch": "turning a flag off at once; every caller gets the default in its own code",
}
# What is explained wherever a sentence or the head of a column has it; the other terms only in the help.
_HOVERED = (
    "top-1 similarity, score", "reference", "low", "gain", "arm", "refusal accuracy", "frontier", "faithfulness",
    "relevancy", "answerability", "cohesion", "golden set", "sample-ratio mismatch", "guardrail", "holdout",
)  # fmt: skip
_EVERYWHERE = ("top-1 similarity, score", "low")


def spell(term: str) -> tuple[str, ...]:
    """Return the words by which a term goes: `score` and `top-1 similarity` are one."""
    return tuple(word.strip() for word in term.split(","))


_PATTERNS = {
    term: re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, spell(term)))})s?(?![\w-])", re.IGNORECASE)
    for term in _HOVERED
}


def explain(*texts: str) -> str | None:
    """Return what the terms in some texts mean, as the Markdown of a hover text; None where none is in them.

    >>> explain("the arm of a user")
    '**arm**: the group of users who get one variant, and their retrievals'
    """
    said = " ".join(texts)
    return list_terms(term for term in _HOVERED if _PATTERNS[term].search(said)) or None


def explain_chart(*texts: str) -> str | None:
    """Return what `explain` does, without the two terms that are on every page: its sentence explains those.

    >>> explain_chart("2 of 3 prompts are on the frontier", "score")
    '**frontier**: the prompts that no other prompt beats in both cost and faithfulness'
    """
    said = " ".join(texts)
    return list_terms(term for term in _HOVERED if term not in _EVERYWHERE and _PATTERNS[term].search(said)) or None


def define(name: str) -> str | None:
    """Return what a column of this name holds; None for a name that is no term.

    >>> define("arm")
    'the group of users who get one variant, and their retrievals'
    >>> define("relevancy_mean")
    'how much an answer is about its question'
    """
    plain_name = name.casefold().replace("_", " ").removesuffix(" mean").removesuffix(" min")
    return next((TERMS[term] for term in _HOVERED if plain_name in spell(term)), None)


def list_terms(terms: Iterable[str]) -> str:
    """Return terms with their meanings as Markdown, a paragraph each."""
    return "\n\n".join(f"**{term}**: {TERMS[term]}" for term in terms)
