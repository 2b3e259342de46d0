"""Rule: learns how a retriever's own numbers, of any scale, become similarities between 0 and 1: by their quantiles."""

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

LEAST_ROWS, MOST_ROWS = 200, 2_000
_LOWEST, _HIGHEST = 0.05, 0.95  # the similarities of the learned range: what comes later may lie beyond it
_POINTS = 101


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """A frozen map: points of (number, similarity), ascending; `sign` is -1 for distances, whose smallest is best.

    `scale` is the spread of the numbers, by which similarities approach 0 and 1 beyond the points.
    """

    points: tuple[tuple[float, float], ...]
    scale: float
    sign: int = 1
    version: int = 1

    def apply(self, score: float) -> float:
        """Return the similarity of a number: between two points on the line, beyond them ever nearer to 0 or 1."""
        x = self.sign * score
        (first, low), (last, high) = self.points[0], self.points[-1]
        if x < first:
            return low * math.exp(max(-700.0, (x - first) / self.scale))
        if x >= last:
            return 1.0 - (1.0 - high) * math.exp(max(-700.0, (last - x) / self.scale))
        at = bisect_right(self.points, (x, math.inf)) - 1
        (x0, y0), (x1, y1) = self.points[at], self.points[at + 1]
        return y0 + (y1 - y0) * (x - x0) / (x1 - x0)

    def dump(self) -> str:
        """Return the map as the JSON that is stored."""
        return json.dumps({"points": self.points, "scale": self.scale, "sign": self.sign})

    @classmethod
    def read(cls, stored: str, version: int) -> "ScoreMap":
        """Return the map that `dump` wrote."""
        told = json.loads(stored)
        points = tuple((float(x), float(y)) for x, y in told["points"])
        return cls(points, float(told["scale"]), int(told["sign"]), version)


def learn_map(scores: Sequence[float], *, is_distance: bool, version: int = 1) -> ScoreMap:
    """Return the map of these numbers: the better a number stands among them, the nearer its similarity is to 1.

    A number above the share q of the others becomes 0.05 + 0.9 q; equal numbers get the middle of their ranks. Monotone
    and free of the scale. Needs at least one number; with `LEAST_ROWS` a quantile is off by at most 0.07 in 95%
    (Dvoretzky-Kiefer-Wolfowitz would give 0.10 at all quantiles together).
    """
    sign = -1 if is_distance else 1
    ordered = sorted(sign * score for score in scores)
    ranked, before = [], 0
    for number, same in groupby(ordered):
        count = len(list(same))
        ranked.append((number, _LOWEST + (_HIGHEST - _LOWEST) * (before + count / 2) / len(ordered)))
        before += count
    step = max(1.0, (len(ranked) - 1) / (_POINTS - 1))
    kept = sorted({round(at * step) for at in range(_POINTS) if round(at * step) < len(ranked)} | {len(ranked) - 1})
    spread = ordered[len(ordered) * 3 // 4] - ordered[len(ordered) // 4]
    scale = spread or abs(ordered[len(ordered) // 2]) or 1.0
    return ScoreMap(tuple(ranked[at] for at in kept), scale, sign, version)
