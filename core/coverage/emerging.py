"""Rule: calls a new topic before the mean moves: groups of questions that the reference hardly has, tested by betting.

Knows vectors, texts and sessions of days; `newcomers.py` reads them from the log and keeps what was found.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from numpy.typing import NDArray

from core.coverage.trees import normalize

CALLS_A_YEAR = 1.0  # expected false calls, at most, of one service
WINDOWS = (2, 7)  # days whose questions form a region: few where there is much traffic
LIVES = 14  # days for which a region is watched
MOST_BORN = 4  # regions of a day and a window
SLACK = 1.5  # a region is no news until it is asked more than this many times as often as in the reference
RATIOS = (2.0, 4.0, 8.0, 16.0, 32.0)  # by how much more than that: the bets, in equal parts
LEAST_MEMBERS = 5  # distinct texts by distinct sessions of a called topic
LEAST_REFERENCE = 200  # distinct questions of the days before
FAR_SHARES = (0.05, 0.01, 0.002)  # of the reference's own questions lie in the regions "far from everything"
_NOVEL_SHARE = 0.5  # of the reference's own questions are as novel as one that may form a region
_NEAR = 0.6  # cosine similarity of two questions on one topic
_AHEAD_SHARES = (0.03, 0.01)  # of the reference's own questions lie farthest in the direction of the novel ones
_AHEAD_NOVEL = 0.1  # of the reference's own questions are as novel as those that give the direction
_AHEAD_ROUNDS = 2  # in which the direction is found
_REACHES = (0.6, 0.7, 0.8)  # cosine similarities to the center of a region
_MOST_FORMING = 1_200  # questions of a window, the most novel ones
_SEEDS = 8  # groups that are looked at closely
_SAME = 0.7  # cosine similarity of the centers of two calls of one topic
_YEAR = 365

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AskedDay:
    """The distinct questions of a day, one row each: its unit vector, its text, and a session that asked it."""

    day: int  # ordinal
    vectors: Vectors
    texts: tuple[str, ...]
    sessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EmergingCall:
    """A topic that was called at the end of day `called` (an ordinal); `since` is the first day of its group.

    `texts` are the questions that count, the most typical first, of distinct sessions. `expected` is how many the
    reference lets expect in the days since, and `evidence` the logarithm of what a bet of 1 has become.
    """

    called: int
    since: int
    texts: tuple[str, ...]
    count: int
    expected: float
    evidence: float
    center: tuple[float, ...]


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


class ReferenceQuestions:
    """The reference: each of its questions is compared with those of other texts, as new questions are with all."""

    def __init__(self, vectors: Vectors, texts: Sequence[str]) -> None:
        self.vectors = vectors
        self.nearness = _find_own_nearness(vectors, texts)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def is_enough(self) -> bool:
        """Whether there are enough different questions."""
        return len(self) >= LEAST_REFERENCE

    @property
    def mean(self) -> Vectors:
        """The mean vector."""
        return np.asarray(self.vectors.mean(axis=0), dtype=np.float32)

    def find_nearness(self, vectors: Vectors) -> NDArray[np.float32]:
        """Return each vector's cosine similarity to the nearest question."""
        if not len(vectors) or not len(self):
            return np.full(len(vectors), -1.0, dtype=np.float32)
        return np.asarray((vectors @ self.vectors.T).max(axis=1), dtype=np.float32)

    def quantile(self, share: float) -> float:
        """Return the nearness below which this share of the reference's own questions is."""
        return float(np.quantile(self.nearness, share))

    def find_reach(self, direction: Vectors, share: float) -> float:
        """Return beyond what projection this share of the questions lies."""
        return float(np.quantile(self.vectors @ direction, 1 - share))

    def count_novel(self, vectors: Vectors, reach: float, limit: float) -> NDArray[np.int64]:
        """Return how many of the questions that are novel among their own are near each vector."""
        return np.asarray((vectors @ self.vectors[self.nearness < limit].T >= reach).sum(axis=1))

    def count_inside(self, center: Vectors, reach: float) -> int:
        """Return how many questions lie in the region around a center."""
        toward = self.vectors @ center
        return int(((toward >= reach) & (toward > self.nearness)).sum())


@dataclass(slots=True)
class _Region:
    """A part of the space, fixed before the questions that it is tested with: near a center, or far from everything."""

    born: int
    known: ReferenceQuestions
    center: Vectors | None
    reach: float
    budget: float
    is_direction: bool = False
    rate: float = 0.0
    texts: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    rows: list[tuple[int, str, Vectors]] = field(default_factory=list)
    logs: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(RATIOS)))
    expected: float = 0.0
    evidence: float = 0.0
    called: int | None = None

    def __post_init__(self) -> None:
        inside = int(self.holds(self.known.vectors, self.known.nearness).sum())
        chosen = self.center is not None  # where the reference has few: one more makes up for that
        self.rate = (inside + 1 + chosen) / (len(self.known) + 1 + chosen)

    def holds(self, vectors: Vectors, nearness: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which questions lie in it."""
        if self.center is None:
            return np.asarray(nearness < self.reach)
        toward = vectors @ self.center
        return np.asarray((toward >= self.reach) & (self.is_direction | (toward > nearness)))

    def bet(self, seen: "_SeenDay") -> None:
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
        ratios = np.array(RATIOS)
        self.logs += won * np.log(ratios) - SLACK * expected * (ratios - 1)
        top = float(self.logs.max())
        self.evidence = top + math.log(float(np.exp(self.logs - top).mean()))
        if self.called is None and self.evidence >= self.budget and len(self.rows) >= LEAST_MEMBERS:
            self.called = seen.asked.day

    def describe(self) -> EmergingCall:
        vectors = np.stack([vector for _, _, vector in self.rows])
        center = normalize(vectors.mean(axis=0, keepdims=True))[0]
        order = np.argsort(-(vectors @ center), kind="stable")
        return EmergingCall(
            called=self.called or 0,
            since=min(day for day, _, _ in self.rows) if self.center is None else self.born,
            texts=tuple(self.rows[at][1] for at in order.tolist()),
            count=len(self.rows),
            expected=self.expected,
            evidence=self.evidence,
            center=tuple(center.tolist()),
        )


@dataclass(frozen=True, slots=True)
class _SeenDay:
    asked: AskedDay
    nearness: NDArray[np.float32]


class Watch:
    """Watches days against one reference: each day forms regions, and every later question is a bet on them.

    A region is fixed before the questions that it is tested with. It is "far from everything", where 5%, 1% or 0.2% of
    the reference's own questions are; or near the center of a group of novel questions and nearer to it than to any
    question of the reference; or farthest in the direction of all novel ones. Its rate is that of the reference's own
    questions, each compared with the others: (m + 1) / (n + 1), or (m + 2) / (n + 2) where the region was chosen.
    The null hypothesis is that a day's distinct questions come at most `SLACK` times as often.
    The bets are likelihood ratios of Poisson counts, mixed over `RATIOS`: an e-process, which exceeds c with a
    probability of at most 1 / c (Ville). Regions share one false call a year by Bonferroni, half of it for the groups.
    Each text and each session counts once for a region, so that neither a repeated text nor a bot makes a topic.
    Assumes that counts scatter like Poisson's around a rate that wobbles by less than `SLACK`; needs `LEAST_REFERENCE`
    questions. Sources: Ramdas, Grünwald, Vovk & Shafer 2023 (betting); Vovk, Gammerman & Shafer 2005 (the rate).
    """

    def __init__(self, known: ReferenceQuestions) -> None:
        self._known = known
        self._days: list[_SeenDay] = []
        self._regions: list[_Region] = []

    def add_day(self, asked: AskedDay, *, forms: bool = True) -> None:
        """Bet on a day's questions, and form new regions from it unless it is context alone."""
        seen = _SeenDay(asked, self._known.find_nearness(asked.vectors))
        for region in self._regions:
            if asked.day - region.born < LIVES and region.called is None:
                region.bet(seen)
        self._days = [each for each in [*self._days, seen] if asked.day - each.asked.day < WINDOWS[-1]]
        if forms and len(asked.texts):
            self._form(asked.day)

    def list_calls(self) -> list[EmergingCall]:
        """Return the topics that were called, the earliest first."""
        called = [region for region in self._regions if region.called is not None]
        return merge_calls([region.describe() for region in called])

    def _form(self, born: int) -> None:
        found = [
            (center, reach)
            for count in WINDOWS
            for days in [[each for each in self._days if born - each.asked.day < count]]
            for center, reach in self._find_centers(days)
        ]
        direction, known = self._find_direction(), self._known
        reaches = [] if direction is None else [known.find_reach(direction, share) for share in _AHEAD_SHARES]
        counts = (len(FAR_SHARES) + len(reaches), len(found))
        far, near = (math.log(2 * max(1, count) * _YEAR / CALLS_A_YEAR) for count in counts)
        self._regions += [_Region(born, known, direction, reach, far, is_direction=True) for reach in reaches]
        for share in FAR_SHARES:
            self._regions.append(_Region(born, self._known, None, self._known.quantile(share), far))
        for center, reach in found:
            self._regions.append(_Region(born, self._known, center, reach, near))

    def _find_direction(self) -> Vectors | None:
        """Return the unit vector from the reference's mean toward the novel questions of the days that are held."""
        limit = self._known.quantile(_AHEAD_NOVEL)
        held = [each for each in self._days if each.asked.texts]
        if not held:
            return None
        asked = np.concatenate([each.asked.vectors for each in held])
        ahead = asked[np.concatenate([each.nearness for each in held]) < limit]
        direction: Vectors | None = None
        for _ in range(_AHEAD_ROUNDS):
            if len(ahead) < LEAST_MEMBERS:
                break
            direction = normalize(ahead.mean(axis=0, keepdims=True) - self._known.mean)[0].astype(np.float32)
            ahead = asked[asked @ direction >= self._known.find_reach(direction, _AHEAD_SHARES[0])]
        return direction

    def _find_centers(self, days: Sequence[_SeenDay]) -> list[tuple[Vectors, float]]:
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

    def _list_novel(self, days: Sequence[_SeenDay]) -> tuple[Vectors, NDArray[np.str_], float]:
        """Return the vectors and sessions of the most novel texts of some days, and how near the nearest of them is."""
        limit = self._known.quantile(_NOVEL_SHARE)
        novel = [
            (each.nearness[row], at, row)
            for at, each in enumerate(days)
            for row in np.flatnonzero(each.nearness < limit).tolist()
        ]
        rows: dict[str, tuple[Vectors, str]] = {}
        novel = sorted(novel)[:_MOST_FORMING]
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


def _find_own_nearness(vectors: Vectors, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return each vector's cosine similarity to the nearest one of another text."""
    if not len(vectors):
        return np.empty(0, dtype=np.float32)
    _, names = np.unique(np.array(texts), return_inverse=True)
    near = vectors @ vectors.T
    near[names[:, None] == names[None]] = -1.0
    return np.asarray(near.max(axis=1))
