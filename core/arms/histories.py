"""Gateway: reads the arms of a rollout hour by hour from the retrieval log, and caches what it read.

Finished hours are cached as a tally, and each read adds what came later. In busy hours, per-user sums are cached as
well, so each read fetches only new rows. A read that takes long is followed by a rest, so that 100,000 users leave the
interpreter to others. Late rows change the rollup's row count, which triggers a full re-read; for an hour still in
progress this check runs when the hour ends. A user is a session id.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import groupby
from operator import add, attrgetter
from threading import Lock
from time import thread_time

from core.arms.arms import ArmsReading, Tally
from core.arms.expectations import Expectation
from core.arms.own_histories import OwnRows, PastSums, add_own_metrics
from core.log.exposures import Exposure
from core.log.retrievals import Log, count_rows, list_asked_by, list_user_sums
from core.log.values import AskedBy, UserRow
from core.metrics.definition import MetricDefinition
from quarterdeck.clock import DAY_MS, HOUR_MS, from_ms, to_ms
from quarterdeck.scope import EVERYTHING, Scope, fold_environment
from quarterdeck.store import Store

_GRACE_MS = 10 * 60_000  # an hour counts as finished once this has passed after it
_BUSY_ROWS = 200_000  # rows since the last finished hour; above this, per-user sums are cached
_SETTLED_MS = 10_000  # in a busy hour, older rows count as complete until the hour ends
_MOST_ROWS = 1_000_000  # read in one transaction
_MOST_KEPT = 200  # rollouts whose newest reading is cached
_MOST_USERS = 1_000_000  # of all tallies together: about 150 MB
_LOOK_USERS = 30  # a reading takes about as much memory as so many users
_LONG_S, _RESTS = 0.5, 15  # a reading that took longer than this serves for so many times as long
_PAST_DAYS, _PAST_ROWS = 28, 200_000  # before the start, from which expected scores are learned

_Sums = dict[tuple[str, str | None], UserRow]  # by arm and user


@dataclass(frozen=True, slots=True)
class Watched:
    """Which rows are read: those of scopes since a time whose `dimension` (arm, prompt version) is one of the arms.

    If the dimension is "", a row belongs to the arm that its user was exposed to. The scopes of a flag are the services
    that judge it, in its environment (`scopes_of_flag`). With `expects`, the score gets a covariate: what the same
    questions scored before, and the same users before `since` (`core.arms.expectations`). `own` are further metrics;
    the variance of theirs is reduced by the same users' numbers from before `drawn_since`, if that is known.
    """

    dimension: str
    arms: tuple[str, ...]
    since: datetime
    scopes: tuple[Scope, ...] = (EVERYTHING,)
    expects: bool = False
    own: tuple[MetricDefinition, ...] = ()
    drawn_since: datetime | None = None


def scopes_of_flag(environment: str, services: Sequence[str] = ()) -> tuple[Scope, ...]:
    """Return whose rows a flag of this environment is judged by: those of some services, or of all if none is named."""
    return tuple(Scope(fold_environment(environment), service) for service in services or ("",))


@dataclass(slots=True)
class _Kept:
    """The tally of the hours before `next_ms`, and per-hour sums of the rows from there to `read_ms`.

    `asked` are the questions in the same rows as `ahead`; `expectation` has learned those of the tally's hours.
    `rests` is how long the newest reading serves everybody, because it took long.
    """

    tally: Tally
    next_ms: int
    read_ms: int
    ahead: dict[int, _Sums] = field(default_factory=dict)
    rows: int = 0
    exposed: int = 0
    looks: list[ArmsReading] = field(default_factory=list)
    newest: tuple[ArmsReading, ...] = ()
    rests: timedelta = timedelta(0)
    asked: list[AskedBy] = field(default_factory=list)
    expectation: Expectation | None = None
    past: PastSums = field(default_factory=PastSums)
    lock: Lock = field(default_factory=Lock)

    @property
    def weight(self) -> int:
        """How much memory it takes, in users."""
        learned = self.expectation.size if self.expectation else 0
        return self.tally.users + _LOOK_USERS * len(self.looks) + len(self.asked) + learned


class ArmHistories:
    """The arm histories of one retrieval log. Keep one instance and reuse it; it is thread-safe."""

    _age = timedelta(0)

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: OrderedDict[Watched, _Kept] = OrderedDict()
        self._lock = Lock()

    def up_to(self, age: timedelta) -> "ArmHistories":
        """Return a view of these histories that accepts a cached reading up to `age` old."""
        lenient = copy(self)
        lenient._age = age
        return lenient

    def read(self, watched: Watched, *, until: datetime, exposures: Sequence[Exposure] = ()) -> tuple[ArmsReading, ...]:
        """Return one reading per hour with retrievals and one at `until`. Raises SourceUnavailable.

        A user exposed to two of the arms counts in neither.
        """
        until_ms = to_ms(until)
        arm_of = _find_arms(watched, exposures)
        kept = self._keep(watched)
        if self._serves(kept, until):  # before the lock, which a reader may hold for seconds
            return kept.newest
        with kept.lock:
            if self._serves(kept, until):
                return kept.newest
            began_s = thread_time()
            if self._is_stale(watched, kept, until_ms, exposures):
                kept.tally, kept.looks, kept.rows = Tally(watched.arms), [], 0
                kept.next_ms, kept.expectation = to_ms(watched.since), None
            if watched.expects and kept.expectation is None:
                kept.expectation = self._learn_past(watched)
            if not kept.next_ms <= kept.read_ms <= until_ms:
                kept.read_ms, kept.ahead, kept.asked = kept.next_ms, {}, []
            self._read_hours(watched, kept, (until_ms - _GRACE_MS) // HOUR_MS * HOUR_MS, arm_of)
            kept.exposed = _count_exposed(exposures, kept.next_ms)
            if self._count(watched, kept.next_ms, until_ms) > _BUSY_ROWS:
                self._read_ahead(watched, kept, until_ms - _SETTLED_MS)
            newest: _Sums = {}
            for sums in (*kept.ahead.values(), *self._list(watched, kept.read_ms, until_ms).values()):
                _add_up(newest, sums.values())
            rows = _assign(newest, watched, arm_of)
            expected = None
            if kept.expectation:
                asked = [*kept.asked, *self._list_asked(watched, kept.read_ms, until_ms)]
                expected = kept.expectation.expect(row for row in asked if row.user in arm_of)
            look = kept.tally.look_ahead(rows, start=from_ms(kept.next_ms), at=until, expected=expected)
            kept.newest = self._add_own(watched, kept.past, (*kept.looks, look), exposures)
            took_s = thread_time() - began_s
            kept.rests = timedelta(seconds=took_s * _RESTS if took_s > _LONG_S else 0)
            return kept.newest

    def _serves(self, kept: _Kept, until: datetime) -> bool:
        return bool(kept.newest) and timedelta(0) <= until - kept.newest[-1].at < max(self._age, kept.rests)

    def _keep(self, watched: Watched) -> _Kept:
        first_ms = to_ms(watched.since)
        with self._lock:
            kept = self._kept.setdefault(watched, _Kept(Tally(watched.arms), first_ms, first_ms))
            self._kept.move_to_end(watched)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            self._make_room()
            return kept

    def _make_room(self) -> None:
        """Empty the tallies that were read longest ago, as far as memory is short: the next read is a full one.

        Their newest reading stays, and serves for its rest, so that many large rollouts do not read in turns all the
        time. Whoever is reading one now finishes it.
        """
        room = _MOST_USERS
        (_, newest), *others = reversed(self._kept.items())
        room -= newest.weight
        for watched, kept in others:
            room -= kept.weight
            if room < 0 and kept.weight:
                first_ms = to_ms(watched.since)
                empty = _Kept(Tally(watched.arms), first_ms, first_ms, newest=kept.newest, rests=kept.rests)
                self._kept[watched] = empty

    def _is_stale(self, watched: Watched, kept: _Kept, until_ms: int, exposures: Sequence[Exposure]) -> bool:
        """Whether rows or exposures came in late, or the requested time is before what is cached."""
        first_ms = to_ms(watched.since)
        if kept.next_ms == first_ms:
            return False
        if until_ms < kept.next_ms or _count_exposed(exposures, kept.next_ms) != kept.exposed:
            return True
        return self._count(watched, first_ms, kept.next_ms) != kept.rows

    def _read_hours(self, watched: Watched, kept: _Kept, end_ms: int, arm_of: Mapping[str, str]) -> None:
        """Add the finished hours, one day at a time, so that a long history is never in memory as rows."""
        while kept.next_ms < end_ms:
            whole_ms = HOUR_MS if kept.ahead else DAY_MS
            stop_ms = min(end_ms, kept.next_ms - kept.next_ms % whole_ms + whole_ms)
            counted = self._count(watched, kept.next_ms, stop_ms)  # first, to notice rows that come in between
            hours = {_hour(kept.next_ms): kept.ahead.pop(_hour(kept.next_ms), {})}
            if sum(row.queries for sums in hours.values() for row in sums.values()) != counted:
                hours = self._list(watched, kept.next_ms, stop_ms)
            asked = self._list_asked(watched, kept.next_ms, stop_ms) if kept.expectation else ()
            by_hour = {hour_ms: list(rows) for hour_ms, rows in groupby(asked, key=attrgetter("start_ms"))}
            for hour_ms, sums in sorted(hours.items()):
                if sums:
                    start, at = from_ms(max(hour_ms, kept.next_ms)), from_ms(hour_ms + HOUR_MS)
                    expected = None
                    if kept.expectation:
                        of_hour = by_hour.get(hour_ms, [])
                        expected = kept.expectation.expect(row for row in of_hour if row.user in arm_of)
                        kept.expectation.learn(of_hour)
                    rows = _assign(sums, watched, arm_of)
                    kept.looks.append(kept.tally.add(rows, start=start, at=at, expected=expected))
            kept.rows += counted
            kept.next_ms = stop_ms
            kept.asked = [row for row in kept.asked if row.start_ms >= stop_ms]
            kept.read_ms = max(kept.read_ms, stop_ms)

    def _read_ahead(self, watched: Watched, kept: _Kept, end_ms: int) -> None:
        """Add up the rows that came since the last reading, except the newest."""
        if kept.read_ms < end_ms:
            for hour_ms, sums in self._list(watched, kept.read_ms, end_ms).items():
                _add_up(kept.ahead.setdefault(hour_ms, {}), sums.values())
            if kept.expectation:
                kept.asked += self._list_asked(watched, kept.read_ms, end_ms)
            kept.read_ms = end_ms

    def _add_own(
        self, watched: Watched, past: PastSums, looks: tuple[ArmsReading, ...], exposures: Sequence[Exposure]
    ) -> tuple[ArmsReading, ...]:
        """Add the moments of the further metrics. They need the store, where scores and events are."""
        if not watched.own or not isinstance(self._log, Store):
            return looks
        before = None if watched.drawn_since is None else min(watched.drawn_since, watched.since)
        past_ms = None if before is None else (self._find_past(watched, to_ms(before)), to_ms(before))
        rows = OwnRows(
            watched.own, watched.arms, watched.scopes, watched.dimension, to_ms(watched.since), past_ms, exposures
        )
        return add_own_metrics(self._log, rows, looks, past)

    def _find_past(self, watched: Watched, end_ms: int) -> int:
        """Return the start of the whole days before a time that are read: at most 28, and 200,000 rows of them."""
        start_ms = end_ms
        for _ in range(_PAST_DAYS):
            if self._count(watched, start_ms - DAY_MS, end_ms) > _PAST_ROWS:
                break
            start_ms -= DAY_MS
        return start_ms

    def _learn_past(self, watched: Watched) -> Expectation:
        """Learn the scores of texts and users from the days before."""
        end_ms = to_ms(watched.since)
        start_ms = self._find_past(watched, end_ms)
        found = Expectation()
        past = self._list_asked(watched, start_ms, end_ms) if start_ms < end_ms else ()
        found.learn(past)
        found.learn_users(past)
        return found

    def _list_asked(self, watched: Watched, start_ms: int, end_ms: int) -> Sequence[AskedBy]:
        """Return the questions of these hours, hour by hour."""
        found = [
            row
            for scope in watched.scopes
            for row in list_asked_by(self._log, start_ms=start_ms, end_ms=end_ms, scope=scope)
        ]
        return sorted(found, key=attrgetter("start_ms"))

    def _list(self, watched: Watched, start_ms: int, end_ms: int) -> dict[int, _Sums]:
        """Each user's sums by hour; large ranges are read in parts, because the database sorts each part."""
        found: dict[int, _Sums] = {}
        hours = max(1, -(-(end_ms - start_ms) // HOUR_MS))
        step_ms = max(1, hours * HOUR_MS * _MOST_ROWS // max(1, self._count(watched, start_ms, end_ms)))
        for first_ms in range(start_ms, end_ms, step_ms):
            for scope in watched.scopes:
                for row in list_user_sums(
                    self._log, watched.dimension, watched.arms,
                    start_ms=first_ms, end_ms=min(end_ms, first_ms + step_ms), hourly=True, scope=scope,
                ):  # fmt: skip
                    _add_up(found.setdefault(row.start_ms, {}), (row,))
        return found

    def _count(self, watched: Watched, start_ms: int, end_ms: int) -> int:
        """Count the rows of all hours in this range; an hour that is only partly in it counts in full."""
        start_ms = _hour(start_ms)
        return sum(
            count_rows(self._log, watched.dimension, watched.arms, start_ms=start_ms, end_ms=end_ms, scope=scope)
            for scope in watched.scopes
        )


@cache
def share_histories(url: str, log_url: str | None) -> ArmHistories:
    """Return this process's histories for a store, shared by the scheduler and the pages."""
    return ArmHistories(Store(url, log_url=log_url))


def _hour(ms: int) -> int:
    return ms - ms % HOUR_MS


def _add_up(known: _Sums, rows: Iterable[UserRow]) -> None:
    for row in rows:
        before = known.get(key := (row.arm, row.user))
        known[key] = row if before is None else UserRow(*before[:3], *map(add, before[3:], row[3:]))


def _assign(sums: _Sums, watched: Watched, arm_of: Mapping[str, str]) -> list[UserRow]:
    """Return the rows, each with its arm. Rows without an arm are dropped if their user has none either."""
    if watched.dimension:
        return list(sums.values())
    return [row._replace(arm=arm_of[user]) for (_, user), row in sums.items() if user is not None and user in arm_of]


def _find_arms(watched: Watched, exposures: Sequence[Exposure]) -> dict[str, str]:
    """Return the arm of each user who was exposed to exactly one of them."""
    arms: dict[str, str] = {}
    several = set()
    for exposure in exposures:
        if arms.setdefault(exposure.targeting_key, exposure.variant) != exposure.variant:
            several.add(exposure.targeting_key)
    return {user: arm for user, arm in arms.items() if arm in watched.arms and user not in several}


def _count_exposed(exposures: Sequence[Exposure], before_ms: int) -> int:
    before = from_ms(before_ms)
    return sum(exposure.first_seen < before for exposure in exposures)
