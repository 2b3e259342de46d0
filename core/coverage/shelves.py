"""Rule: which shelf of the backlog a topic stands on (open, planned, shipped, won't do), and what is its cure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from core.coverage.topics import Topic
from core.indexes.retention import Swap


class Shelf(StrEnum):
    """The tabs of the backlog."""

    OPEN = "open"
    PLANNED = "planned"
    SHIPPED = "shipped"
    WONT_DO = "won't do"


_LEAST_COVERED = 0.5
_SHELVES = {"open": Shelf.OPEN, "planned": Shelf.PLANNED, "indexed": Shelf.SHIPPED, "won't do": Shelf.WONT_DO}


@dataclass(frozen=True, slots=True)
class Cure:
    """An index that went live after a gap was seen. `undone` is when another one took its place again, if it did."""

    index_name: str
    first_live: datetime
    shipped: datetime
    undone: datetime | None = None


@dataclass(frozen=True, slots=True)
class Closing:
    """What became of a gap's scores since `index_name` went live on `shipped`.

    Scores are means over the times asked, 0 to 1, None if nothing was asked. `closed` is None until enough questions
    were asked after the swap. `searched_score` is that of the same questions as `before_score`, searched again in this
    index; `covered_share` of them are not low there. `undone` is when the index was rolled back: then none is closed.
    """

    index_name: str
    shipped: date
    before_count: int
    before_score: float | None
    after_count: int
    after_score: float | None
    closed: bool | None
    undone: date | None = None
    searched_count: int = 0
    searched_score: float | None = None
    covered_share: float | None = None
    threshold: float = 0.0

    @property
    def is_cured(self) -> bool:
        """Whether the gap is closed: by the questions since, and while these are too few, by searching again.

        By searching, half of the questions must be covered too: a few very good answers raise a mean.
        """
        if self.undone is not None:
            return False
        if self.closed is not None:
            return self.closed
        if self.searched_score is None or self.covered_share is None:
            return False
        return self.searched_score >= self.threshold and self.covered_share >= _LEAST_COVERED


class KnownGap(Protocol):
    """What a shelf has to know of a topic of the backlog."""

    @property
    def topic_id(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def state(self) -> str: ...


Known = TypeVar("Known", bound=KnownGap)


@dataclass(frozen=True, slots=True)
class ShelvedTopic(Generic[Known]):
    """A topic with its shelf.

    `topic` is None when it left the window, `known` when it is on no backlog yet. `decided` is when its state was set.
    """

    topic_id: str
    label: str
    shelf: Shelf
    topic: Topic | None = None
    known: Known | None = None
    closing: Closing | None = None
    decided: datetime | None = None


def find_cure(swaps: Sequence[Swap], *, first_seen: datetime) -> Cure | None:
    """Return the newest index that first went live after a gap was seen; `swaps` are those of an alias, oldest first.

    An index that was live before the gap was seen is no cure, so neither a rollback nor a later return to it is one.

    >>> from datetime import UTC, timedelta
    >>> day = datetime(2026, 3, 1, tzinfo=UTC)
    >>> one, two = Swap(day, None, "v1"), Swap(day + timedelta(2), "v1", "v2")
    >>> find_cure([one, two], first_seen=day + timedelta(1)).index_name
    'v2'
    >>> back = Swap(day + timedelta(3), "v2", "v1", is_rollback=True)
    >>> find_cure([one, two, back], first_seen=day + timedelta(1)).undone.day
    4
    """
    first_live: dict[str, datetime] = {}
    for swap in swaps:
        first_live.setdefault(swap.index, swap.at)
    new = [name for name, at in first_live.items() if at >= first_seen]
    if not new:
        return None
    live = swaps[-1].index
    name = live if live in new else new[-1]
    shipped = max(swap.at for swap in swaps if swap.index == name)
    undone = None if name == live else next(swap.at for swap in swaps if swap.at >= shipped and swap.index != name)
    return Cure(name, first_live[name], shipped, undone)


def shelve_topics(
    backlog: Iterable[Known],
    topics: Sequence[Topic],
    *,
    closings: Mapping[str, Closing],
    decided: Mapping[str, datetime],
) -> tuple[ShelvedTopic[Known], ...]:
    """Return every topic with its shelf: those of the window by rank, then the others of the backlog as they come.

    A gap that nobody marked is shipped too once an index has closed it. `closings` and `decided` are by topic id.
    """
    known = {each.topic_id: each for each in backlog}
    ranked = {topic.topic_id: topic for topic in topics}
    return tuple(
        _shelve(topic_id, ranked.get(topic_id), known.get(topic_id), closings.get(topic_id), decided.get(topic_id))
        for topic_id in dict.fromkeys((*ranked, *known))
    )


def _shelve(
    topic_id: str, topic: Topic | None, known: Known | None, closing: Closing | None, decided: datetime | None
) -> ShelvedTopic[Known]:
    shelf = _SHELVES[known.state] if known else Shelf.OPEN
    if shelf in (Shelf.OPEN, Shelf.PLANNED) and closing and closing.is_cured:
        shelf = Shelf.SHIPPED
    label = (known.label if known else "") or (topic.label if topic else "")
    return ShelvedTopic(topic_id, label, shelf, topic, known, closing, decided)
