"""Shell: proposes cases for logged questions: what they should find, a reference, and which case they would repeat.

A proposal is a draft for a person to review; it says which index its documents come from. Nothing is stored here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.cases.cases import DRAFT, CaseSource
from core.cases.choosing import MOST_CANDIDATES, TYPICAL, Duplicate, choose_typical, find_duplicates
from core.cases.operations import NewCase
from core.cases.store import find_set
from core.coverage.asked import find_topic
from core.coverage.report import Coverage
from core.embedding.embed import Embedder
from core.errors import QuarterdeckError
from core.indexes.backends import Passage, open_indexes
from core.indexes.builds import find_live
from core.indexes.registry import Index, list_indexes
from core.log.filters import LoggedQuestion, QuestionFilter
from core.log.questions import list_matching
from quarterdeck.store import Store

REFUSAL = "The documents do not contain the answer, so a refusal is right."
MOST_AT_ONCE = 200
_PASSAGES = 5
_LONGEST_REFERENCE = 600
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A case to be, the case or question that it repeats (None for none), and which index its documents come from.

    `score` is the similarity of the best passage found; `note` says in a few words what the proposal rests on.
    """

    new: NewCase
    duplicate: Duplicate | None
    score: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Proposals:
    """Proposals for one set at the version that was compared; `left_out` counts questions without a text."""

    set_name: str
    set_version: int
    proposals: tuple[Proposal, ...]
    left_out: int = 0

    @property
    def fresh(self) -> tuple[NewCase, ...]:
        """The cases that repeat no other one."""
        return tuple(each.new for each in self.proposals if each.duplicate is None)

    @property
    def all(self) -> tuple[NewCase, ...]:
        """All of them, duplicates too."""
        return tuple(each.new for each in self.proposals)


def propose_cases(
    store: Store,
    embedder: Embedder,
    questions: Sequence[LoggedQuestion],
    set_name: str,
    *,
    threshold: float,
    topic_id: str = "",
    alias: str = "default",
) -> Proposals:
    """Return a proposal for each question, in order, and which case of the set or earlier question it repeats.

    Expected documents come from the live index where its best passage reaches `threshold`, else from the newest index
    that waits to go live; where neither answers, the proposal expects a refusal. Loads the embedding model unless all
    texts are cached. Raises SourceUnavailable.
    """
    asked = [each for each in questions[:MOST_AT_ONCE] if each.query.strip()]
    texts = list(dict.fromkeys(each.query for each in asked))
    known = find_set(store, set_name)
    cases = [each.case.question for each in known.cases]
    every = list(dict.fromkeys([*texts, *cases]))
    vectors = dict(zip(every, embedder.embed(every), strict=True)) if every else {}
    repeated = find_duplicates([each.query for each in asked], cases, vectors)
    found = _search(store, embedder, texts, vectors, alias, threshold)
    live = find_live(store, alias)
    version = live.corpus_version if live else ""
    proposals, seen = [], set[str]()
    for each in asked:
        repeat = Duplicate(each.query, each.query, 1.0) if each.query in seen else repeated.get(each.query)
        seen.add(each.query)
        source = CaseSource(each.environment, each.service, each.retrieval_id, topic_id, version)
        proposals.append(_propose(each.query, source, found.get(each.query), repeat))
    return Proposals(set_name, known.version, tuple(proposals), len(questions) - len(asked))


def propose_of_topic(
    store: Store,
    embedder: Embedder,
    coverage: Coverage,
    topic_id: str,
    set_name: str,
    *,
    most: int = TYPICAL,
) -> Proposals:
    """Return proposals for up to `most` typical questions of a topic: its medoid and those that speak for the rest.

    Questions that repeat a case of the set or each other are left out. The source of each is its newest row in the
    window. Raises NotFound and SourceUnavailable.
    """
    topic = find_topic(coverage, topic_id)
    asked = sorted((coverage.queries[member] for member in topic.members), key=lambda each: (-each.count, each.text))
    asked = asked[:MOST_CANDIDATES]
    texts = [each.text for each in asked]
    cases = [each.case.question for each in find_set(store, set_name).cases]
    known = embedder.embed(cases) if cases else None
    places = choose_typical(texts, [each.count for each in asked], embedder.embed(texts), most=most, known=known)
    chosen = [texts[place] for place in places]
    newest = _find_newest(store, coverage, chosen)
    found = propose_cases(
        store, embedder, [newest[text] for text in chosen if text in newest], set_name,
        threshold=coverage.threshold, topic_id=topic.topic_id,
    )  # fmt: skip
    return replace(found, left_out=len(chosen) - len(found.proposals))


def _find_newest(store: Store, coverage: Coverage, texts: Sequence[str]) -> dict[str, LoggedQuestion]:
    """The newest row of each text in the window of a coverage report."""
    window, found = coverage.window, dict[str, LoggedQuestion]()
    for text in texts:
        wanted = QuestionFilter(scope=coverage.scope, texts=(text,), start_ms=window.start_ms, end_ms=window.end_ms)
        for question in list_matching(store, wanted, limit=1):
            found[text] = question
    return found


@dataclass(frozen=True, slots=True)
class _Found:
    """The best passages of one index for a question; `is_answer` says whether the best one reaches the threshold."""

    index: Index
    passages: tuple[Passage, ...]
    is_live: bool
    is_answer: bool


def _search(
    store: Store,
    embedder: Embedder,
    texts: Sequence[str],
    vectors: Mapping[str, NDArray[np.float32]],
    alias: str,
    threshold: float,
) -> dict[str, _Found]:
    """What the live index finds for each text; where that scores low, what the waiting one finds if it does better."""
    live = find_live(store, alias)
    live = live if live is not None and live.model == embedder.model else None
    later = [
        index for index in list_indexes(store)
        if index.model == embedder.model and (live is None or (index.built > live.built and index.name != live.name))
    ]  # fmt: skip
    waiting = max(later, key=lambda index: index.built, default=None)
    found: dict[str, _Found] = {}
    for index, is_live in ((live, True), (waiting, False)):
        wanted = [text for text in texts if text not in found or not found[text].is_answer]
        if index is None or not wanted:
            continue
        try:
            hits = open_indexes(index.location).search(
                index.name, np.stack([vectors[text] for text in wanted]), top_k=_PASSAGES
            )
        except QuarterdeckError:  # an index without its files proposes nothing; the page of the corpus says so
            continue
        for text, passages in zip(wanted, hits, strict=True):
            is_answer = bool(passages) and passages[0].score >= threshold
            if is_answer or text not in found:
                found[text] = _Found(index, tuple(passages), is_live, is_answer)
    return found


def _propose(text: str, source: CaseSource, found: _Found | None, duplicate: Duplicate | None) -> Proposal:
    if found is None or not found.is_answer:
        score = found.passages[0].score if found and found.passages else None
        note = "no index answers it: a refusal is expected" if found else "no index of this embedding model is there"
        return Proposal(NewCase(text, (), REFUSAL, False, source, (DRAFT,)), duplicate, score, note)
    best = found.passages[0]
    kind = "the live index" if found.is_live else "the waiting index"
    source = replace(source, corpus_version=found.index.corpus_version)
    new = NewCase(text, (best.document,), _shorten(best.text), True, source, (DRAFT,))
    return Proposal(new, duplicate, best.score, f"best passage of {kind} {found.index.name}")


def _shorten(passage: str) -> str:
    """Return the first sentences of a passage, as a reference to be reviewed."""
    line = " ".join(passage.split())
    if len(line) <= _LONGEST_REFERENCE:
        return line
    kept = ""
    for sentence in _SENTENCE.split(line):
        if kept and len(kept) + len(sentence) >= _LONGEST_REFERENCE:
            break
        kept = f"{kept} {sentence}".strip()
    return kept[:_LONGEST_REFERENCE]
