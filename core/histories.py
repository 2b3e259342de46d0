"""Gateway that reads how the arms of a rollout went, hour by hour, from the retrieval log, and remembers what is over.

Hours that are over are read once and kept as a tally; a later look reads the last hour or so. Rows that come in late
are noticed by the count of the rollups, and everything is read again. A user is a session id.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from threading import Lock

from core.arms import Look, Tally, UserRow
from core.exposures import Exposure
from core.retrievals import Log, count_rows, list_user_sums
from quarterdeck.retrieval import from_ms, to_ms
from quarterdeck.schema import DAY_MS, HOUR_MS

_GRACE_MS = 10 * 60_000  # rows of an hour may be this late before its sums are kept
_MOST_KEPT = 12


@dataclass(frozen=True, slots=True)
class Watched:
    """Which rows are looked at: those since a moment whose `dimension` (arm, prompt or index version) is an arm's.

    Where the dimension is "", a row belongs to the arm that its session id was exposed to.
    """

    dimension: str
    arms: tuple[str, ...]
    since: datetime


@dataclass(slots=True)
class _Kept:
    tally: Tally
    next_ms: int
    rows: int = 0
    exposed: int = 0
    looks: list[Look] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)


class ArmHistories:
    """The histories of the arms of one retrieval log. Keep one and ask it again and again; threads may share it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: OrderedDict[Watched, _Kept] = OrderedDict()
        self._lock = Lock()

    def read(self, watched: Watched, *, until: datetime, exposures: Sequence[Exposure] = ()) -> tuple[Look, ...]:
        """Return a look at the end of each hour with retrievals, and one at `until`. Raises SourceUnavailable.

        A user who was exposed to two of the arms counts in none.
        """
        until_ms = to_ms(until)
        arm_of = _find_arms(watched, exposures)
        kept = self._keep(watched)
        with kept.lock:
            if self._is_stale(watched, kept, until_ms, exposures):
                kept.tally, kept.looks, kept.rows = Tally(watched.arms), [], 0
                kept.next_ms = to_ms(watched.since)
            self._read_hours(watched, kept, (until_ms - _GRACE_MS) // HOUR_MS * HOUR_MS, arm_of)
            kept.exposed = _count_exposed(exposures, kept.next_ms)
            rest = self._list(watched, kept.next_ms, max(until_ms, kept.next_ms), arm_of)
            newest = kept.tally.look_ahead(rest, start=from_ms(kept.next_ms), at=until)
            return (*kept.looks, newest)

    def _keep(self, watched: Watched) -> _Kept:
        with self._lock:
            kept = self._kept.setdefault(watched, _Kept(Tally(watched.arms), to_ms(watched.since)))
            self._kept.move_to_end(watched)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            return kept

    def _is_stale(self, watched: Watched, kept: _Kept, until_ms: int, exposures: Sequence[Exposure]) -> bool:
        """Whether rows or exposures came in late, or a time is asked for that lies before what was kept."""
        first_ms = to_ms(watched.since)
        if kept.next_ms == first_ms:
            return False
        if until_ms < kept.next_ms or _count_exposed(exposures, kept.next_ms) != kept.exposed:
            return True
        return self._count(watched, first_ms, kept.next_ms) != kept.rows

    def _read_hours(self, watched: Watched, kept: _Kept, end_ms: int, arm_of: Mapping[str, str]) -> None:
        """Take in the hours that are over, a day at a time, so that a long history never lies in memory as rows."""
        while kept.next_ms < end_ms:
            day_end_ms = min(end_ms, kept.next_ms - kept.next_ms % DAY_MS + DAY_MS)
            counted = self._count(watched, kept.next_ms, day_end_ms)  # first: a row that comes between is then noticed
            rows = self._list(watched, kept.next_ms, day_end_ms, arm_of, hourly=True)
            for hour_ms, of_hour in groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0)):
                start, at = from_ms(max(hour_ms, kept.next_ms)), from_ms(hour_ms + HOUR_MS)
                kept.looks.append(kept.tally.add(of_hour, start=start, at=at))
            kept.rows += counted
            kept.next_ms = day_end_ms

    def _list(
        self, watched: Watched, start_ms: int, end_ms: int, arm_of: Mapping[str, str], *, hourly: bool = False
    ) -> Iterable[UserRow]:
        rows = list_user_sums(
            self._log, watched.dimension, watched.arms, start_ms=start_ms, end_ms=end_ms, hourly=hourly
        )
        if watched.dimension:
            return rows
        return [row._replace(arm=arm_of[row.user]) for row in rows if row.user is not None and row.user in arm_of]

    def _count(self, watched: Watched, start_ms: int, end_ms: int) -> int:
        """Rows of the whole hours that these times touch; an hour that is only partly meant counts in full."""
        first_ms = start_ms - start_ms % HOUR_MS
        return count_rows(self._log, watched.dimension, watched.arms, start_ms=first_ms, end_ms=end_ms)


def _find_arms(watched: Watched, exposures: Sequence[Exposure]) -> dict[str, str]:
    """The arm of each user who was exposed to one of them alone."""
    arms: dict[str, str] = {}
    several = set()
    for exposure in exposures:
        if arms.setdefault(exposure.targeting_key, exposure.variant) != exposure.variant:
            several.add(exposure.targeting_key)
    return {user: arm for user, arm in arms.items() if arm in watched.arms and user not in several}


def _count_exposed(exposures: Sequence[Exposure], before_ms: int) -> int:
    before = from_ms(before_ms)
    return sum(exposure.first_seen < before for exposure in exposures)
