"""Rule: calls a new topic before the mean moves: groups of questions that the reference hardly has, tested by betting.

Knows vectors, texts and sessions of days; `newcomers.py` reads them from the log and keeps what was found.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from core.coverage.bets import (
    CALLS_A_YEAR,
    DAYS_A_YEAR,
    LEAST_MEMBERS,
    MOST_FORMING,
    RATIOS,
    SLACK,
    AskedDay,
    EmergingCall,
    ReferenceQuestions,
    SeenDay,
    Vectors,
    describe_call,
    find_growth,
    find_rate,
)
from core.coverage.crowds import Crowd
from core.coverage.trees import normalize

WINDOWS = (2, 7)  # days whose questions form a region: few where there is much traffic
LIVES = 14  # days for which a region is watched
MOST_BORN = 4  # regions of a day and a window
_NOVEL_SHARE = 0.5  # of the reference's own questions are as novel as one that may form a region
_NEAR = 0.6  # cosine similarity of two questions on one topic
_REACHES = (0.6, 0.7, 0.8)  # cosine similarities to the center of a region
_SEEDS = 8  # groups that are looked at closely
_SAME = 0.7  # cosine similarity of the centers of two calls of one topic


@dataclass(frozen=True, slots=True)
class EmergingTopic:
    """A topic that is new: asked by `count` sessions since a day where the reference lets `expected` be expected.

    `odds` is what a bet of 1 against "at most one and a half times as often as before" has become. `questions` are the
    most typical ones; none for who may not read them, or once they are removed from the log.
    """

    topic_id: str
    since: date
    called_on: date
    count: int
    expected: float
    odds: float
    questions: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The most typical question, "" without any."""
        return self.questions[0] if self.questions else ""


@dataclass(frozen=True, slots=True)
class EmergingReport:
    """The topics that were called in the last two weeks, the newest first, as of the end of the day `until`.

    `until` is None before the first look; `problem` says in one line why nothing can be called yet.
    """

    until: date | None
    topics: tuple[EmergingTopic, ...] = ()
    problem: str = ""


@dataclass(slots=True)
class _Region:
    """A part of the space around a center, fixed before the questions that it is tested with."""

    born: int
    known: ReferenceQuestions
    center: Vectors
    reach: float
    budget: float
    rate: float = 0.0
    texts: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    rows: list[tuple[int, str, Vectors]] = field(default_factory=list)
    logs: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(RATIOS)))
    expected: float = 0.0
    evidence: float = 0.0
    called: int | None = None

    def __post_init__(self) -> None:
        self.rate = find_rate(self.known.count_inside(self.center, self.reach), len(self.known))

    def holds(self, vectors: Vectors, nearness: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which questions lie in it."""
        toward = vectors @ self.center
        return np.asarray((toward >= self.reach) & (toward > nearness))

    def bet(self, seen: SeenDay) -> None:
        """Bet on the questions of a day, each text and each session once, and call the topic if that pays."""
        inside, won = self.holds(seen.asked.vectors, seen.nearness), 0
        for row in np.flatnonzero(inside).tolist():
            text, session = seen.asked.texts[row], seen.asked.sessions[row]
            if text not in self.texts and session not in self.sessions:
                self.texts.add(text)
                self.sessions.add(session)
                self.rows.append((seen.asked.day, text, seen.asked.vectors[row]))
                won += 1
        expected = len(inside) * self.rate
        self.expected += expected
        self.logs += find_growth(won, expected)
        top = float(self.logs.max())
        self.evidence = top + math.log(float(np.exp(self.logs - top).mean()))
        if self.called is None and self.evidence >= self.budget and len(self.rows) >= LEAST_MEMBERS:
            self.called = seen.asked.day

    def describe(self) -> EmergingCall:
        return describe_call(self.rows, self.called or 0, self.born, self.expected, self.evidence)


class Watch:
    """Watches days against one reference: each day forms regions, and every later question is a bet on them.

    A region is fixed before the questions that it is tested with: near the center of a group of novel questions and
    nearer to it than to any question of the reference. One more, the crowd, is where 0.2%, 1% or 3% of the reference's
    own questions are by the mean similarity to the three nearest novel questions of the days before, less that to the
    nearest of the reference. A region's rate is that of the reference's own questions, each compared with the others:
    (m + 2) / (n + 2), where one more is for having chosen the region.
    The null hypothesis is that a day's distinct questions come at most `SLACK` times as often.
    The bets are likelihood ratios of Poisson counts, mixed over `RATIOS`: an e-process, which exceeds c with a
    probability of at most 1 / c (Ville). One false call a year is shared: half by Bonferroni between the groups, half
    for the crowd. Each text and each session counts once for a region, so that neither a repeated text nor a bot makes
    a topic.
    Assumes that counts scatter like Poisson's around a rate that wobbles by less than `SLACK`; needs `LEAST_REFERENCE`
    questions. Sources: Ramdas, Grünwald, Vovk & Shafer 2023 (betting); Vovk, Gammerman & Shafer 2005 (the rate).
    """

    def __init__(self, known: ReferenceQuestions) -> None:
        self._known = known
        self._days: list[SeenDay] = []
        self._regions: list[_Region] = []
        self._crowd = Crowd(known)

    def add_day(self, asked: AskedDay, *, forms: bool = True) -> None:
        """Bet on a day's questions, and form new regions from it unless it is context alone."""
        seen = self._known.see(asked)
        for region in self._regions:
            if asked.day - region.born < LIVES and region.called is None:
                region.bet(seen)
        self._crowd.bet(seen, self._days, adds=forms)
        self._days = [each for each in [*self._days, seen] if asked.day - each.asked.day < WINDOWS[-1]]
        if forms and len(asked.texts):
            self._form(asked.day)

    def list_calls(self) -> list[EmergingCall]:
        """Return the topics that were called, the earliest first."""
        called = [region for region in self._regions if region.called is not None]
        return merge_calls([*([self._crowd.call] if self._crowd.call else []), *(each.describe() for each in called)])

    def _form(self, born: int) -> None:
        found = [
            (center, reach)
            for count in WINDOWS
            for days in [[each for each in self._days if born - each.asked.day < count]]
            for center, reach in self._find_centers(days)
        ]
        budget = math.log(2 * max(1, len(found)) * DAYS_A_YEAR / CALLS_A_YEAR)
        self._regions += [_Region(born, self._known, center, reach, budget) for center, reach in found]

    def _find_centers(self, days: Sequence[SeenDay]) -> list[tuple[Vectors, float]]:
        """Return the centers and reaches of the groups of novel questions that the reference has the least of."""
        vectors, sessions, limit = self._list_novel(days)
        share = sum(len(each.asked.texts) for each in days) / len(self._known)  # of the reference's questions
        near, free = vectors @ vectors.T >= _NEAR, np.ones(len(vectors), dtype=np.bool_)
        usual = SLACK * share * (1 + self._known.count_novel(vectors, _NEAR, limit))
        found: list[tuple[Vectors, float]] = []
        while len(found) < MOST_BORN:
            sizes = (near & free[None]).sum(axis=1) * free
            seeds = np.argsort(-_gain(sizes, usual), kind="stable")[:_SEEDS]
            groups = [vectors[near[seed] & free] for seed in seeds.tolist() if sizes[seed] > 1]
            best = self._choose(groups, vectors, sessions, share)
            if best is None:
                break
            found.append(best)
            free &= vectors @ best[0] < best[1]
        return found

    def _list_novel(self, days: Sequence[SeenDay]) -> tuple[Vectors, NDArray[np.str_], float]:
        """Return the vectors and sessions of the most novel texts of some days, and how near the nearest of them is."""
        limit = self._known.quantile(_NOVEL_SHARE)
        novel = [
            (each.nearness[row], at, row)
            for at, each in enumerate(days)
            for row in np.flatnonzero(each.nearness < limit).tolist()
        ]
        rows: dict[str, tuple[Vectors, str]] = {}
        novel = sorted(novel)[:MOST_FORMING]
        for _, at, row in novel:
            asked = days[at].asked
            rows.setdefault(asked.texts[row], (asked.vectors[row], asked.sessions[row]))
        if not rows:
            return np.empty((0, self._known.vectors.shape[1]), dtype=np.float32), np.array([], dtype=np.str_), limit
        vectors, sessions = zip(*rows.values(), strict=True)
        return np.stack(vectors), np.array(sessions), float(novel[-1][0])

    def _choose(
        self, groups: Sequence[Vectors], vectors: Vectors, sessions: NDArray[np.str_], share: float
    ) -> tuple[Vectors, float] | None:
        """Return the center and the reach on which a bet would have won the most; None if none would."""
        best: tuple[Vectors, float] | None = None
        most = 0.0
        for group in groups:
            center = normalize(group.mean(axis=0, keepdims=True))[0]
            toward = vectors @ center
            for reach in _REACHES:
                size = len(set(sessions[toward >= reach].tolist()))
                expected = SLACK * share * (1 + self._known.count_inside(center, reach))
                gain = float(_gain(np.array([size]), np.array([expected]))[0])
                if gain > most:
                    best, most = (center, reach), gain
        return best


def _gain(sizes: NDArray[np.int64], expected: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return by how much the logarithm of the best bet on groups would have grown; 0 where they are not too large."""
    ratio = np.maximum(sizes / expected, 1.0)
    return np.asarray(np.where(sizes > 1, sizes * np.log(ratio) - np.maximum(sizes - expected, 0.0), 0.0))


def describe_emerging(topic: EmergingTopic) -> str:
    """Return how often a topic was asked, and how often that was to be expected, without its questions."""
    expected = f"{topic.expected:.1f}" if topic.expected < 10 else f"{topic.expected:.0f}"
    return f"{topic.count:,} questions by as many sessions, where {expected} were expected."


def merge_calls(calls: Sequence[EmergingCall]) -> list[EmergingCall]:
    """Return calls without those of a topic that was called before: near centers, or a third of the texts shared."""
    kept: list[EmergingCall] = []
    for call in sorted(calls, key=lambda each: (each.called, -each.evidence)):
        if not any(_is_same(call, other) for other in kept):
            kept.append(call)
    return kept


def _is_same(one: EmergingCall, other: EmergingCall) -> bool:
    shared = len(set(one.texts) & set(other.texts))
    if 3 * shared >= min(one.count, other.count):
        return True
    return float(np.dot(one.center, other.center)) >= _SAME
