"""Shell: measures whether gaps are closed: what their questions scored before an index went live, and after."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from core.coverage.backlog import BacklogTopic, list_backlog, list_decision_times
from core.coverage.report import Coverage
from core.coverage.shelves import Closing, Cure, ShelvedTopic, find_cure, shelve_topics
from core.drift.present import LowScores
from core.embedding.embed import Embedder
from core.errors import QuarterdeckError
from core.indexes.backends import open_indexes
from core.indexes.registry import list_indexes, list_swaps
from core.log.retrievals import Window, list_questions
from core.log.values import AskedQuery
from quarterdeck.scope import Scope
from quarterdeck.store import Store

MIN_QUERIES = 10
LONGEST_DAYS = 30
MOST_SEARCHED = 200  # distinct questions of a gap that are searched again
_FARTHEST_SHARE = 0.1  # this share of the gap's own questions lies outside the radius for new ones


def measure_closing(
    store: Store, embedder: Embedder, topic: BacklogTopic, *, low: LowScores, today: date, alias: str = "default"
) -> Closing | None:
    """Return what `measure_closings` finds for one gap; None if no index was swapped in since it was seen."""
    found = measure_closings(store, embedder, [topic], low=low, today=today, alias=alias)
    return found.get(topic.topic_id)


def measure_closings(
    store: Store,
    embedder: Embedder,
    gaps: Iterable[BacklogTopic],
    *,
    low: LowScores,
    today: date,
    alias: str = "default",
) -> dict[str, Closing]:
    """Return the effect on each gap of the index that went live since it was seen, by topic id.

    Before: the low-scoring questions of up to 30 days before the swap around the gap's center. After: all questions
    since, of any score, within the radius that holds nine in ten of those. The gap is closed when the mean score after
    is no longer `low`; until `MIN_QUERIES` were asked, nothing is said of it. Scores of a former embedding model are
    carried to the present scale. The day of the swap counts for neither. The questions from before, the 200 most asked,
    are also searched again in the index, which tells at once what it does to them. A swap back to an index that was
    live before the gap was seen is a rollback, and no cure. Uses cached vectors only, so no page waits. Raises
    SourceUnavailable.
    """
    swaps = list_swaps(store, alias)
    bench = _Bench(store, embedder, low, today)
    cures = ((gap, find_cure(swaps, first_seen=gap.first_seen)) for gap in gaps)
    return {gap.topic_id: bench.measure(gap, cure) for gap, cure in cures if cure}


@dataclass(slots=True)
class _Bench:
    """Measures gap after gap; each window of the log is read once."""

    store: Store
    embedder: Embedder
    low: LowScores
    today: date
    read: dict[tuple[Window, float | None, Scope], tuple[AskedQuery, ...]] = field(default_factory=dict)

    def measure(self, gap: BacklogTopic, cure: Cure) -> Closing:
        first, shipped = cure.first_live.date(), cure.shipped.date()
        before = Window(first - timedelta(days=LONGEST_DAYS), first - timedelta(days=1))
        old = self._near(self._list(before, gap, below=self.low.below), gap, floor=None)
        before_count, before_score = _average([query for query, _ in old])
        if cure.undone:
            undone = cure.undone.date()
            return Closing(cure.index_name, shipped, before_count, before_score, 0, None, None, undone)
        after = Window(shipped + timedelta(days=1), min(self.today, shipped + timedelta(days=LONGEST_DAYS)))
        floor = float(np.quantile([similarity for _, similarity in old], _FARTHEST_SHARE)) if old else 1.0
        new = () if after.last < after.first else self._list(after, gap)
        after_count, after_score = _average([query for query, _ in self._near(new, gap, floor=floor)])
        measured = after_score is not None and after_count >= MIN_QUERIES
        closed = after_score >= self.low.below if measured and after_score is not None else None
        searched = self._search(cure.index_name, [query for query, _ in old][:MOST_SEARCHED])
        return Closing(
            cure.index_name, shipped, before_count, before_score, after_count, after_score, closed, None, *searched,
            self.low.below,
        )  # fmt: skip

    def _list(self, window: Window, gap: BacklogTopic, *, below: float | None = None) -> tuple[AskedQuery, ...]:
        key = (window, below, gap.scope)
        if key not in self.read:
            self.read[key] = list_questions(self.store, window, below=below, scope=gap.scope, scale=self.low.scale)
        return self.read[key]

    def _near(
        self, queries: Sequence[AskedQuery], gap: BacklogTopic, *, floor: float | None
    ) -> list[tuple[AskedQuery, float]]:
        """Return the queries around the gap's center with their cosine; without a floor, those of at least 0.5."""
        known = self.embedder.get_known([query.text for query in queries])
        center = np.asarray(gap.centroid, dtype=np.float32)
        found = [(query, float(known[query.text] @ center)) for query in queries if query.text in known]
        return [(query, similarity) for query, similarity in found if similarity >= (0.5 if floor is None else floor)]

    def _search(self, name: str, queries: Sequence[AskedQuery]) -> tuple[int, float | None, float | None]:
        """Return how often the questions were asked, their mean best score in an index, and the share not low there.

        0 and None for an index that cannot be searched with this model: then only the log tells.
        """
        index = next((each for each in list_indexes(self.store) if each.name == name), None)
        if index is None or index.model != self.embedder.model or not queries:
            return 0, None, None
        known = self.embedder.get_known([query.text for query in queries])
        vectors = np.array([known[query.text] for query in queries], dtype=np.float32)
        try:
            hits = open_indexes(index.location).search(name, vectors, top_k=1)
        except QuarterdeckError:
            return 0, None, None
        scale, scores = self.low.scale, [found[0].score if found else 0.0 for found in hits]
        best = np.array([scale.carry(index.model, score) for score in scores])
        counts = np.array([query.count for query in queries])
        covered = float(counts @ (best >= self.low.below) / counts.sum())
        return int(counts.sum()), float(counts @ best / counts.sum()), covered


def _average(queries: Sequence[AskedQuery]) -> tuple[int, float | None]:
    count = sum(query.count for query in queries)
    return count, sum(query.count * query.mean_score for query in queries) / count if count else None


def report_shelves(
    store: Store, embedder: Embedder, coverage: Coverage, *, today: date
) -> tuple[ShelvedTopic[BacklogTopic], ...]:
    """Return the topics of a report and of the backlog, each on its shelf, with what was measured of it."""
    backlog = list_backlog(store, embedder.model, coverage.scope)
    return shelve_topics(
        backlog,
        coverage.topics.ranked(),
        closings=measure_closings(store, embedder, backlog, low=coverage.low, today=today),
        decided=list_decision_times(store, coverage.scope),
    )
