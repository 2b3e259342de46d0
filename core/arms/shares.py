"""Rule: bounds on a share (0 to 1) that hold at any time and for any number of users, from the first one on.

`sequential.py` compares means by the normal approximation, which needs 30 users in each arm. These bounds are exact
and wider: they are for what is plain from a few users, such as an arm in which everything fails.
"""

import math

from core.errors import InvalidInput

_STEPS = 50


def bound_share_below(total: float, users: int, alpha: float) -> float:
    """Return a share that the true one is above at all times at once, with probability 1 - alpha.

    `total` is the sum of the users' values, each between 0 and 1. With S = total and n = users, a share p is ruled out
    as soon as

        integral over q from p to 1 of (q/p)^S ((1-q)/(1-p))^(n-S) dq / (1-p)  >=  1 / alpha

    and the bound is the largest share that is ruled out. The integral is a mixture of likelihood ratios. Each is at
    most a test martingale for values of any distribution on 0..1 with mean p, because ln(1 + b (x - p)) is concave in
    x; Ville's inequality bounds that at all times. The integral falls in p, so that bisection finds the bound.
    Assumes values that are independent of each other with one mean. Source: Robbins, "Statistical Methods Related to
    the Law of the Iterated Logarithm", 1970; Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
    betting", JRSS B 86(1), 2024.

    >>> round(bound_share_below(10, 20, 0.05), 2), round(bound_share_below(20, 20, 0.05), 2)
    (0.21, 0.8)
    """
    if not 0 < alpha < 1:
        raise InvalidInput("alpha", f"must be above 0 and below 1, not {alpha!r}")
    low, high = 0.0, total / users if users else 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _log_evidence(middle, total, users) >= -math.log(alpha) else (low, middle)
    return low


def bound_share_above(total: float, users: int, alpha: float) -> float:
    """Return a share that the true one is below at all times at once, with probability 1 - alpha; 1 without users."""
    return 1.0 - bound_share_below(users - total, users, alpha)


def _log_evidence(share: float, total: float, users: int) -> float:
    """The logarithm of the evidence that the true share is above this one."""
    from scipy.special import betainc, betaln

    if not 0 < share < 1:
        return -math.inf if share else math.inf
    rest = users - total
    above = math.log(float(betainc(rest + 1, total + 1, 1 - share)))  # the part of the mixture above this share
    return above + float(betaln(total + 1, rest + 1)) - total * math.log(share) - (rest + 1) * math.log1p(-share)
