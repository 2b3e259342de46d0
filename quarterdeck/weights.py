"""Rule: percentages and relative weights as whole shares out of 100,000; ranges that move as few users as needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from quarterdeck.errors import InvalidInput

TOTAL_WEIGHT = 100_000


def to_weight(pct: float, field: str) -> int:
    """Return a percentage, 0 to 100, as a weight out of 100,000. Raises InvalidInput, naming `field`."""
    if isinstance(pct, bool) or not isinstance(pct, int | float) or not 0 <= pct <= 100:
        raise InvalidInput(field, f"give a number from 0 to 100, not {pct!r}")
    weight = round(pct * TOTAL_WEIGHT / 100)
    if abs(weight - pct * TOTAL_WEIGHT / 100) > 1e-6:
        raise InvalidInput(field, f"{pct} is finer than the smallest step, 0.001")
    return weight


def to_shares(weights: Mapping[str, float]) -> dict[str, int]:
    """Return relative weights as whole shares of 100,000. What rounding leaves over goes to the largest remainders."""
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise InvalidInput("weights", f"the weight of {name!r} is a number, not {weight!r}")
        if weight < 0:
            raise InvalidInput("weights", f"the weight of {name!r} is negative")
    total = math.fsum(weights.values())
    if not total:
        raise InvalidInput("weights", "all weights are zero")
    exact = {name: weight / total * TOTAL_WEIGHT for name, weight in weights.items()}
    shares = {name: math.floor(share) for name, share in exact.items()}
    left = TOTAL_WEIGHT - sum(shares.values())
    for name in sorted(exact, key=lambda name: shares[name] - exact[name])[:left]:
        shares[name] += 1
    return shares


def rescale(segments: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the same ranges, scaled to a total of 100,000."""
    shares = to_shares({str(place): weight for place, (_, weight) in enumerate(segments)})
    return [(name, shares[str(place)]) for place, (name, _) in enumerate(segments)]


def move_shares(segments: Sequence[tuple[str, int]], wanted: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return ranges with the wanted shares. Shrinking variants give up the ends of their ranges; nothing else moves."""
    surplus = {name: -wanted.get(name, 0) for name, _ in segments}
    for name, weight in segments:
        surplus[name] += weight
    freed = [0] * len(segments)
    for place in reversed(range(len(segments))):
        name, weight = segments[place]
        freed[place] = min(weight, max(0, surplus[name]))
        surplus[name] -= freed[place]
    needs = {name: share - sum(w for n, w in segments if n == name) for name, share in wanted.items()}
    moved: list[tuple[str, int]] = []
    for (name, weight), gap in zip(segments, freed, strict=True):
        moved.append((name, weight - gap))
        for taker in needs:
            taken = min(gap, max(0, needs[taker]))
            moved.append((taker, taken))
            needs[taker] -= taken
            gap -= taken
    return _merged(moved)


def _merged(segments: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Drop empty ranges and join neighbors of the same variant. A variant without a share stays listed, at the end."""
    segments = list(segments)
    joined: list[tuple[str, int]] = []
    for name, weight in segments:
        if weight and joined and joined[-1][0] == name:
            joined[-1] = (name, joined[-1][1] + weight)
        elif weight:
            joined.append((name, weight))
    present = {name for name, _ in joined}
    return [*joined, *((name, 0) for name in dict.fromkeys(name for name, _ in segments) if name not in present)]
