"""Gateway to a retrieval log in ClickHouse: changes of many stored rows, and of what they add to the rollup.

A change marks its rows first, then inserts the difference of the sums, then lets the rows go. What an interrupted
change marked is finished before anything else, and the difference is inserted once: the rollup knows its token.
Mutations run in the background of the server and are waited for.
"""

from collections.abc import Callable
from typing import Any

from core.log.score_maps import Scale, Waiting
from core.log.score_scales import MOST_ROWS, ScoreMap
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clickhouse_tables import (
    DECLARED_TABLE,
    DOCUMENT_TABLE,
    ROLLUP_TABLE,
    select_declared_sums,
    select_documents,
    select_sums,
)
from quarterdeck.clock import HOUR_MS
from quarterdeck.schema import DOCUMENT_SUMS, SUMS, TENTHS
from quarterdeck.scope import Scope

_SERIES = "environment, service, dimension, value, start_ms"
_DAYS = "environment, service, day_ms, document"
_MAPPED, _UNMAPPED, _MOVED = 1, 2, 3  # marks of rows that are being changed, modulo _MARKS
_MARKS, _VERSIONS = 4, 60  # a mark also holds the map's version: the same rows may be changed the same way again
# An insert is recognized block by block, so one that may be repeated has one block, in whatever parts its rows lie.
_ONE_BLOCK = "max_threads = 1, min_insert_block_size_rows = 1000000000, min_insert_block_size_bytes = 0"
_COUNTS = "n + unmapped + unscored + empty + failed"
_OF_SCOPE = "environment = {environment:String} AND service = {service:String}"
_OF_SCALE = (
    f"{_OF_SCOPE} AND raw_score IS NOT NULL AND ifNull(toString(score_kind), '') = {{kind:String}} "
    "AND ifNull(toString(model), '') = {model:String}"
)


def list_waiting(log: ClickHouseLog) -> list[Waiting]:
    """Return the scales of rows that have a number and no similarity. Reads the hours that have such rows."""
    hours = log.query(
        "SELECT environment, service, min(start_ms), max(start_ms) FROM (SELECT environment, service, start_ms "
        f"FROM {log.database}.{ROLLUP_TABLE} WHERE dimension = '' GROUP BY environment, service, start_ms "
        "HAVING toInt64(sum(unmapped)) > 0) GROUP BY environment, service"
    )
    found: list[Waiting] = []
    for environment, service, first_ms, last_ms in hours:
        span = (int(first_ms), int(last_ms) + HOUR_MS)
        rows = log.query(
            "SELECT DISTINCT ifNull(toString(score_kind), ''), ifNull(toString(model), '') "
            f"FROM {log.database}.retrievals WHERE {_OF_SCOPE} AND ts_ms >= {{first:Int64}} AND ts_ms < {{last:Int64}} "
            f"AND raw_score IS NOT NULL AND (score IS NULL OR mark % {_MARKS} IN ({_MAPPED}, {_UNMAPPED}))",
            environment=environment, service=service, first=span[0], last=span[1],
        )  # fmt: skip
        scope = Scope(environment, service)
        found += (Waiting(Scale(scope, str(kind), str(model)), (span,)) for kind, model in rows)
    return found


def list_numbers(log: ClickHouseLog, scale: Scale, *, newest: bool = False, since_ms: int = 0) -> list[float]:
    """Return the numbers of the first (or the newest) rows of a scale since a time, up to 2,000."""
    rows = log.query(
        f"SELECT raw_score FROM {log.database}.retrievals WHERE {_OF_SCALE} AND ts_ms >= {{since:Int64}} "
        f"ORDER BY ts_ms {'DESC' if newest else 'ASC'} LIMIT {MOST_ROWS}",
        since=since_ms, **_name(scale),
    )  # fmt: skip
    return [float(number) for (number,) in rows]


def map_rows(log: ClickHouseLog, scale: Scale, found: ScoreMap) -> int:
    """Give the waiting rows of a scale their similarity; return how many."""
    unmap_rows(log, scale, found, only_rest=True)
    return _change(
        log,
        scale,
        _MAPPED,
        found.version,
        which="score IS NULL",
        begin=f"score = {_render_map(found)}",
        end="mark = NULL",
        signs=lambda name: "toUInt64(-toInt64(waits))" if name == "unmapped" else name,
    )


def unmap_rows(log: ClickHouseLog, scale: Scale, found: ScoreMap, *, only_rest: bool = False) -> int:
    """Take the similarity from all rows of a scale, so that they wait for this map; return how many.

    `only_rest` does it for those that an interrupted call left.
    """
    return _change(
        log,
        scale,
        _UNMAPPED,
        found.version,
        which="0" if only_rest else "score IS NOT NULL",
        begin="",
        end="score = NULL, mark = NULL",
        signs=lambda name: "waits" if name == "unmapped" else _negate(name),
    )


def count_scope(log: ClickHouseLog, scope: Scope) -> tuple[int, int, int]:
    """Return how many questions a scope has in the rollup, on how many days, and in how many stored rows."""
    ((questions, days),) = log.query(
        "SELECT ifNull(sum(questions), 0), uniqExact(day) FROM (SELECT intDiv(start_ms, 86400000) AS day, "
        f"toInt64(sum({_COUNTS})) AS questions FROM {log.database}.{ROLLUP_TABLE} WHERE {_OF_SCOPE} "
        "AND dimension = '' GROUP BY day HAVING questions > 0)",
        **scope._asdict(),
    )  # fmt: skip
    ((rows,),) = log.query(f"SELECT count() FROM {log.database}.retrievals WHERE {_OF_SCOPE}", **scope._asdict())
    return int(questions), int(days), int(rows)


def move_scope(log: ClickHouseLog, former: Scope, new: Scope) -> int:
    """Hand over the rows and sums of a service to another one of its environment; return how many rows.

    Rows are copied into a table beside the log, and its partitions attached, so that no view counts them again. A row
    whose id the new service has already is not copied twice.
    """
    names = {**former._asdict(), "new": new.service}
    rows, beside = f"{log.database}.retrievals", f"{log.database}.retrievals_moving"
    log.command(f"DROP TABLE IF EXISTS {beside}")
    log.change(rows, f"mark = {_MOVED}", f"{_OF_SCOPE} AND mark IS NULL", **names)
    marked = f"{_OF_SCOPE} AND mark = {_MOVED}"
    ((count,),) = log.query(f"SELECT count() FROM {rows} WHERE {marked}", **names)
    log.command(f"CREATE TABLE {beside} AS {rows}")
    known = (
        f"SELECT retrieval_id FROM {rows} WHERE environment = {{environment:String}} AND service = {{new:String}} "
        "AND retrieval_id IS NOT NULL"
    )
    log.command(
        f"INSERT INTO {beside} SELECT * REPLACE ({{new:String}} AS service, NULL AS mark) FROM "
        f"(SELECT * FROM {rows} WHERE {marked} AND (retrieval_id IS NULL OR retrieval_id NOT IN ({known})))",
        **names,
    )
    for (partition,) in log.query(f"SELECT DISTINCT _partition_id FROM {beside}"):
        log.command(f"ALTER TABLE {rows} ATTACH PARTITION ID '{partition}' FROM {beside}")
    log.delete(marked, **names)
    log.command(f"DROP TABLE {beside}")
    _move_sums(log, names)
    return int(count)


def _move_sums(log: ClickHouseLog, names: dict[str, Any]) -> None:
    """Add what the former service has to the new one, and take it from the former, in one insert per rollup.

    The hours come last: as long as they are there, a call that was interrupted can be repeated.
    """
    for table, keys, sums in ((DOCUMENT_TABLE, _DAYS, DOCUMENT_SUMS), (ROLLUP_TABLE, _SERIES, SUMS)):
        negate = _negate if table == ROLLUP_TABLE else "-{}".format
        others = keys.removeprefix("environment, service, ")
        moved = ", ".join(f"if(of_new, {name}, {negate(name)}) AS {name}" for name in sums)
        log.command(
            f"INSERT INTO {log.database}.{table} SELECT environment, if(of_new, {{new:String}}, {{service:String}}) "
            f"AS service, {others}, {moved} FROM (SELECT {keys}, {', '.join(f'sum({name}) AS {name}' for name in sums)}"
            f", arrayJoin([true, false]) AS of_new FROM {log.database}.{table} WHERE {_OF_SCOPE} "
            f"GROUP BY {keys}, of_new)",
            **names,
        )


def _change(
    log: ClickHouseLog,
    scale: Scale,
    mark: int,
    version: int,
    *,
    which: str,
    begin: str,
    end: str,
    signs: Callable[[str], str],
) -> int:
    """Mark rows of a scale, insert the difference that they make to the sums, and let them go; return how many."""
    rows, names = f"{log.database}.retrievals", _name(scale)
    marked = f"{_OF_SCALE} AND mark % {_MARKS} = {mark}"
    content = "groupBitXor(cityHash64(ts_ms, query, retrieval_id, score))"
    count = f"SELECT count(), max(mark), {content} FROM {rows} WHERE {marked}"
    ((left, *_),) = log.query(count, **names)
    if not left and which != "0":  # else an earlier call was interrupted: its rows first
        given = f"mark = {mark + _MARKS * (version % _VERSIONS)}"
        log.change(rows, ", ".join(filter(None, (begin, given))), f"{_OF_SCALE} AND {which}", **names)
    ((changed, given_mark, content_hash),) = log.query(count, **names)
    if changed:
        token = f"{given_mark}-{changed}-{content_hash}"
        for table, select in _list_differences(log, f"(SELECT * FROM {rows} WHERE {marked})", mark, signs).items():
            once = f"insert_deduplication_token = '{token}-{table}', {_ONE_BLOCK}"
            log.command(f"{select} SETTINGS {once}", **names)
        log.change(rows, end, marked, **names)
    return int(changed)


def _list_differences(log: ClickHouseLog, rows: str, mark: int, signs: Callable[[str], str]) -> dict[str, str]:
    """Return the statements that insert what a change of these rows makes of each rollup.

    Of declared dimensions, values whose hour holds less than the rows have are left as they are: rows from before the
    declaration were never counted.
    """
    hours, declared = f"{log.database}.{ROLLUP_TABLE}", f"{log.database}.{DECLARED_TABLE}"
    sums = ", ".join(f"{signs(name)} AS {name}" for name in SUMS)
    series = f"INSERT INTO {hours} SELECT {_SERIES}, {sums} FROM (SELECT *, n AS waits FROM "
    kept = f"toInt64(sum({'unmapped' if mark == _MAPPED else 'n'})) AS kept"
    known = f"SELECT {_SERIES}, {kept} FROM {hours} WHERE {_OF_SCOPE} AND dimension != '' GROUP BY {_SERIES}"
    sign = "" if mark == _MAPPED else "-"
    days = ", ".join(f"{sign}{name}" if name in TENTHS else "0" for name in DOCUMENT_SUMS)
    return {
        "hours": f"{series} ({select_sums(rows)}))",
        "declared": f"{series} ({select_declared_sums(rows, declared)}) AS changed "
        f"INNER JOIN ({known}) AS known USING ({_SERIES}) WHERE kept >= toInt64(n))",
        "days": f"INSERT INTO {log.database}.{DOCUMENT_TABLE} SELECT {_DAYS}, {days} FROM ({select_documents(rows)})",
    }


def _name(scale: Scale) -> dict[str, Any]:
    return {**scale.scope._asdict(), "kind": scale.kind, "model": scale.model}


def _negate(name: str) -> str:
    """Return what takes a sum back. Counts are unsigned and wrap around, in sums too."""
    return f"-{name}" if "total" in name else f"toUInt64(-toInt64({name}))"


def _render_map(found: ScoreMap) -> str:
    """Return the SQL of `ScoreMap.apply` for the column `raw_score`."""
    x = f"({found.sign} * assumeNotNull(raw_score))"
    xs, ys = (f"[{', '.join(repr(float(point[at])) for point in found.points)}]" for at in (0, 1))
    (first, low), (last, high) = found.points[0], found.points[-1]
    at = f"arrayCount(point -> point <= {x}, {xs})"
    here, following = f"greatest({at}, 1)", f"least({at} + 1, {len(found.points)})"
    line = (
        f"{ys}[{here}] + ({ys}[{following}] - {ys}[{here}]) * ({x} - {xs}[{here}]) / ({xs}[{following}] - {xs}[{here}])"
    )
    return (
        f"multiIf({x} < {first!r}, {low!r} * exp(greatest(-700., ({x} - {first!r}) / {found.scale!r})), "
        f"{x} >= {last!r}, 1 - {1.0 - high!r} * exp(greatest(-700., ({last!r} - {x}) / {found.scale!r})), {line})"
    )
