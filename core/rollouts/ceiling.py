"""Rule: whether green's error rate is above the ceiling of its plan: surely, and surely above blue's.

`canary.py` decides what follows, and compares the metrics with their margins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.arms.arms import Arm, ArmsReading, Metric, Stretch
from core.arms.comparisons import ArmComparison
from core.arms.shares import bound_share_above, bound_share_below
from core.flags.canary_plan import CANARY, STABLE

CEILING_ALPHA = 0.005  # of the 5% of false alarms of a canary, what the exact checks use
RECENT_HOURS = 2
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class _Errors:
    """The users of one arm in a period, and the sum of their error rates."""

    users: int = 0
    total: float = 0.0

    @property
    def rate(self) -> float:
        return self.total / self.users if self.users else 0.0


def find_breach(
    looks: Sequence[ArmsReading], found: Sequence[ArmComparison], *, ceiling: float, since: datetime
) -> str:
    """Return the sentence on what is above the ceiling, or "". `found` are the comparisons over the step.

    Green has to have a rate above the ceiling, and more errors than blue for sure: a green that equals a blue with many
    errors is no worse than blue. Two things can show it. Over the step, the comparison of the error rates
    (`compare_arms`), whether or not it is within its margin. And exact bounds, which need no least number of users:
    green's lower bound is above the ceiling and above blue's upper bound (`bound_share_below`), over the step and over
    windows of at most two hours, which see an outage late in a step.

    The exact checks are wrong in at most `CEILING_ALPHA` of steps. Half of it is for the step, half for the windows:
    the window that begins with the step's k-th hour has 1 / (k (k + 1)) of that half, which adds up to 1. A user counts
    once in each hour of a window; the two hours of one user are taken as independent.
    """
    if not looks:
        return ""
    blue, green = (_sum_step(looks[-1].arms, name) for name in (STABLE, CANARY))
    compared = next((each for each in found if each.metric is Metric.ERRORS), None)
    is_worse = compared is not None and compared.least_harm > 0 and green.rate > ceiling
    if is_worse or _are_above(green, blue, ceiling, CEILING_ALPHA / 2):
        return _say_over(green, blue, ceiling, "")
    newest = looks[-1].at
    for at, look in enumerate(looks):
        if look.start >= newest - RECENT_HOURS * _HOUR:
            hour = _hour(max(look.start, since)) - _hour(since) + 1
            blue, green = (_sum_hours(looks[at:], name) for name in (STABLE, CANARY))
            if _are_above(green, blue, ceiling, CEILING_ALPHA / 2 / (hour * (hour + 1))):
                hours = max(1, round((newest - look.start) / _HOUR))
                return _say_over(green, blue, ceiling, f" the last {f'{hours} hours' if hours > 1 else 'hour'},")
    return ""


def _are_above(green: _Errors, blue: _Errors, ceiling: float, alpha: float) -> bool:
    if green.rate <= ceiling:
        return False
    most = bound_share_above(blue.total, blue.users, alpha / 2) if blue.users else 0.0
    return bound_share_below(green.total, green.users, alpha / 2) > max(ceiling, most)


def _sum_step(arms: Mapping[str, Arm], name: str) -> _Errors:
    moments = arms.get(name, Arm()).moments.get(Metric.ERRORS)
    return _Errors(moments.users, moments.users * moments.mean) if moments else _Errors()


def _sum_hours(looks: Sequence[ArmsReading], name: str) -> _Errors:
    stretches = [look.last.get(name, Stretch()) for look in looks]
    return _Errors(sum(each.users for each in stretches), sum(each.failing for each in stretches))


def _say_over(green: _Errors, blue: _Errors, ceiling: float, period: str) -> str:
    users = f"{green.users:,} user{'' if green.users == 1 else 's'}"
    other = f", {blue.rate:.1%} on blue" if blue.users else ""
    return f"Green's error rate is {green.rate:.1%} over{period} {users}{other}; the ceiling is {ceiling:.1%}."


def _hour(moment: datetime) -> int:
    return int(moment.timestamp() // 3_600)
