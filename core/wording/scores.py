"""Rule: how scores are rounded: two decimals everywhere, three only where two would hide the difference."""


def say_score(score: float) -> str:
    """Return a score of 0 to 1 with two decimals.

    >>> say_score(0.5777)
    '0.58'
    """
    return f"{score:.2f}"


def decimals_of(size: float) -> int:
    """Return with how many decimals a difference is said: two, or three where these would be zero.

    >>> decimals_of(-0.1), decimals_of(0.004)
    (2, 3)
    """
    return 2 if abs(size) >= 0.005 else 3


def say_size(size: float) -> str:
    """Return the size of a difference, without its sign.

    >>> say_size(-0.108), say_size(0.0042)
    ('0.11', '0.004')
    """
    return f"{abs(size):.{decimals_of(size)}f}"


def say_change(change: float) -> str:
    """Return a difference with its sign; one that is zero in three decimals has none.

    >>> say_change(-0.108), say_change(0.0042), say_change(-0.0001)
    ('-0.11', '+0.004', '0.00')
    """
    return "0.00" if abs(change) < 0.0005 else f"{change:+.{decimals_of(change)}f}"


def subtract(former: float, now: float) -> tuple[float, int]:
    """Return by how much a mean fell, from the two means as they are shown, and the decimals that they need.

    >>> subtract(0.578, 0.470), subtract(0.5781, 0.5757)
    ((0.11, 2), (0.002, 3))
    """
    places = 2 if round(former, 2) != round(now, 2) or abs(former - now) < 0.0005 else 3
    return round(round(former, places) - round(now, places), places), places
