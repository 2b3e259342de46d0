"""Rule: names the best of several evaluated prompts, or says that the cases cannot tell yet.

Values in, verdict out. Which runs are compared, and what is done about the verdict, is decided elsewhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from core.errors import InvalidInput
from core.wording.counts import count_of

# Even if every case agrees, the sign test needs six of them to fall below p = 0.05 (2 * 0.5^6 = 0.031).
MINIMUM_CASES = 6
CONFIDENCE = 0.95
POWER = 0.80
RESAMPLES = 10_000
_TIE = 1e-9


class WinnerRule(StrEnum):
    """What counts as better."""

    FAITHFULNESS_PER_COST = "faithfulness per cost"
    FAITHFULNESS_UNDER_CEILING = "faithfulness under a cost ceiling"
    FAITHFULNESS = "faithfulness"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One evaluated run: the faithfulness (0 to 1) of each case, and the mean cost per query in USD; NaN if unknown.

    `dataset_digest` distinguishes test sets with the same case ids. `refusals` say for each case whether refusing or
    answering was right; empty if the run does not tell.
    """

    run_id: str
    label: str
    per_case: Mapping[str, float]
    cost_usd_mean: float
    dataset_digest: str = ""
    refusals: Mapping[str, bool] = field(default_factory=dict)

    @property
    def faithfulness(self) -> float:
        """The mean over the cases."""
        return sum(self.per_case.values()) / len(self.per_case)

    @property
    def has_cost(self) -> bool:
        """Whether the run reports what a query costs."""
        return not math.isnan(self.cost_usd_mean)


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of the true value, with its confidence."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict. `winner` is None if the cases do not decide; `leader` is then ahead in this sample only.

    `difference` and `interval` compare the leader with `rival`, the run that it beats by the least certain margin, on
    the scale of faithfulness. Wins, losses and ties are the leader's, case by case. `smallest_difference` is the
    smallest that this many cases can show. All of these are None or 0 if there was nothing to compare.
    """

    rule: WinnerRule
    winner: Candidate | None
    leader: Candidate | None
    reason: str
    comparable: bool
    cases: int
    rival: Candidate | None = None
    difference: float | None = None
    interval: Interval | None = None
    wins: int = 0
    losses: int = 0
    ties: int = 0
    smallest_difference: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One run's cost and faithfulness, for the Pareto plot."""

    run_id: str
    cost_usd: float
    faithfulness: float


def decide_winner(
    candidates: Sequence[Candidate], *, rule: WinnerRule, ceiling_usd: float | None = None, seed: int = 0
) -> Decision:
    """Return which candidate is better by `rule`, judged on the same cases, or why there is no winner.

    The value of a run is its mean faithfulness; per cost it is divided by the mean cost of a query, and under a ceiling
    the runs that cost more than `ceiling_usd` are left out; by faithfulness alone the cost does not count. The run of
    highest value leads, the cheaper one if equal. It wins when it beats each rival: for case i,
    d_i = f_leader,i - f_rival,i * k, with k = cost_leader / cost_rival per cost and k = 1 otherwise (so that d has the
    sign of the difference in value, on the scale of faithfulness), and the 95% bootstrap interval of mean(d) lies above
    0. "Beats every rival" is an intersection-union test: it needs no correction for the number of rivals, and a wrong
    winner has a chance of at most 5% even in the worst case, two equally good variants far ahead of the others (R.
    Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", Technometrics 24(4), 1982).

    The interval is the percentile bootstrap over cases, widened for small samples by t quantiles (T. Hesterberg, "What
    Teachers Should Know About the Bootstrap", The American Statistician 69(4), 2015, section 5.3). It assumes that the
    cases are an independent sample of future questions, and treats mean costs as known. With fewer than 6 cases there
    is no winner. `smallest_difference` is (t_0.975 + t_0.80) * sd(d) / sqrt(n), with n - 1 degrees of freedom: the true
    difference that such a test set detects with 80% power.

    Runs over different cases are not compared: `comparable` is False. Raises InvalidInput for scores outside 0 to 1,
    a missing ceiling, or a cost of zero in the rule per cost.
    """
    _check(candidates, rule, ceiling_usd)
    problem = _different_cases(candidates)
    if problem:
        return Decision(rule, None, None, problem, False, 0)
    affordable = [c for c in candidates if ceiling_usd is None or c.cost_usd_mean <= ceiling_usd]
    cases = len(candidates[0].per_case) if candidates else 0
    if not affordable:
        return Decision(rule, None, None, _nothing_affordable(candidates, ceiling_usd), True, cases)
    leader = max(affordable, key=lambda c: (_value(c, rule), -c.cost_usd_mean if c.has_cost else -math.inf))
    rivals = [c for c in affordable if c is not leader]
    if not rivals:
        return _decide_alone(leader, candidates, rule, ceiling_usd, cases)
    return _decide_against(leader, rivals, rule, seed)


def bootstrap_interval(differences: Sequence[float], *, seed: int = 0) -> Interval:
    """Return the 95% interval of the mean of paired differences, by the bootstrap that `decide_winner` describes.

    Raises InvalidInput for fewer than two differences.
    """
    from scipy.special import ndtr, stdtrit

    n = len(differences)
    if n < 2:
        raise InvalidInput("differences", f"at least 2 are needed for an interval, not {n}")
    values = np.asarray(differences, dtype=np.float64)
    means = _resampled_means(values, np.random.default_rng(seed))
    tail = (1 - CONFIDENCE) / 2
    widened = float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, tail)))
    low, high = np.quantile(means, [widened, 1 - widened])
    return Interval(float(low), float(high))


def pareto_front(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points that no other beats in both cost and faithfulness, cheapest first. Equal points all stay."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost_usd, -p.faithfulness)):
        last = front[-1] if front else None
        is_equal = last is not None and (point.cost_usd, point.faithfulness) == (last.cost_usd, last.faithfulness)
        if last is None or is_equal or point.faithfulness > last.faithfulness:
            front.append(point)
    return tuple(front)


def smallest_visible_difference(differences: Sequence[float]) -> float:
    """Return the true difference that a test set like this one detects with 80% power (see `decide_winner`)."""
    from scipy.special import stdtrit

    n = len(differences)
    if n < 2:
        raise InvalidInput("differences", f"at least 2 are needed, not {n}")
    spread = float(np.std(differences, ddof=1))
    quantiles = float(stdtrit(n - 1, 1 - (1 - CONFIDENCE) / 2) + stdtrit(n - 1, POWER))
    return quantiles * spread / math.sqrt(n)


def _check(candidates: Sequence[Candidate], rule: WinnerRule, ceiling_usd: float | None) -> None:
    if (ceiling_usd is None) == (rule is WinnerRule.FAITHFULNESS_UNDER_CEILING):
        needs = "is needed for" if ceiling_usd is None else "cannot be used with"
        raise InvalidInput("ceiling_usd", f"{needs} the rule {rule.value!r}")
    if ceiling_usd is not None and not 0 < ceiling_usd < math.inf:
        raise InvalidInput("ceiling_usd", f"must be more than 0 USD, not {ceiling_usd!r}")
    for candidate in candidates:
        lowest_wrong = candidate.cost_usd_mean < 0 or (
            rule is WinnerRule.FAITHFULNESS_PER_COST and not candidate.cost_usd_mean
        )
        needs_cost = candidate.has_cost or rule is not WinnerRule.FAITHFULNESS
        if lowest_wrong or (needs_cost and not math.isfinite(candidate.cost_usd_mean)):
            raise InvalidInput("cost_usd_mean", f"{candidate.label} has {candidate.cost_usd_mean!r} USD a query")
        if not candidate.per_case:
            raise InvalidInput("per_case", f"{candidate.label} has no scored cases")
        for case, score in candidate.per_case.items():
            if not 0 <= score <= 1:
                raise InvalidInput("per_case", f"{candidate.label}, case {case}: must be 0 to 1, not {score!r}")


def _different_cases(candidates: Sequence[Candidate]) -> str:
    for other in candidates[1:]:
        first = candidates[0]
        only_first, only_other = set(first.per_case) - set(other.per_case), set(other.per_case) - set(first.per_case)
        if only_first or only_other:
            return (
                f"Not comparable: {count_of(len(only_first), 'case')} only in {first.label}, {len(only_other)} only in "
                f"{other.label}. Run both over the same cases."
            )
        digests = {first.dataset_digest, other.dataset_digest} - {""}
        if len(digests) > 1:
            return (
                f"Not comparable: the cases of {first.label} and {other.label} have the same ids but different "
                "content. Run both over the same cases."
            )
    return ""


def _nothing_affordable(candidates: Sequence[Candidate], ceiling_usd: float | None) -> str:
    if not candidates:
        return "There are no runs to compare."
    cheapest = min(candidates, key=lambda c: c.cost_usd_mean)
    return (
        f"No run costs less than {_usd(ceiling_usd or 0.0)} a query; the cheapest, {cheapest.label}, "
        f"costs {_usd(cheapest.cost_usd_mean)}."
    )


def _decide_alone(
    leader: Candidate, candidates: Sequence[Candidate], rule: WinnerRule, ceiling_usd: float | None, cases: int
) -> Decision:
    if len(candidates) == 1:
        reason = f"Only {leader.label} was evaluated; a winner needs two runs over the same cases."
        return Decision(rule, None, leader, reason, True, cases)
    reason = f"{leader.label} wins by {rule.value}: no other run costs less than {_usd(ceiling_usd or 0.0)} a query."
    return Decision(rule, leader, leader, reason, True, cases)


def _decide_against(leader: Candidate, rivals: Sequence[Candidate], rule: WinnerRule, seed: int) -> Decision:
    n = len(leader.per_case)
    if n < 2:
        reason = f"No clear winner: {n} case is too few; at least {MINIMUM_CASES} are needed."
        return Decision(rule, None, leader, reason, True, n)
    intervals = [bootstrap_interval(_differences(leader, rival, rule), seed=seed) for rival in rivals]
    closest = min(range(len(rivals)), key=lambda i: intervals[i].low)
    rival, interval = rivals[closest], intervals[closest]
    differences = _differences(leader, rival, rule)
    signs = [_sign(leader.per_case[case] - rival.per_case[case]) for case in leader.per_case]
    won = interval.low > 0 and n >= MINIMUM_CASES
    decision = Decision(
        rule=rule,
        winner=leader if won else None,
        leader=leader,
        reason="",
        comparable=True,
        cases=n,
        rival=rival,
        difference=sum(differences) / n,
        interval=interval,
        wins=signs.count(1),
        losses=signs.count(-1),
        ties=signs.count(0),
        smallest_difference=smallest_visible_difference(differences),
    )
    return _with_reason(decision)


def _with_reason(decision: Decision) -> Decision:
    leader, rival, interval = decision.leader, decision.rival, decision.interval
    assert leader and rival and interval and decision.difference is not None
    if decision.winner and decision.ties == decision.cases and decision.rule is WinnerRule.FAITHFULNESS_PER_COST:
        saving = 1 - leader.cost_usd_mean / rival.cost_usd_mean
        said = (
            f"{leader.label} wins by {decision.rule}: as faithful as {rival.label} ({leader.faithfulness:.2f}, all "
            f"{decision.cases} cases equal) at {saving:.0%} lower cost, {_usd(leader.cost_usd_mean)} a query."
        )
        return replace(decision, reason=said)
    scale = " at equal cost" if decision.rule is WinnerRule.FAITHFULNESS_PER_COST else ""
    # Without a scale, the difference in the sentence is that of the two means in it, as they are rounded there.
    shown = decision.difference if scale else round(leader.faithfulness, 2) - round(rival.faithfulness, 2)
    low, high = min(interval.low, shown), max(interval.high, shown)  # rounding must not put it outside
    evidence = (
        f"{_price(leader)} against {_price(rival)}; difference {shown + 0.0:+.2f}{scale} "
        f"(95% interval {low:.2f} to {high:.2f}); better in {count_of(decision.wins, 'case')}, "
        f"worse in {decision.losses}, equal in {decision.ties}."
    )
    if decision.winner:
        return replace(decision, reason=f"{leader.label} wins by {decision.rule}: {evidence}")
    return replace(decision, reason=f"No clear winner yet by {decision.rule}: {_limit(decision)}. {evidence}")


def _limit(decision: Decision) -> str:
    if decision.cases < MINIMUM_CASES:
        are = "is" if decision.cases == 1 else "are"
        return f"{count_of(decision.cases, 'case')} {are} too few, at least {MINIMUM_CASES} are needed"
    if not decision.smallest_difference:
        return f"all {decision.cases} cases score the same under both"
    return f"{decision.cases} cases can only show a difference of {decision.smallest_difference:.2f} or more"


def _value(candidate: Candidate, rule: WinnerRule) -> float:
    if rule is WinnerRule.FAITHFULNESS_PER_COST:
        return candidate.faithfulness / candidate.cost_usd_mean
    return candidate.faithfulness


def _differences(leader: Candidate, rival: Candidate, rule: WinnerRule) -> list[float]:
    rate = leader.cost_usd_mean / rival.cost_usd_mean if rule is WinnerRule.FAITHFULNESS_PER_COST else 1.0
    return [leader.per_case[case] - rival.per_case[case] * rate for case in leader.per_case]


def _resampled_means(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the means of RESAMPLES samples with replacement, in slices that keep memory below about 50 MB."""
    per_slice = max(1, 5_000_000 // len(values))
    means = []
    for start in range(0, RESAMPLES, per_slice):
        size = (min(per_slice, RESAMPLES - start), len(values))
        means.append(values[rng.integers(0, len(values), size=size)].mean(axis=1))
    return np.concatenate(means)


def _sign(difference: float) -> int:
    return 0 if abs(difference) < _TIE else int(math.copysign(1, difference))


def _price(candidate: Candidate) -> str:
    cost = f" at {_usd(candidate.cost_usd_mean)}" if candidate.has_cost else ""
    return f"{candidate.label} {candidate.faithfulness:.2f}{cost}"


def _usd(amount: float) -> str:
    return f"${amount:.4f}" if amount >= 0.001 or not amount else f"${amount:.6f}"
