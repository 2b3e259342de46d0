"""Rule: computes what a batch of rows adds to the rollups: by hour, by day, and by day and segment value.

The store's triggers do the same for rows of other writers; a test compares the two.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from quarterdeck.clock import DAY_MS, HOUR_MS
from quarterdeck.retrieval import Row
from quarterdeck.schema import DIMENSIONS, EMPTY_BIN, HISTOGRAM_BINS

_Cells = dict[tuple[int, str, str, str, int], list[float]]
_Sums = dict[tuple[str, str, int], list[float]]


@dataclass(frozen=True, slots=True)
class Rollups:
    """Rows to add to the rollups, sorted so that concurrent writers lock them in the same order.

    `by_period` holds (start, segment, bin, n, sum, sum of squares); `daily` holds (dimension, value, start, n, sum,
    sum of squares, empty hit lists, one count per bin).
    """

    by_period: dict[int, list[tuple[object, ...]]]
    daily: list[tuple[object, ...]]


def roll_up(rows: Iterable[Row]) -> Rollups:
    """Return what these rows add to each rollup."""
    hours = _count_hours(rows)
    return Rollups(
        {HOUR_MS: _sorted_rows(hours), DAY_MS: _sorted_rows(_merge_into_days(hours))},
        _sorted_rows(_count_daily(hours)),
    )


def _count_hours(rows: Iterable[Row]) -> _Cells:
    """Count the rows by hour, segment and bin: the only pass over them, one lookup per row."""
    raw: dict[tuple[int, str | None, str | None, str | None, int], list[float]] = {}
    for ts_ms, _, score, _, arm, prompt_version, index_version, _, _, _, _ in rows:
        if score is None:
            score, number = 0.0, EMPTY_BIN
        else:
            number = int(score * HISTOGRAM_BINS)
        key = (ts_ms // HOUR_MS, arm, prompt_version, index_version, number)
        cell = raw.get(key)
        if cell is None:
            raw[key] = [1, score, score * score]
        else:
            cell[0] += 1
            cell[1] += score
            cell[2] += score * score
    cells: _Cells = {}
    for (hour, arm, prompt_version, index_version, number), cell in raw.items():
        last = min(number, HISTOGRAM_BINS - 1)  # a score of 1 belongs to the last bin
        _add(cells, (hour * HOUR_MS, arm or "", prompt_version or "", index_version or "", last), cell)
    return cells


def _merge_into_days(hours: _Cells) -> _Cells:
    days: _Cells = {}
    for (start_ms, *segment, number), cell in hours.items():
        _add(days, (start_ms - start_ms % DAY_MS, *segment, number), cell)  # type: ignore[arg-type]
    return days


def _count_daily(hours: _Cells) -> _Sums:
    found: _Sums = {}
    for (start_ms, *segment, number), (n, total, total_squares) in hours.items():
        day = start_ms - start_ms % DAY_MS
        for dimension, value in (("", ""), *zip(DIMENSIONS, segment, strict=True)):
            sums = found.setdefault((dimension, str(value), day), [0, 0.0, 0.0, 0, *[0] * HISTOGRAM_BINS])
            if number == EMPTY_BIN:
                sums[3] += n
            else:
                sums[0] += n
                sums[4 + number] += n
            sums[1] += total
            sums[2] += total_squares
    return found


def _add(cells: _Cells, key: tuple[int, str, str, str, int], cell: list[float]) -> None:
    known = cells.get(key)
    cells[key] = list(cell) if known is None else [a + b for a, b in zip(known, cell, strict=True)]


def _sorted_rows(cells: _Cells | _Sums) -> list[tuple[object, ...]]:
    return [(*key, *cell) for key, cell in sorted(cells.items())]
