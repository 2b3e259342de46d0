"""Shell: learns score maps once there are enough rows, and gives waiting rows their similarity, before and after."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.errors import InvalidInput, NotFound
from core.log import clickhouse_changes
from core.log.score_maps import (
    Scale,
    Waiting,
    find_map,
    list_numbers,
    list_scales,
    list_slices,
    list_waiting,
    list_waiting_rows,
    map_rows,
    save_map,
)
from core.log.score_scales import LEAST_ROWS, ScoreMap, learn_map
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clock import to_ms
from quarterdeck.log import SqlLog, as_log
from quarterdeck.registry import registry_of
from quarterdeck.scope import Scope
from quarterdeck.similarity import DISTANCES
from quarterdeck.store import Store

MOST_ROWS = 200_000  # that one call maps; the next one goes on


def map_scores(store: Store, *, now: datetime, most: int = MOST_ROWS) -> int:
    """Give rows of learned kinds their similarity, as soon as there are enough to learn from; return how many.

    A map is learned from the first 200 to 2,000 rows of a scope, kind and model, and is frozen. A log in ClickHouse
    changes all waiting rows of a scale at once, whatever `most` says. Raises SourceUnavailable.
    """
    log = as_log(store)
    if isinstance(log, ClickHouseLog):
        return _map_in_clickhouse(store, log, now)
    if not isinstance(log, SqlLog):
        return 0
    done = 0
    for waiting in list_waiting(log.store):
        numbers = partial(list_numbers, log.store, waiting.scale)
        found = find_map(log.store, waiting.scale) or _learn(log.store, waiting, numbers, now)
        if found is None:
            continue
        while done < most and (ids := list_waiting_rows(log.store, waiting)):
            done += map_rows(log.store, waiting.scale, ids, found)
    return done


def relearn_scores(store: Store, scope: Scope, by: Act) -> int:
    """Learn the maps of a scope anew from its newest rows and apply them to all of its rows; return the audit entry.

    Hours whose rows were deleted keep the former scale. Safe to repeat after an interruption. Raises NotFound where the
    scope has no map, and InvalidInput for a log that cannot change its rows.
    """
    log = as_log(store)
    if not isinstance(log, SqlLog | ClickHouseLog):
        raise InvalidInput("log", f"{type(log).__name__} has no learned score maps")
    keeper = log.store if isinstance(log, SqlLog) else store  # of the maps
    scales = list_scales(keeper, scope)
    if not scales:
        raise NotFound(
            f"score map: {scope.environment}/{scope.service} has none; one is learned from {LEAST_ROWS} rows"
        )
    learned: dict[Scale, tuple[ScoreMap, int]] = {}
    for scale in scales:
        numbers, former = _list_newest(log, scale), find_map(keeper, scale)
        if former and len(numbers) >= LEAST_ROWS:
            version = former.version + 1
            learned[scale] = learn_map(numbers, is_distance=scale.kind in DISTANCES, version=version), len(numbers)
    if not learned:
        raise InvalidInput("rows", f"at least {LEAST_ROWS} of a kind and model must still be stored")
    told = {f"{scale.kind} {scale.model}".strip(): found.version for scale, (found, _) in learned.items()}
    with changing(keeper, replace(by, environment=scope.environment)) as change:
        scope_id = registry_of(keeper).lend().find_ids(change.connection, [scope])[scope]
        for scale, (found, rows) in learned.items():
            save_map(change.connection, scope_id, scale, found, rows=rows, at_ms=change.at_ms)
        change.record(Action.SERVICE_RELEARN, scope.service, None, {"versions": told})
    for scale, (found, _) in learned.items():
        if isinstance(log, ClickHouseLog):
            clickhouse_changes.unmap_rows(log, scale, found)
            clickhouse_changes.map_rows(log, scale, found)
            continue
        for ids in list_slices(log.store, scale):
            map_rows(log.store, scale, ids, found)
    return change.entry_id


def _map_in_clickhouse(store: Store, log: ClickHouseLog, now: datetime) -> int:
    done = 0
    for waiting in clickhouse_changes.list_waiting(log):
        numbers = partial(clickhouse_changes.list_numbers, log, waiting.scale)
        if found := find_map(store, waiting.scale) or _learn(store, waiting, numbers, now):
            done += clickhouse_changes.map_rows(log, waiting.scale, found)
    return done


def _list_newest(log: SqlLog | ClickHouseLog, scale: Scale) -> list[float]:
    if isinstance(log, ClickHouseLog):
        return clickhouse_changes.list_numbers(log, scale, newest=True)
    return list_numbers(log.store, scale, newest=True)


def _learn(store: Store, waiting: Waiting, list_since: Callable[..., list[float]], now: datetime) -> ScoreMap | None:
    scale = waiting.scale
    numbers = list_since(since_ms=waiting.spans[0][0])  # before it, no row has waited
    if len(numbers) < LEAST_ROWS:
        return None
    found = learn_map(numbers, is_distance=scale.kind in DISTANCES)
    with store.begin() as connection:
        scope_id = registry_of(store).lend().find_ids(connection, [scale.scope])[scale.scope]
        save_map(connection, scope_id, scale, found, rows=len(numbers), at_ms=to_ms(now))
    return found
