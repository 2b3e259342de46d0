"""Shell: judges the newest questions of a scope by the indexes: the probability of an answer, and why one is low."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from core.coverage.answerability import (
    ANSWER_MODEL,
    FORMER,
    LEAST_PASSAGES,
    AnswerSearch,
    CoverageFinding,
    QuestionView,
    decide_finding,
)
from core.coverage.report import Coverage, find_low
from core.drift.present import LowScores
from core.embedding.embed import Embedder
from core.indexes.backends import open_indexes
from core.indexes.registry import Index, list_aliases, list_indexes, list_swaps
from core.indexes.retention import Swap
from core.log.filters import LoggedQuestion, QuestionFilter
from core.log.judgments import QuestionJudgment, find_judged, save_judgments
from core.log.questions import list_matching
from core.log.retrievals import last_days, list_scopes, today_in
from core.log.values import normalize_query
from quarterdeck.clock import to_ms
from quarterdeck.scope import Scope
from quarterdeck.store import Store

WINDOW_DAYS = 7
MOST_QUESTIONS = 500  # of a scope, the newest ones
MOST_PASSAGES = 50_000  # of an index: they are searched in memory
_MOST_OTHERS = 2  # indexes besides the live one
_MOST_LOW = 20_000

Asked = tuple[str, str]  # a question alone, and after the former ones of its session


def judge_all_questions(store: Store, embedder: Embedder, *, now: datetime, low_score: float | None) -> int:
    """Judge the newest questions of every scope; return how many were judged now."""
    scopes = list_scopes(store) if _list_usable(store, embedder, "default") else ()
    return sum(judge_questions(store, embedder, scope=scope, now=now, low_score=low_score) for scope in scopes)


def judge_questions(
    store: Store, embedder: Embedder, *, scope: Scope, now: datetime, low_score: float | None = None,
    alias: str = "default",
) -> int:  # fmt: skip
    """Judge the newest 500 questions of the last seven days that no newer judgment has; return how many.

    A question is judged by the index that was live when it was asked; one that scores low also by the two newest others
    of the embedder's model. Indexes with fewer than 50 or more than 50,000 passages are left out. A new index makes
    all of them due again. Does nothing without a usable live index. Raises SourceUnavailable.
    """
    usable = _list_usable(store, embedder, alias)
    if not usable:
        return 0
    today = today_in(store, scope, now=now)
    wanted = QuestionFilter(scope=scope, start_ms=last_days(WINDOW_DAYS, until=today).start_ms)
    questions = [each for each in list_matching(store, wanted, limit=MOST_QUESTIONS) if each.query]
    since = max(to_ms(index.built) for index in usable)
    known = find_judged(store, scope.environment, [each.retrieval_id for each in questions], since_ms=since)
    if all(each.retrieval_id in known for each in questions):
        return 0
    judged = _judge(
        _Bench(embedder, usable), _read_sessions(questions), list_swaps(store, alias),
        find_low(store, scope=scope, today=today, low_score=low_score),
    )  # fmt: skip
    new = [each for each in judged if each.retrieval_id not in known]
    save_judgments(store, new, scope=scope, at_ms=to_ms(now))
    return len(new)


def count_findings(store: Store, coverage: Coverage) -> dict[str, Counter[CoverageFinding]]:
    """Return how often each finding was made for the low questions of each topic, by topic id.

    Reads the newest 20,000 low questions of the report's window; those that are not judged yet are left out.
    """
    window = coverage.window
    wanted = QuestionFilter(
        scope=coverage.scope,
        below=coverage.threshold,
        bounds=coverage.low.bounds,
        start_ms=window.start_ms,
        end_ms=window.end_ms,
    )
    topic_of = {
        normalize_query(coverage.queries[member].text): topic.topic_id
        for topic in coverage.topics.topics
        for member in topic.members
    }
    found: defaultdict[str, Counter[CoverageFinding]] = defaultdict(Counter)
    for question in list_matching(store, wanted, limit=_MOST_LOW):
        topic = topic_of.get(normalize_query(question.query))
        if topic and question.finding:
            found[topic][CoverageFinding(question.finding)] += question.weight
    return dict(found)


def list_shares(found: Mapping[CoverageFinding, int]) -> dict[str, float]:
    """Return the share of each finding, 0 to 1, in the order of the findings; empty where nothing was judged."""
    total = sum(found.values())
    return {str(each): found.get(each, 0) / total for each in CoverageFinding} if total else {}


@dataclass(frozen=True, slots=True)
class _AskedRow:
    row: LoggedQuestion
    asked: Asked


class _Bench:
    """Judges questions by one index after another, so that the passages of one are in memory at a time."""

    def __init__(self, embedder: Embedder, usable: Sequence[Index]) -> None:
        self.usable = usable
        self._embedder = embedder
        self._apart = Embedder(embedder.model)  # joined questions are not cached: erasing a question would miss them

    def estimate(self, index: Index, asked: Sequence[Asked]) -> dict[Asked, float]:
        """Return the probability that the index answers each question."""
        distinct = list(dict.fromkeys(asked))
        chunks = open_indexes(index.location).list_chunks(index.name)
        texts = [chunk.text for chunk in chunks]
        search = AnswerSearch(texts, self._embedder.embed(texts))
        evidence = [search.weigh(views) for views in self._view(distinct)]
        return dict(zip(distinct, ANSWER_MODEL.estimate(evidence).tolist(), strict=True))

    def _view(self, asked: Sequence[Asked]) -> Iterator[list[QuestionView]]:
        alone = self._embedder.embed([question for question, _ in asked])
        joined = list(dict.fromkeys(after for question, after in asked if after != question))
        vectors = dict(zip(joined, self._apart.embed(joined), strict=True))
        for (question, after), vector in zip(asked, alone, strict=True):
            views = [QuestionView(question, vector)]
            yield [*views, QuestionView(after, vectors[after])] if after in vectors else views


def _judge(bench: _Bench, rows: Sequence[_AskedRow], swaps: Sequence[Swap], bound: LowScores) -> list[QuestionJudgment]:
    live, *others = bench.usable
    by_name = {index.name: index for index in bench.usable}
    searched = [by_name.get(_find_searched(swaps, each.row.ts), live) for each in rows]
    low = [bound.holds(each.row.model, each.row.similarity) for each in rows]
    found = {
        index.name: bench.estimate(index, [each.asked for each in rows])
        for index in (live, *others)
        if index in searched or any(low)
    }
    judged = []
    for each, index, is_low in zip(rows, searched, low, strict=True):
        own = found[index.name][each.asked]
        rest = [found[name][each.asked] for name in found if name != index.name]
        finding = str(decide_finding(own, rest)) if is_low else ""
        judged.append(QuestionJudgment(each.row.retrieval_id, round(own, 4), finding))
    return judged


def _read_sessions(questions: Sequence[LoggedQuestion]) -> list[_AskedRow]:
    """Return the questions, newest first, each with what was asked before in its session, up to two."""
    former: defaultdict[str, list[str]] = defaultdict(list)
    rows = []
    for row in sorted(questions, key=lambda each: each.ts):
        before = former[row.session_id] if row.session_id else []
        rows.append(_AskedRow(row, (row.query, " ".join([*before[-FORMER:], row.query]))))
        before.append(row.query)
    return rows[::-1]


def _find_searched(swaps: Sequence[Swap], at: datetime) -> str:
    """Return the name of the index that was live at a time, "" before the first swap."""
    return next((swap.index for swap in reversed(swaps) if swap.at <= at), "")


def _list_usable(store: Store, embedder: Embedder, alias: str) -> tuple[Index, ...]:
    """Return the live index and the two newest others that can be searched like it; empty if the live one cannot."""
    live = next((known.index_name for known in list_aliases(store) if known.alias == alias), None)
    fitting = [
        index
        for index in list_indexes(store)
        if index.model == embedder.model and LEAST_PASSAGES <= index.chunks <= MOST_PASSAGES
    ]
    first = [index for index in fitting if index.name == live]
    return (*first, *islice((index for index in fitting if index.name != live), _MOST_OTHERS)) if first else ()
