"""Rule: which retrievals a client stores if it samples, and for how many each stored one counts."""

import random
from collections.abc import Callable

from quarterdeck.errors import InvalidInput


def make_sampler(share: float) -> Callable[[], int] | None:
    """Return a function that draws the weight of the next retrieval: 0 to leave it out. None if all are stored.

    Of a share of 0.3, three in ten are stored; each counts for three or four, so that the mean is right. Raises
    InvalidInput.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.000_001 <= share <= 1.0:
        raise InvalidInput("sample", f"must be a share above 0 and at most 1, not {share!r}")
    if share == 1.0:
        return None
    whole, rest = divmod(1.0 / share, 1.0)
    draw = random.Random().random  # noqa: S311 - no secret depends on it

    def sample() -> int:
        if draw() >= share:
            return 0
        return int(whole) + (draw() < rest)

    return sample
