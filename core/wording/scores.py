"""Rule: how scores are rounded: two decimals everywhere, three only where two would hide the difference."""

from math import ceil


def decimals_of(size: float) -> int:
    """Return with how many decimals a difference is said, and the means beside it: three below 0.01, else two.

    >>> decimals_of(-0.1), decimals_of(0.008)
    (2, 3)
    """
    return 2 if abs(size) >= 0.0099 else 3


def say_size(size: float) -> str:
    """Return the size of a difference, without its sign.

    >>> say_size(-0.108), say_size(0.0042)
    ('0.11', '0.004')
    """
    return f"{abs(size):.{decimals_of(size)}f}"


def say_limit_of(size: float) -> str:
    """Return the size from which on something holds, rounded up: with less it would be promised too early.

    >>> say_limit_of(0.0215), say_limit_of(0.0042), say_limit_of(0.02)
    ('0.03', '0.005', '0.02')
    """
    decimals = decimals_of(size)
    return f"{ceil(round(abs(size) * 10**decimals, 6)) / 10**decimals:.{decimals}f}"


def say_change(change: float) -> str:
    """Return a difference with its sign; one that is zero in three decimals has none.

    >>> say_change(-0.108), say_change(0.0042), say_change(-0.0001)
    ('-0.11', '+0.004', '0.00')
    """
    return "0.00" if abs(change) < 0.0005 else f"{change:+.{decimals_of(change)}f}"


def say_interval(value: float, low: float, high: float) -> str:
    """Return a difference with its interval.

    >>> say_interval(-0.1, -0.12, -0.08), say_interval(-0.002, -0.0104, 0.009), say_interval(0.004, -0.05, 0.06)
    ('-0.10 (-0.12 to -0.08)', '-0.002 (-0.010 to +0.009)', '0.00 (-0.05 to +0.06)')
    """
    said, lowest, highest = round_interval(value, low, high)
    return f"{said} ({lowest} to {highest})"


def round_interval(value: float, low: float, high: float) -> tuple[str, str, str]:
    """Return a difference and the ends of its interval, all three with as many decimals as half of the interval needs.

    >>> round_interval(-0.002, -0.0104, 0.009)
    ('-0.002', '-0.010', '+0.009')
    """
    decimals = decimals_of((high - low) / 2 or value)
    said, lowest, highest = (_sign(round(each, decimals), decimals) for each in (value, low, high))
    return said, lowest, highest


def say_beside(score: float, limit: float) -> str:
    """Return a score that is compared with a limit: three decimals where two would hide on which side it is.

    >>> say_beside(0.875, 0.9), say_beside(0.897, 0.9), say_beside(0.9, 0.9)
    ('0.88', '0.897', '0.90')
    """
    is_hidden = abs(score - limit) >= 0.0005 and f"{score:.2f}" == f"{limit:.2f}"
    return f"{score:.{3 if is_hidden else 2}f}"


def subtract(former: float, now: float) -> float:
    """Return by how much a mean fell, as the difference of the two means as they are shown.

    They are shown in as many decimals as the difference needs (`decimals_of`).

    >>> subtract(0.584, 0.476), subtract(0.584, 0.576)
    (0.1, 0.008)
    """
    return round(round(former, 2) - round(now, 2), 2) or round(round(former, 3) - round(now, 3), 3)


def _sign(rounded: float, decimals: int) -> str:
    return f"{rounded:+.{decimals}f}" if rounded else f"{0:.{decimals}f}"
