"""Gateway to later scores: adds pending ones to the rollups of their rows, and drops those whose row never came.

The scores are in the store. Where the log is elsewhere, their sums are in the store's rollups, without the numbers that
the rows came with.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal_column, select, text

from core.errors import InvalidInput
from core.log.documents import forget_packs
from core.log.named_rows import NamedRow, find_rows
from quarterdeck.clock import DAY_MS, HOUR_MS
from quarterdeck.intake import Counted, make_example, store_counts
from quarterdeck.log import add_sums, begin_appending, lock_rollups
from quarterdeck.registry import Registry, registry_of
from quarterdeck.rollups import Rollups, bin_of, bound
from quarterdeck.schema import DIMENSIONS, TENTHS, dimension_values, retrievals, scores
from quarterdeck.scope import Scope
from quarterdeck.scores import FOR_OWN_SERVICE
from quarterdeck.store import Store

MOST_NAMES = 50  # names of scores of one service in one environment
WAITS_MS = 7 * DAY_MS  # how long a score waits for its row
SOURCE = "scores"

_NAMES = "(score)"  # the dimension under which the names of scores are kept
_ON_THE_ROW = ("feedback", "faithfulness")  # numbers that a row may come with, too
_PAGE = 1_000
_SCOPES_A_STATEMENT = 500
_SLICE = 200
_PENDING: ColumnElement[bool] = literal_column("pending > 0")  # as the index has it
_KEY = ("retrieval_id", "name", "source", "environment")
_SAME = " AND ".join(f"{name} = :{name}" for name in _KEY)
_DONE = text(
    f"UPDATE scores SET applied = :applied, pending = CASE WHEN value = :applied THEN 0 ELSE pending END WHERE {_SAME}"
)
_DROP = text(f"DELETE FROM scores WHERE {_SAME} AND pending > 0")
_ADD_NAME = text(
    "INSERT INTO dimension_values (scope_id, dimension, day_ms, value) VALUES (:scope_id, :dimension, 0, :value) "
    "ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class AppliedScores:
    """How many scores were added to the rollups, dropped for a reason that is counted, and wait for their row."""

    applied: int
    dropped: int
    waiting: int


def apply_scores(store: Store, *, now_ms: int) -> AppliedScores:
    """Add every pending score whose row is there to the rollups, in slices; running it again changes nothing.

    A score replaces its former value, and the first score named feedback or faithfulness the number that the row came
    with. Dropped are names beyond MOST_NAMES (`name`), scores that may belong to another service alone (`scope`), and
    those whose row did not come within seven days (`no_such_retrieval`); a row of another environment is as unknown as
    one that does not exist. Raises SourceUnavailable.
    """
    applied = dropped = 0
    after = ""
    while names := _list_pending(store, after):
        after = names[-1]
        rows: defaultdict[str, list[NamedRow]] = defaultdict(list)
        for row in find_rows(store, names):
            rows[row.name].append(row)
        known = sorted(rows)
        for start in range(0, len(known), _SLICE):
            done, refused = _apply(store, {name: rows[name] for name in known[start : start + _SLICE]})
            applied, dropped = applied + done, dropped + refused
    dropped += _drop_late(store, now_ms - WAITS_MS)
    with store.read() as connection:
        waiting = connection.scalar(select(func.count()).select_from(scores).where(_PENDING))
    return AppliedScores(applied, dropped, int(waiting or 0))


def admit_names(connection: Connection, wanted: Mapping[int, Collection[str]]) -> dict[int, set[str]]:
    """Return which names of scores scopes may have, by the scope's id: the first MOST_NAMES. New ones are noted."""
    known: dict[int, set[str]] = {scope_id: set() for scope_id in wanted}
    c, ids = dimension_values.c, list(wanted)
    for start in range(0, len(ids), _SCOPES_A_STATEMENT):
        some = c.scope_id.in_(ids[start : start + _SCOPES_A_STATEMENT])
        query = select(c.scope_id, c.value).where(some, c.dimension == _NAMES, c.day_ms == 0)
        for scope_id, name in connection.execute(query):
            known[scope_id].add(name)
    new = {
        scope_id: sorted({*names} - known[scope_id])[: max(0, MOST_NAMES - len(known[scope_id]))]
        for scope_id, names in wanted.items()
    }
    rows = [{"scope_id": each, "dimension": _NAMES, "value": name} for each, names in new.items() for name in names]
    if rows:
        connection.execute(_ADD_NAME, rows)
    return {scope_id: {*names} & known[scope_id].union(new[scope_id]) for scope_id, names in wanted.items()}


@dataclass(slots=True)
class _Sums:
    """What a slice adds to the rollups, by their keys, with scopes in place of their ids."""

    sums: dict[tuple[Any, ...], list[float]] = field(default_factory=lambda: defaultdict(lambda: [0, 0.0, 0.0]))
    bins: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    bad: Counter[tuple[Any, ...]] = field(default_factory=Counter)

    def add(self, row: NamedRow, series: Iterable[tuple[str, str]], name: str, number: float, sign: int) -> None:
        """Add a number to everything that its row is counted under, or subtract it."""
        n, hour_ms = sign * row.weight, row.ts_ms - row.ts_ms % HOUR_MS
        for dimension, value in series:
            sums = self.sums[row.scope, dimension, value, name, hour_ms]
            sums[0], sums[1], sums[2] = sums[0] + n, sums[1] + n * number, sums[2] + n * number * number

    def add_bin(self, row: NamedRow, series: Iterable[tuple[str, str]], name: str, number: float, sign: int) -> None:
        """Add a number to the histograms, or subtract it."""
        day_ms = row.ts_ms - row.ts_ms % DAY_MS
        for dimension, value in series:
            self.bins[row.scope, dimension, value, name, day_ms, bin_of(number)] += sign * row.weight

    def note_bad(self, row: NamedRow, sign: int) -> None:
        """Count bad feedback for each of the row's documents, or take it back."""
        for document in row.documents:
            self.bad[row.scope, row.ts_ms - row.ts_ms % DAY_MS, document] += sign * row.weight

    def to_rollups(self) -> Rollups:
        """Return it as the log adds it; `rollups` only name the values that are counted."""
        zeros = (0,) * 5
        return Rollups(
            sorted({(scope, dimension, value, at) for scope, dimension, value, _, at in self.sums}),
            sorted((*key, *sums) for key, sums in self.sums.items()),
            sorted((*key, n) for key, n in self.bins.items() if n),
            sorted((*key, *zeros[:4], 0.0, n, *(0,) * len(TENTHS)) for key, n in self.bad.items() if n),
        )


def _list_pending(store: Store, after: str) -> list[str]:
    c = scores.c
    query = select(c.retrieval_id).where(_PENDING, c.retrieval_id > after).distinct().order_by(c.retrieval_id)
    with store.read() as connection:
        return list(connection.scalars(query.limit(_PAGE)))


def _apply(store: Store, found: Mapping[str, Sequence[NamedRow]]) -> tuple[int, int]:
    """Apply the pending scores of rows by name in one transaction; return how many, and how many were dropped."""
    registry = registry_of(store)
    with begin_appending(store) as connection:
        lock_rollups(connection)
        shared, foreign = _share_out(found, _read_scores(connection, list(found)))
        rows = [row for row, _ in shared]
        own = _read_own(connection, rows)
        ids = registry.find_ids(connection, {row.scope for row in rows})
        declared = registry.list_declared(connection, {row.scope.service for row in rows})
        admitted = _admit_all(connection, shared, ids)
        sums, done = _Sums(), list[dict[str, Any]]()
        refused = [(score, InvalidInput("scope", "the retrieval belongs to another service")) for score in foreign]
        for row, given in shared:
            judged = _Judged(row, given, own.get(row.number, {}))
            right, wrong = _sort_out(given, admitted[row.scope])
            judged.apply(right, sums, _list_series(row, declared.get(row.scope.service, ())))
            done += [{**_key_of(score), "applied": score["value"]} for score in right]
            refused += wrong
            _write_own(connection, row, judged.newest)
        forget_packs(connection, ((ids[scope], day_ms) for scope, day_ms, _ in sums.bad))
        add_sums(connection, replace(bound(sums.to_rollups(), partial(registry.admit, connection)), rollups=[]), ids)
        if done:
            connection.execute(_DONE, done)
        _drop(connection, registry, refused)
    return len(done), len(refused)


class _Judged:
    """The scores of one row that are in the rollups, and how further ones change that."""

    def __init__(self, row: NamedRow, given: Iterable[Mapping[str, Any]], own: Mapping[str, float]) -> None:
        self._row = row
        applied = [score for score in given if score["applied"] is not None]
        self._applied = {_place_of(score): float(score["applied"]) for score in applied}
        self._newest_ms: dict[str, int] = {}
        for score in applied:
            self._newest_ms[score["name"]] = max(score["ts_ms"], self._newest_ms.get(score["name"], 0))
        self._own = {name: number for name, number in own.items() if name not in self._newest_ms}
        self.newest: dict[str, float] = {}

    def apply(self, right: Iterable[Mapping[str, Any]], sums: _Sums, series: Sequence[tuple[str, str]]) -> None:
        """Add scores, oldest first; each takes the place of its former value, or of the row's own number."""
        was_bad = self._is_bad()
        for score in right:
            name, number, place = score["name"], float(score["value"]), _place_of(score)
            self._subtract_former(place, sums, series)
            sums.add(self._row, series, name, number, 1)
            sums.add_bin(self._row, series, name, number, 1)
            self._applied[place] = number
            if name in _ON_THE_ROW and score["ts_ms"] >= self._newest_ms.get(name, 0):
                self._newest_ms[name], self.newest[name] = score["ts_ms"], number
        if self._is_bad() != was_bad:
            sums.note_bad(self._row, -1 if was_bad else 1)

    def _subtract_former(self, place: tuple[str, str], sums: _Sums, series: Sequence[tuple[str, str]]) -> None:
        name, former = place[0], self._applied.get(place)
        has_bin = True
        if former is None:
            former, has_bin = self._own.pop(name, None), self._row.has_bins
        if former is None:
            return
        sums.add(self._row, series, name, former, -1)
        if has_bin:
            sums.add_bin(self._row, series, name, former, -1)

    def _is_bad(self) -> bool:
        later = any(number < 0 for (name, _), number in self._applied.items() if name == "feedback")
        return later or self._own.get("feedback", 0.0) < 0


def _read_scores(connection: Connection, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return all scores of some rows, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    c = scores.c
    query = select(scores).where(c.retrieval_id.in_(names)).order_by(c.ts_ms, c.name, c.source)
    for row in connection.execute(query).mappings():
        found[row["retrieval_id"]].append(dict(row))
    return found


def _share_out(
    found: Mapping[str, Sequence[NamedRow]], given: Mapping[str, Iterable[dict[str, Any]]]
) -> tuple[list[tuple[NamedRow, list[dict[str, Any]]]], list[dict[str, Any]]]:
    """Return the rows that have scores, each with its own, and the scores that may belong to another service alone.

    A score belongs to a row of its environment: to that of its service, else to the oldest. Where its environment has
    no such row, it waits for one.
    """
    shared: list[tuple[NamedRow, list[dict[str, Any]]]] = []
    foreign: list[dict[str, Any]] = []
    for name, rows in found.items():
        own: list[list[dict[str, Any]]] = [[] for _ in rows]
        for score in given[name]:
            near = [place for place, row in enumerate(rows) if row.scope.environment == score["environment"]]
            same = [place for place in near if rows[place].scope.service == score["service"]]
            if near and not same and score["pending"] == FOR_OWN_SERVICE:
                foreign.append(score)
            elif near:
                own[(same or near)[0]].append(score)
        shared += ((row, of_row) for row, of_row in zip(rows, own, strict=True) if of_row)
    return shared, foreign


def _read_own(connection: Connection, rows: Iterable[NamedRow]) -> dict[int | None, dict[str, float]]:
    """Return the numbers on the rows that a score replaces, by the row's number; a log elsewhere keeps its own."""
    numbers = [row.number for row in rows if row.number is not None]
    c = retrievals.c
    query = select(c.id, *(c[name] for name in _ON_THE_ROW)).where(c.id.in_(numbers))
    found = connection.execute(query).all() if numbers else ()
    return {
        number: {name: each for name, each in zip(_ON_THE_ROW, own, strict=True) if each is not None}
        for number, *own in found
    }


def _write_own(connection: Connection, row: NamedRow, newest: Mapping[str, float]) -> None:
    if newest and row.number is not None:
        connection.execute(retrievals.update().where(retrievals.c.id == row.number).values(newest))


def _admit_all(
    connection: Connection, shared: Iterable[tuple[NamedRow, list[dict[str, Any]]]], ids: Mapping[Scope, int]
) -> dict[Scope, set[str]]:
    wanted: dict[Scope, set[str]] = {}
    for row, given in shared:
        wanted.setdefault(row.scope, set()).update(score["name"] for score in given if score["pending"])
    admitted = admit_names(connection, {ids[scope]: names for scope, names in wanted.items()})
    return {scope: admitted[ids[scope]] for scope in wanted}


def _sort_out(
    given: Iterable[dict[str, Any]], admitted: Collection[str]
) -> tuple[list[dict[str, Any]], list[tuple[dict[str, Any], InvalidInput]]]:
    """Return a row's pending scores, and those with a name too many, with why."""
    right, wrong = [], []
    for score in given:
        if score["pending"] and score["name"] in admitted:
            right.append(score)
        elif score["pending"]:
            wrong.append((score, InvalidInput("name", f"a service has at most {MOST_NAMES} names of scores")))
    return right, wrong


def _list_series(row: NamedRow, declared: Iterable[str]) -> list[tuple[str, str]]:
    """Return the dimensions and values that a row is counted under; "" and "" is all of its scope."""
    noted = [(name, row.attributes.get(name)) for name in declared]
    return [
        ("", ""),
        *zip(DIMENSIONS, row.values, strict=True),
        *((name, "" if value is None else str(value)) for name, value in noted),
    ]


def _drop_late(store: Store, before_ms: int) -> int:
    """Drop the scores that wait since before a time, and count them."""
    query = select(scores).where(_PENDING, scores.c.received_ms < before_ms).limit(_PAGE)
    dropped, refusal = 0, InvalidInput("retrieval_id", "no retrieval of this id came within seven days")
    while True:
        with store.read() as connection:
            late = [dict(row) for row in connection.execute(query).mappings()]
        if not late:
            return dropped
        with begin_appending(store) as connection:
            _drop(connection, registry_of(store), [(score, refusal) for score in late])
        dropped += len(late)


def _drop(
    connection: Connection, registry: Registry, refused: Sequence[tuple[Mapping[str, Any], InvalidInput]]
) -> None:
    if not refused:
        return
    names = registry.name_scopes(connection, {_scope_of(score) for score, _ in refused})
    counts: dict[Counted, tuple[int, str]] = {}
    for score, refusal in refused:
        reason = "no_such_retrieval" if refusal.field == "retrieval_id" else refusal.field
        counted = Counted(names[_scope_of(score)], SOURCE, reason)
        n, example = counts.get(counted, (0, ""))
        counts[counted] = (n + 1, example or make_example(refusal, _key_of(score)))
    connection.execute(_DROP, [_key_of(score) for score, _ in refused])
    store_counts(connection, counts)


def _scope_of(score: Mapping[str, Any]) -> Scope:
    return Scope(score["environment"], score["service"])


def _place_of(score: Mapping[str, Any]) -> tuple[str, str]:
    return score["name"], score["source"]


def _key_of(score: Mapping[str, Any]) -> dict[str, Any]:
    return {name: score[name] for name in _KEY}
