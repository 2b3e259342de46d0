"""Rule: what a detector of drops has to answer, and the values it answers with.

The verdict (`core.drift.verdict`) and the causes of a drop (`core.causes`) know a detector by this protocol alone. To
add one, write a module (or an object) with the two functions of `Detector` and name it in `core.drift.detectors`; the
tests of tests/core/drift/test_detector.py then hold it to what every detector promises. `core.drift.daily` has what
most need: the noise of a history, a reference level, and how far other days lie from it.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from core.drift.daily import DailyHistory, Noise, Shift

CALL = math.log(100)  # evidence at which a drop is called: the days are 100 times likelier with a drop than without


@dataclass(frozen=True, slots=True)
class Episode:
    """A drop, as indices of observed days. `dated_at_call` is the date at the call, `changed` the refined one.

    The change lies between `earliest` and `latest` with 90%; None where the detector does not say. `ended` is the day
    on which the end was noticed, `recovered` the first day of the level that came back. `fall` is the size, negative.
    """

    changed: int
    dated_at_call: int
    called: int
    ended: int | None = None
    recovered: int | None = None
    earliest: int | None = None
    latest: int | None = None
    fall: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether the level has come back."""
        return self.ended is not None

    @property
    def back(self) -> int:
        """The first day after the drop; only for one that is over."""
        assert self.ended is not None
        return self.ended if self.recovered is None else self.recovered


@dataclass(frozen=True, slots=True)
class Replay:
    """The detector's state at the end of the last day."""

    episodes: tuple[Episode, ...]
    fall: Shift | None  # the strongest suspected drop, or the called one measured against its frozen reference
    rise: Shift | None
    noise: Noise
    levels: tuple[int, ...] = ()  # first days of the levels that days are compared with, the first one left out

    @property
    def open_episode(self) -> Episode | None:
        """The largest drop that is neither accepted nor recovered, the newest of several alike; None without any."""
        still = [each for each in self.episodes if not each.is_over]
        return max(still, key=lambda each: (-(each.fall or 0.0), each.called)) if still else None


class Detector(Protocol):
    """Finds drops of the level in a history of daily means. Evidence is a log likelihood ratio: with a drop to without.

    A detector keeps nothing between two calls, and a verdict as of one day uses no later day: a history that is cut
    off gives the episodes of that time.
    """

    def replay(self, history: DailyHistory, threshold: float = CALL) -> Replay:
        """Return every drop, as of the end of the last day; one is called once its evidence reaches `threshold`.

        While drops are open, `fall` is the size of the largest against the days before it. Otherwise `fall` and `rise`
        are the strongest suspicions, None without any. Their evidence stays under the threshold.
        """
        ...

    def smallest_drop(
        self, history: DailyHistory, seen: Replay, *, since: int, power: float, threshold: float = CALL
    ) -> float | None:
        """Return the drop that would be called with the chance `power` once it has lasted from day `since` to the end.

        `since` is the ordinal of a day, `seen` the answer of `replay` to this history. None without enough queries.
        """
        ...
