"""Rule: how often somebody may do something: a token bucket for each of them. It never sleeps and stores nothing."""

from collections import OrderedDict
from collections.abc import Hashable

MOST_KNOWN = 10_000


class Meter:
    """Buckets by name. Each holds what is allowed in a minute, and is refilled evenly.

    Of more than 10,000 names, those that were quiet for longest are forgotten: their buckets are full again.
    """

    def __init__(self, per_minute: float) -> None:
        self._most = per_minute
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, name: Hashable, *, now_s: float) -> float:
        """Return 0 and count one more; or return in how many seconds one will be allowed.

        >>> meter = Meter(2)
        >>> [meter.take("ada", now_s=second) for second in (0, 0, 0, 30)]
        [0.0, 0.0, 30.0, 0.0]
        """
        level, at_s = self._levels.pop(name, (self._most, now_s))
        level = min(self._most, level + (now_s - at_s) * self._most / 60)
        wait_s = 0.0 if level >= 1 else (1 - level) * 60 / self._most
        self._levels[name] = (level if wait_s else level - 1, now_s)
        if len(self._levels) > MOST_KNOWN:
            self._levels.popitem(last=False)
        return wait_s
