"""Shell: measures whether a gap is closed: what its questions scored before an index went live, and after."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from core.audit.actions import Action
from core.audit.trail import AuditFilter, list_audit
from core.coverage.backlog import BacklogTopic
from core.embedding.embed import Embedder
from core.indexes.audited import SwapState
from core.log.retrievals import Window, list_questions
from core.log.values import AskedQuery
from quarterdeck.store import Store

MIN_QUERIES = 10
LONGEST_DAYS = 30
_FARTHEST_SHARE = 0.1  # this share of the gap's own questions lies outside the radius for new ones


@dataclass(frozen=True, slots=True)
class Closing:
    """A gap's mean scores before and after `index_name` went live on `shipped`.

    Scores are means over the times asked, 0 to 1, None if nothing was asked. `closed` is None until `MIN_QUERIES` were
    asked after the swap.
    """

    index_name: str
    shipped: date
    before_count: int
    before_score: float | None
    after_count: int
    after_score: float | None
    closed: bool | None


def measure_closing(
    store: Store, embedder: Embedder, topic: BacklogTopic, *, threshold: float, today: date
) -> Closing | None:
    """Return the effect on a gap of the newest index swap since it was seen; None if there was no swap.

    Before: the low-scoring questions of up to 30 days before the swap around the gap's center. After: all questions
    since, of any score, within the radius that holds nine in ten of those. The gap is closed when the mean score after
    reaches `threshold`, below which a question counts as low. The day of the swap counts for neither. Uses cached
    vectors only, so no page waits. Raises SourceUnavailable.
    """
    swaps = list_audit(store, AuditFilter(action=Action.INDEX_SWAP), limit=1)
    live = SwapState.read(swaps[0].after) if swaps else None
    if not live or swaps[0].ts < topic.first_seen:
        return None
    shipped = swaps[0].ts.date()
    before = Window(shipped - timedelta(days=LONGEST_DAYS), shipped - timedelta(days=1))
    after = Window(shipped + timedelta(days=1), min(today, shipped + timedelta(days=LONGEST_DAYS)))
    old = _near(embedder, list_questions(store, before, below=threshold, scope=topic.scope), topic, floor=None)
    floor = float(np.quantile([similarity for _, similarity in old], _FARTHEST_SHARE)) if old else 1.0
    new = [] if after.last < after.first else list(list_questions(store, after, scope=topic.scope))
    since = _near(embedder, new, topic, floor=floor)
    before_count, before_score = _average([query for query, _ in old])
    after_count, after_score = _average([query for query, _ in since])
    measured = after_score is not None and after_count >= MIN_QUERIES
    closed = after_score >= threshold if measured and after_score is not None else None
    return Closing(live.index, shipped, before_count, before_score, after_count, after_score, closed)


def _near(
    embedder: Embedder, queries: list[AskedQuery] | tuple[AskedQuery, ...], topic: BacklogTopic, *, floor: float | None
) -> list[tuple[AskedQuery, float]]:
    """Return the queries around the gap's center with their cosine; without a floor, those of at least 0.5."""
    known = embedder.get_known([query.text for query in queries])
    center = np.asarray(topic.centroid, dtype=np.float32)
    found = [(query, float(known[query.text] @ center)) for query in queries if query.text in known]
    return [(query, similarity) for query, similarity in found if similarity >= (0.5 if floor is None else floor)]


def _average(queries: list[AskedQuery]) -> tuple[int, float | None]:
    count = sum(query.count for query in queries)
    return count, sum(query.count * query.mean_score for query in queries) / count if count else None
