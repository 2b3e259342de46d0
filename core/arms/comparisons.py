"""Rule: compares one arm with another, metric by metric: how much worse it is, and whether that is allowed.

`canary.py` and `experiment.py` in `core/rollouts` turn this into a verdict.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.arms.arms import HIGHER_IS_BETTER, Arm, ArmsReading, ComparedMetric, Metric
from core.arms.sequential import Difference, Moments, adjust_moments, compare_moments, find_users_needed
from core.metrics.definition import MetricDefinition, say_metric_amount, say_metric_value

RELATIVE = frozenset({Metric.LATENCY, Metric.COST})  # their margins are shares of the stable arm's mean
# Of the false alarms that are allowed, the parts of each metric; others have 1.
_WEIGHTS: dict[ComparedMetric, float] = {Metric.ERRORS: 2.0}

_DECIMALS = {Metric.ERRORS: 1, Metric.LATENCY: 0, Metric.COST: 4}  # of a mean as it is shown; others have 2
_MOST_TRACED = 120


def is_higher_better(metric: ComparedMetric) -> bool:
    """Return whether more of a metric is better."""
    return metric.is_higher_better if isinstance(metric, MetricDefinition) else metric in HIGHER_IS_BETTER


def is_relative(metric: ComparedMetric) -> bool:
    """Return whether margins of a metric are shares of the stable arm's mean."""
    return metric.is_relative if isinstance(metric, MetricDefinition) else metric in RELATIVE


def _is_share(metric: ComparedMetric) -> bool:
    return metric.is_share if isinstance(metric, MetricDefinition) else metric is Metric.ERRORS


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse an arm may be in a metric: in its unit, or as a share of the stable mean (`is_relative`)."""

    metric: ComparedMetric
    amount: float

    def of(self, mean: float) -> float:
        """Return the margin in the metric's unit."""
        return self.amount * abs(mean) if is_relative(self.metric) else self.amount


@dataclass(frozen=True, slots=True)
class ArmComparison:
    """One metric of an arm, compared with the stable arm. `margin` is how much worse it may be, in the metric's unit.

    `difference` is None while an arm has too few users. `alpha` is the chance that this comparison, checked at any
    number of times, ever calls an arm worse that is not; `safe_alpha` is the chance that it is wrongly called safe.
    `is_adjusted` says that means and difference are adjusted for the questions and users (`adjust_moments`).
    """

    metric: ComparedMetric
    stable: Moments
    other: Moments
    margin: float
    difference: Difference | None
    alpha: float
    safe_alpha: float
    is_adjusted: bool = False

    @property
    def harm(self) -> float | None:
        """How much worse the arm is than the stable one; negative if better."""
        if self.difference is None:
            return None
        return -self.difference.estimate if is_higher_better(self.metric) else self.difference.estimate

    @property
    def least_harm(self) -> float:
        """Lower confidence bound of the harm; minus infinity while unknown."""
        return -float("inf") if self.difference is None else self._harm - self.difference.half_width(self.alpha)

    @property
    def most_harm(self) -> float:
        """Upper confidence bound of the harm; infinity while unknown."""
        return float("inf") if self.difference is None else self._harm + self.difference.half_width(self.safe_alpha)

    @property
    def is_safe(self) -> bool:
        """Whether the harm is confirmed to be smaller than the margin."""
        return self.most_harm < self.margin

    @property
    def is_worse(self) -> bool:
        """Whether the arm is significantly worse, and not confirmed within the margin."""
        return self.least_harm > 0 and not self.is_safe

    @property
    def users_until_safe(self) -> int | None:
        """Users still needed in both arms to call it safe if the estimates hold; None if never."""
        if self.difference is None:
            return None
        needed = find_users_needed(self.difference, self.margin - max(0.0, self._harm), alpha=self.safe_alpha)
        return None if needed is None else max(0, needed - self.difference.users)

    @property
    def _harm(self) -> float:
        return self.harm or 0.0


def compare_arms(stable: Arm, other: Arm, margins: Iterable[Margin], *, alpha: float) -> tuple[ArmComparison, ...]:
    """Return a comparison for each metric that both arms log.

    `alpha` is split over the metrics (Bonferroni; the error rate, which does most harm, gets two parts and the others
    one each), so it bounds the chance that any of them is wrongly called worse. Metrics of one's own have their part
    before they have numbers, which may come late: the others would else have used it up by then. Safety needs no such
    split, because every metric has to be safe.
    """
    margins = tuple(margins)
    judged = [margin for margin in margins if margin.metric in stable.moments and margin.metric in other.moments]
    sharing = [margin for margin in margins if margin in judged or isinstance(margin.metric, MetricDefinition)]
    parts = sum(_WEIGHTS.get(margin.metric, 1.0) for margin in sharing)
    found = []
    for margin in judged:
        part = _WEIGHTS.get(margin.metric, 1.0) / parts
        logged = stable.moments[margin.metric], other.moments[margin.metric]
        first, second = adjusted = adjust_moments(*logged)
        allowed = margin.of(first.mean)
        least = _variance_at(margin.metric, first, allowed) if _is_share(margin.metric) else 0.0
        difference = compare_moments(first, second, least_variance=least)
        found.append(
            ArmComparison(margin.metric, first, second, allowed, difference, alpha * part, alpha, adjusted != logged)
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class HarmTrace:
    """The harm as known at one time: the estimate and its confidence bounds."""

    at: datetime
    harm: float
    least: float
    most: float


def trace_harm(
    looks: Sequence[ArmsReading],
    metric: ComparedMetric,
    margins: Sequence[Margin],
    *,
    stable: str,
    other: str,
    alpha: float,
) -> tuple[HarmTrace, ...]:
    """Return the history of one metric's difference, at most 120 points.

    Readings in which an arm had fewer than 30 users are left out.
    """
    every = -(-len(looks) // _MOST_TRACED) or 1
    traced = []
    for look in looks[(len(looks) - 1) % every :: every] if looks else ():
        found = compare_arms(look.arms.get(stable, Arm()), look.arms.get(other, Arm()), margins, alpha=alpha)
        known = [(each, each.harm) for each in found if each.metric == metric and each.harm is not None]
        traced += [HarmTrace(look.at, harm, each.least_harm, each.most_harm) for each, harm in known]
    return tuple(traced)


def _variance_at(metric: ComparedMetric, stable: Moments, margin: float) -> float:
    """The variance of users' error rates, or of another share, in an arm that is worse by exactly the margin.

    An arm without errors so far has a variance of 0 and would be called safe too early. A share p has the variance
    p (1 - p); repeated questions by a user reduce it, by as much as in the stable arm.
    """
    rate = stable.mean
    several = min(1.0, stable.variance / (rate * (1 - rate))) if 0 < rate < 1 and stable.variance else 1.0
    low, high = sorted((rate, min(1.0, max(0.0, rate - margin if is_higher_better(metric) else rate + margin))))
    largest = min(max(0.5, low), high)  # of the shares between both, the one of the largest variance
    return largest * (1 - largest) * several


def describe_comparison(each: ArmComparison) -> str:
    """Return both arms and the confidence interval of their difference, in one line."""
    stable, other = (say_value(each.metric, moments.mean) for moments in (each.stable, each.other))
    told = f"{each.metric}: {other} against {stable}"
    if each.difference is None:
        return f"{told}, too few users to compare"
    ends = (_say_harm(each.metric, harm) for harm in (each.least_harm, each.most_harm))
    return f"{told}, between {' and '.join(ends)}; {say_amount(each.metric, each.margin)} worse is allowed"


def _say_harm(metric: ComparedMetric, harm: float) -> str:
    return f"{say_amount(metric, harm)} {'worse' if harm > 0 else 'better'}"


def say_means(each: ArmComparison, least: float) -> tuple[str, str]:
    """Format the means of both arms, the other one first, beside a sure difference of at least `least`.

    They have as many decimals as their difference needs to be no smaller than `least` as it is shown.
    """
    shown = _read_number(say_amount(each.metric, least))
    for finer in range(5):
        other, stable = (say_value(each.metric, arm.mean, finer=finer) for arm in (each.other, each.stable))
        if abs(_read_number(other) - _read_number(stable)) > shown - 1e-9:
            break
    return other, stable


def _read_number(text: str) -> float:
    found = re.search(r"-?[\d,]*\.?\d+", text)
    return float(found[0].replace(",", "")) if found else 0.0


def say_value(metric: ComparedMetric, value: float, *, finer: int = 0) -> str:
    """Format a mean for display, with so many decimals more than usual.

    >>> [say_value(Metric.SCORE, 0.613), say_value(Metric.ERRORS, 0.0123), say_value(Metric.LATENCY, 412.3)]
    ['0.61', '1.2%', '412 ms']
    """
    if isinstance(metric, MetricDefinition):
        return say_metric_value(metric, value, finer=finer)
    digits = _DECIMALS.get(metric, 2) + finer
    if metric is Metric.ERRORS:
        return f"{value:.{digits}%}"
    if metric is Metric.LATENCY:
        return f"{value:,.{digits}f} ms"
    return f"${value:.{digits}f}" if metric is Metric.COST else f"{value:.{digits}f}"


def say_amount(metric: ComparedMetric, amount: float) -> str:
    """Format a difference for display: finer than a mean, without a sign."""
    if isinstance(metric, MetricDefinition):
        return say_metric_amount(metric, amount)
    amount = abs(amount)
    if metric is Metric.ERRORS:
        return f"{100 * amount:.1f} points"
    if metric is Metric.LATENCY:
        return f"{amount:,.0f} ms"
    if metric is Metric.COST:
        return f"${amount:.4f}" if amount >= 0.001 else f"${amount:.6f}"
    return f"{amount:.3f}"


def say_count(number: int) -> str:
    """Format an estimated number, rounded up to two leading digits: the estimate is no more exact than that.

    >>> say_count(7), say_count(1_234)
    ('7', '1,300')
    """
    unit = int(10 ** max(0, len(str(number)) - 2))
    return f"{-(-number // unit) * unit:,}"


def say_time(time: timedelta) -> str:
    """Format a duration in its largest unit.

    >>> say_time(timedelta(hours=30)), say_time(timedelta(days=12)), say_time(timedelta(minutes=1))
    ('30 h', '12 days', '1 min')
    """
    minutes = time.total_seconds() / 60
    if minutes < 90:
        return f"{max(1, round(minutes))} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{minutes / 1440:,.0f} days"
