"""Rule: compares two arms with an always-valid interval, which you may check at any time, and plans how long it takes.

It works on user counts, means and variances. `arms.py` computes them; `canary.py` and `experiment.py` of
`core/rollouts` decide what follows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import InvalidInput

ALPHA = 0.05
LEAST_USERS = 30  # per arm; with fewer there is no interval, which assumes nearly normal means
LEAST_ADJUSTED = 100  # per arm; with fewer, the slope of an adjustment is a guess
MISMATCH_P = 0.001
_TUNED_FOR = 5_000  # users at which the interval is narrowest for its alpha
_CONCENTRATIONS = (10.0, 100.0, 1_000.0, 10_000.0)  # of the prior of `compare_shares`, averaged
_Z_OF_POWER = 0.8416  # the 80% quantile of the normal distribution
_MOST_USERS = 1 << 40


@dataclass(frozen=True, slots=True)
class Covariate:
    """What was known of the same users beforehand: mean and variance, and the covariance with their values."""

    mean: float
    variance: float
    covariance: float


@dataclass(frozen=True, slots=True)
class Moments:
    """One value per user, however many questions the user asked: user count, mean and sample variance of the values."""

    users: int
    mean: float
    variance: float
    covariate: Covariate | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Second arm minus first arm, in the metric's unit, with the standard error.

    `users` counts both arms.
    """

    estimate: float
    error: float
    users: int

    def half_width(self, alpha: float = ALPHA) -> float:
        """Return the one-sided half-width of the confidence sequence; see `half_width`."""
        return half_width(self.error, self.users, alpha)


def compare_moments(first: Moments, second: Moments, *, least_variance: float = 0.0) -> Difference | None:
    """Return second minus first; None while either arm has fewer than 30 users.

    Each arm's variance counts as at least the pooled variance, and as `least_variance`. In the smaller arm of a skewed
    metric (latency, cost, errors), mean and variance are underestimated together, which would give verdicts too early.
    """
    n1, n2 = first.users, second.users
    if min(n1, n2) < LEAST_USERS:
        return None
    pooled = ((n1 - 1) * first.variance + (n2 - 1) * second.variance) / (n1 + n2 - 2)
    floor = max(pooled, least_variance)
    error = math.sqrt(max(first.variance, floor) / n1 + max(second.variance, floor) / n2)
    return Difference(second.mean - first.mean, error, n1 + n2)


def adjust_moments(first: Moments, second: Moments) -> tuple[Moments, Moments]:
    """Return both arms with means and variances adjusted for the covariate; unchanged where it is of no use.

    With y the value and x the covariate of a user, n users and the sample moments of each arm:

        slope = (cov1 / n1 + cov2 / n2) / (var1(x) / n1 + var2(x) / n2)
        mean  = mean(y) - slope (mean(x) - mean(x) over both arms),  variance = var(y - slope x)

    The slope makes the standard error of the difference as small as it can be, so that a covariate that says nothing
    changes nothing. The intervals stay valid at all times (they see y - slope x for y). Assumes that the arm has no
    influence on x: where x differs between the arms, surely at `MISMATCH_P`, nothing is adjusted, because users then
    ask something else in one arm. Needs `LEAST_ADJUSTED` users in each arm for a slope. Source: Deng, Xu, Kohavi and
    Walker, "Improving the Sensitivity of Online Controlled Experiments by Utilizing Pre-Experiment Data", WSDM 2013;
    under always-valid inference Lindon, Ham, Tingley and Bojinov, arXiv 2210.08589.
    """
    one, other = first.covariate, second.covariate
    if one is None or other is None or min(first.users, second.users) < LEAST_ADJUSTED:
        return first, second
    spread = one.variance / first.users + other.variance / second.users
    shift = abs(one.mean - other.mean)
    users = first.users + second.users
    if spread <= 0 or shift > half_width(math.sqrt(spread), users, MISMATCH_P / 2):
        return first, second
    slope = (one.covariance / first.users + other.covariance / second.users) / spread
    middle = (first.users * one.mean + second.users * other.mean) / users
    return _adjust(first, one, slope, middle), _adjust(second, other, slope, middle)


def _adjust(moments: Moments, known: Covariate, slope: float, middle: float) -> Moments:
    variance = moments.variance - 2 * slope * known.covariance + slope**2 * known.variance
    return Moments(moments.users, moments.mean - slope * (known.mean - middle), max(0.0, variance))


def half_width(error: float, users: int, alpha: float = ALPHA) -> float:
    """Return h, so that with probability 1 - alpha the true difference is above "estimate - h" at all times at once.

    The one-sided asymptotic confidence sequence, n users in both arms, SE their difference's standard error:

        rho = sqrt((-2 ln 2a + ln(1 - 2 ln 2a)) / N*),  N* = 5000
        h   = sqrt(SE^2 n * 2 (n rho^2 + 1) / (n rho)^2 * ln(1 + sqrt(n rho^2 + 1) / (2a)))

    Both sides at once hold with 1 - 2 alpha. Assumes users independent of each other with finite variance, one value
    each; asymptotic, so not under 30 users an arm. Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
    "Time-uniform central limit theory and asymptotic confidence sequences", arXiv 2103.06476, one-sided form.

    >>> round(half_width(0.01, 5_000), 4)
    0.0278
    """
    if not 0 < alpha < 0.5:
        raise InvalidInput("alpha", f"must be above 0 and below 0.5, not {alpha!r}")
    log = math.log(2 * alpha)
    rho_squared = (-2 * log + math.log(1 - 2 * log)) / _TUNED_FOR
    spread = users * rho_squared + 1
    scale = 2 * spread / (users**2 * rho_squared) * math.log(1 + math.sqrt(spread) / (2 * alpha))
    return math.sqrt(error**2 * users * scale)


def find_users_needed(difference: Difference, effect: float, *, alpha: float = ALPHA) -> int | None:
    """Return how many users in both arms are needed to detect a true `effect` with 80% power.

    The smallest n with h(n) + 0.84 SE(n) <= effect, where SE falls as 1 / sqrt(n) from the observed one, at the arms'
    current shares. None if no number of users is enough (an effect of 0 or less).
    """
    spread = difference.error * math.sqrt(difference.users)
    if effect <= 0:
        return None
    if spread == 0:
        return difference.users

    def enough(users: int) -> bool:
        error = spread / math.sqrt(users)
        return half_width(error, users, alpha) + _Z_OF_POWER * error <= effect

    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_USERS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def find_visible_effect(difference: Difference, *, alpha: float = ALPHA) -> float:
    """Return the smallest true effect that is detectable with 80% power at the current number of users."""
    return difference.half_width(alpha) + _Z_OF_POWER * difference.error


def compare_shares(users: Mapping[str, int], weights: Mapping[str, float]) -> float | None:
    """Return the always-valid p-value of the user counts under the weights; None without users, or with one arm.

    However often you check, users who are drawn by these weights get a p-value below u with a chance of at most u. With
    n users, n_i of them in arm i of share t_i, and a Dirichlet prior of concentration k around the shares:

        p = 1 / mean over k of [ G(k) / G(n + k) * product over i of G(n_i + k t_i) / (G(k t_i) t_i^n_i) ], at most 1

    G is the gamma function; k is 10, 100, 1,000 and 10,000, for large differences and small ones. Assumes users
    independent of each other. Needs no least number of users. Users in an arm of weight 0 are impossible: p = 0. Below
    `MISMATCH_P` the counts are a sample ratio mismatch: users are lost or counted twice in one arm, and no other figure
    can be trusted. Source: Lindon and Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022.
    """
    weight = math.fsum(weights.values())
    if any(count and not weights.get(arm) for arm, count in users.items()):
        return 0.0
    shares = {arm: share / weight for arm, share in weights.items() if share}
    total = sum(users.values())
    if len(shares) < 2 or not total:
        return None
    logs = []
    for k in _CONCENTRATIONS:
        log = math.lgamma(k) - math.lgamma(total + k)
        for arm, share in shares.items():
            count = users.get(arm, 0)
            log += math.lgamma(count + k * share) - math.lgamma(k * share) - count * math.log(share)
        logs.append(log)
    most = max(logs)
    log_evidence = most + math.log(math.fsum(math.exp(log - most) for log in logs) / len(logs))
    return math.exp(-max(0.0, log_evidence))
