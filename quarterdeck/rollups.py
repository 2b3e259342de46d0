"""Rule: computes what a batch of rows adds to the rollups: by hour, dimension value, metric and document.

The store's triggers do the same for rows of other writers, which have neither documents nor attributes; a test compares
the two.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from quarterdeck.clock import DAY_MS, HOUR_MS
from quarterdeck.retrieval import COLUMNS, Row
from quarterdeck.schema import DIMENSIONS, HISTOGRAM_BINS, METRICS, OTHER
from quarterdeck.scope import Scope

Admit = Callable[[Scope, str, int, set[str]], set[str]]
DOCUMENT = "document"

_Hour = tuple[Scope, str, str, int]  # scope, dimension, value ("" and "" are all rows), and the hour's start

_PLACES = {name: place for place, name in enumerate(COLUMNS)}
_SCOPE = len(COLUMNS)
_SCORE, _FEEDBACK, _KIND, _STATE, _HITS, _ATTRIBUTES, _WEIGHT = (
    _PLACES[name] for name in ("score", "feedback", "score_kind", "state", "documents", "attributes", "weight")
)
_BY = itemgetter(*(_PLACES[name] for name in DIMENSIONS))
_METRICS = tuple((name, _PLACES[name]) for name in METRICS)
_BINS_AN_OCTAVE = 8
_ZERO_BIN = 0


@dataclass(slots=True)
class Sums:
    """What some rows add up to: `counts` as in `schema.SUMS`, and by metric n, sum, sum of squares, and its bins."""

    counts: list[float]
    metrics: dict[str, tuple[float, float, float, Counter[int]]] = field(default_factory=dict)

    def add(self, other: "Sums") -> None:
        """Add what other rows add up to."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        for name, (n, total, squares, bins) in other.metrics.items():
            known = self.metrics.get(name)
            if known is None:
                self.metrics[name] = (n, total, squares, Counter(bins))
            else:
                known[3].update(bins)
                self.metrics[name] = (known[0] + n, known[1] + total, known[2] + squares, known[3])


@dataclass(frozen=True, slots=True)
class Rollups:
    """Rows to add to the rollups, each with its scope in place of the scope's id.

    They are sorted, so that concurrent writers lock them in the same order. The columns are those of the tables of the
    same name in `quarterdeck.schema`.
    """

    rollups: list[tuple[Any, ...]]
    metric_sums: list[tuple[Any, ...]]
    metric_bins: list[tuple[Any, ...]]
    document_days: list[tuple[Any, ...]]


def roll_up(rows: Sequence[Row], declared: Mapping[str, Sequence[str]] | None = None) -> Rollups:
    """Return what these rows add to each rollup. `declared` names, by service, the attributes that are dimensions."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (row[_SCOPE], row[0] // HOUR_MS, _BY(row))
        group = groups.get(key)
        if group is None:
            groups[key] = [row]
        else:
            group.append(row)
    found: dict[_Hour, Sums] = {}
    for (scope, hour, values), group in groups.items():
        start_ms, sums = hour * HOUR_MS, _sum_up(group)
        _add(found, (scope, "", "", start_ms), sums)
        for dimension, value in zip(DIMENSIONS, values, strict=True):
            _add(found, (scope, dimension, value or "", start_ms), sums)
        for dimension in (declared or {}).get(scope.service, ()):
            for value, part in _by_attribute(group, dimension).items():
                _add(found, (scope, dimension, value, start_ms), _sum_up(part))
    return Rollups(
        sorted((*key, *sums.counts) for key, sums in found.items()),
        sorted(
            (*key[:3], name, key[3], *numbers[:3])
            for key, sums in found.items()
            for name, numbers in sums.metrics.items()
        ),
        _list_bins(found),
        _count_documents(rows),
    )


def bound(added: Rollups, admit: Admit) -> Rollups:
    """Return what is added once values beyond the bounds are counted as OTHER.

    `admit(scope, dimension, day_ms, values)` returns those values of a dimension that are counted by name on a day; the
    dimension DOCUMENT has the documents.
    """
    wanted: dict[tuple[Scope, str, int], set[str]] = {}
    for scope, dimension, value, start_ms, *_ in added.rollups:
        if value:
            wanted.setdefault((scope, dimension, start_ms - start_ms % DAY_MS), set()).add(value)
    for scope, day_ms, name, *_ in added.document_days:
        wanted.setdefault((scope, DOCUMENT, day_ms), set()).add(name)
    refused = {day: left for day, values in wanted.items() if (left := values - admit(*day, values))}
    if not refused:
        return added

    def named(scope: Scope, dimension: str, start_ms: int, value: str) -> str:
        return OTHER if value in refused.get((scope, dimension, start_ms - start_ms % DAY_MS), ()) else value

    return Rollups(
        _merge(((s, d, named(s, d, at, v), at, *rest) for s, d, v, at, *rest in added.rollups), 4),
        _merge(((s, d, named(s, d, at, v), m, at, *rest) for s, d, v, m, at, *rest in added.metric_sums), 5),
        _merge(((s, d, named(s, d, at, v), m, at, *rest) for s, d, v, m, at, *rest in added.metric_bins), 6),
        _merge(((s, at, named(s, DOCUMENT, at, v), *rest) for s, at, v, *rest in added.document_days), 3),
    )


def bin_of(number: float) -> int:
    """Return the bin of a number of any size: eight bins for each doubling, negative for numbers below zero.

    >>> bin_of(0.0), bin_of(100.0) - bin_of(50.0), bin_of(-100.0) == -bin_of(100.0)
    (0, 8, True)
    """
    if number == 0.0:
        return _ZERO_BIN
    octave = math.floor(math.log2(abs(number)) * _BINS_AN_OCTAVE)
    return int(math.copysign(min(1_000, max(1, octave + 400)), number))  # 400: from 1e-15 on, each bin is its own


def middle_of(bin_number: int) -> float:
    """Return the number in the middle of a bin: no number of the bin is more than 5% away from it.

    >>> round(middle_of(bin_of(100.0)) / 100, 1)
    1.0
    """
    if bin_number == _ZERO_BIN:
        return 0.0
    return math.copysign(2.0 ** ((abs(bin_number) - 400 + 0.5) / _BINS_AN_OCTAVE), bin_number)


def _merge(rows: Iterable[tuple[Any, ...]], keys: int) -> list[tuple[Any, ...]]:
    """Add up the rows that have the same first columns."""
    merged: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        key = row[:keys]
        known = merged.get(key)
        merged[key] = list(row[keys:]) if known is None else [a + b for a, b in zip(known, row[keys:], strict=True)]
    return sorted((*key, *sums) for key, sums in merged.items())


def _sum_up(rows: Sequence[Row]) -> Sums:
    """Return what rows add up to, mostly with loops that run in C."""
    if any(row[_WEIGHT] for row in rows):
        return _sum_up_weighted(rows)
    similar = [row[_SCORE] for row in rows if row[_SCORE] is not None]
    sums = Sums(_counts(similar, _states(rows)))
    for name, place in _METRICS:
        numbers = [row[place] for row in rows if row[place] is not None]
        if numbers:
            squares = sum(number * number for number in numbers)
            sums.metrics[name] = (len(numbers), sum(numbers), squares, Counter(map(bin_of, numbers)))
    return sums


def _sum_up_weighted(rows: Sequence[Row]) -> Sums:
    parts = []
    for row in rows:
        weight = row[_WEIGHT] or 1
        part = _sum_up([(*row[:_WEIGHT], None, *row[_WEIGHT + 1 :])])
        logged = part.counts[1]
        part.counts = [weight * each for each in part.counts]
        part.counts[1] = logged
        part.metrics = {
            name: (weight * n, weight * total, weight * squares, Counter({at: weight * c for at, c in bins.items()}))
            for name, (n, total, squares, bins) in part.metrics.items()
        }
        parts.append(part)
    whole = parts[0]
    for part in parts[1:]:
        whole.add(part)
    return whole


def _counts(similar: Sequence[float], states: Sequence[int]) -> list[float]:
    histogram = [0] * (HISTOGRAM_BINS + 1)
    for number, n in Counter([int(s * HISTOGRAM_BINS) for s in similar]).items():
        histogram[number] = n
    ones = histogram.pop()
    histogram[-1] += ones  # a similarity of 1 is in the last bin
    return [len(similar), len(similar), sum(similar), sum([s * s for s in similar]), *states, *histogram]


def _states(rows: Iterable[Row]) -> list[int]:
    """Count the rows without a similarity by their state."""
    counted = Counter(row[_STATE] for row in rows if row[_SCORE] is None)
    return [counted[state] for state in range(4)]


def _by_attribute(rows: Iterable[Row], name: str) -> dict[str, list[Row]]:
    parts: dict[str, list[Row]] = {}
    for row in rows:
        attributes: Mapping[str, Any] | None = row[_ATTRIBUTES]
        value = None if attributes is None else attributes.get(name)
        parts.setdefault("" if value is None else value if type(value) is str else str(value), []).append(row)
    return parts


def _add(found: dict[_Hour, Sums], key: _Hour, sums: Sums) -> None:
    known = found.get(key)
    if known is None:
        known = found[key] = Sums([0] * len(sums.counts))
    known.add(sums)


def _list_bins(found: Mapping[_Hour, Sums]) -> list[tuple[Any, ...]]:
    days: dict[tuple[Any, ...], Counter[int]] = {}
    for (scope, dimension, value, start_ms), sums in found.items():
        for name, numbers in sums.metrics.items():
            day = (scope, dimension, value, name, start_ms - start_ms % DAY_MS)
            days.setdefault(day, Counter()).update(numbers[3])
    return sorted((*day, number, n) for day, bins in days.items() for number, n in bins.items())


def _count_documents(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    days: dict[tuple[Scope, int], dict[str, list[Any]]] = {}
    for row in rows:
        hits = row[_HITS]
        if not hits:
            continue
        day = days.setdefault((row[_SCOPE], row[0] - row[0] % DAY_MS), {})
        weight, similarity, bad = row[_WEIGHT] or 1, row[_SCORE], (row[_FEEDBACK] or 0) < 0
        is_cosine = row[_KIND] is None
        tenth = None if similarity is None else 6 + min(9, int(similarity * 10))
        rank = 0
        for name, score in hits:
            rank += weight
            sums = day.get(name)
            if sums is None:
                sums = day[name] = [0, 0, 0, 0, 0.0, 0, *[0] * 10]
            sums[0] += weight
            sums[2] += rank
            if is_cosine and score is not None:
                sums[3] += weight
                sums[4] += score * weight
            if tenth is not None:
                sums[tenth] += weight
        day[hits[0][0]][1] += weight
        for name, _ in hits if bad else ():
            day[name][5] += weight
    return sorted((*day, name, *sums) for day, documents in days.items() for name, sums in documents.items())
