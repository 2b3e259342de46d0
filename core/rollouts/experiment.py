"""Rule: how an experiment is judged. From how the arms do: a winner, none yet, a stop, or figures not to be trusted.

It decides and does nothing: `experiments.py` reads the log and acts, `experiment_design.py` reads the design.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

from core.arms.arms import Arm, ArmsReading, ComparedMetric, Metric
from core.arms.comparisons import (
    ArmComparison,
    Margin,
    compare_arms,
    is_higher_better,
    say_amount,
    say_count,
    say_means,
    say_time,
)
from core.arms.sequential import ALPHA, LEAST_USERS, MISMATCH_P, compare_shares, find_users_needed, find_visible_effect
from core.rollouts.experiment_design import Design, Direction
from core.wording.counts import count_of

_SHOWN_ONLY = 0.02  # margin of a metric that is only shown
_MOST_TRACED = 120


class ExperimentCall(StrEnum):
    """What to do with an experiment now."""

    WAIT = "wait"
    WINNER = "winner"
    NO_EFFECT = "no effect"
    STOP = "stop"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Lift:
    """How much better an arm is than the control in one metric; negative if worse."""

    arm: str
    compared: ArmComparison
    sign: int = 1

    @property
    def metric(self) -> ComparedMetric:
        """The compared metric."""
        return self.compared.metric

    @property
    def gain(self) -> float | None:
        """The estimated improvement; None while an arm has fewer than 30 users."""
        return None if self.compared.harm is None else -self.sign * self.compared.harm

    @property
    def least(self) -> float:
        """Lower confidence bound of the improvement; minus infinity while unknown."""
        return -math.inf if self.gain is None else self.gain - self._half_width

    @property
    def most(self) -> float:
        """Upper confidence bound of the improvement; infinity while unknown."""
        return math.inf if self.gain is None else self.gain + self._half_width

    @property
    def users_needed(self) -> int | None:
        """Users needed in both arms to detect an effect as large as the margin with 80% power."""
        known = self.compared.difference
        return None if known is None else find_users_needed(known, self.compared.margin, alpha=self.compared.alpha)

    @property
    def visible(self) -> float | None:
        """The smallest effect detectable with 80% power at the current number of users."""
        known = self.compared.difference
        return None if known is None else find_visible_effect(known, alpha=self.compared.alpha)

    @property
    def _half_width(self) -> float:
        known = self.compared.difference
        return math.inf if known is None else known.half_width(self.compared.alpha)


@dataclass(frozen=True, slots=True)
class ExperimentVerdict:
    """What to do, why in one sentence, and what is missing for a decision.

    `lifts` hold every metric of every arm but the control. `mismatch_p` is the p-value of the user counts under the
    flag's shares (sample ratio check). `wait` is the time left at the current pace, None if unknown.
    """

    call: ExperimentCall
    reason: str
    missing: tuple[str, ...] = ()
    lifts: tuple[Lift, ...] = ()
    mismatch_p: float | None = None
    winner: str = ""
    wait: timedelta | None = None


class Noted(Protocol):
    """The fields of an exposed user that are read here."""

    @property
    def targeting_key(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def first_seen(self) -> datetime: ...


Seen = TypeVar("Seen", bound=Noted)


@dataclass(frozen=True, slots=True)
class ExperimentProgress:
    """How far an experiment is: its start, the end of the period read, exposed users, and disturbances.

    `noted` counts exposed users by arm; `disturbance` says why users are no longer assigned as at the start, or "".
    """

    started: datetime
    now: datetime
    noted: Mapping[str, int] = field(default_factory=dict)
    disturbance: str = ""


def pick_users(noted: Iterable[Seen], design: Design, *, drawn_since: datetime, until: datetime) -> tuple[Seen, ...]:
    """Return the users who count: those first exposed between `drawn_since` and `until`, each with the arm.

    Users exposed before may have been in another arm. Users exposed to two arms count in neither.
    """
    arms: dict[str, Seen | None] = {}
    for each in sorted((one for one in noted if one.first_seen < until), key=lambda one: one.first_seen):
        known = arms.setdefault(each.targeting_key, each if each.first_seen >= drawn_since else None)
        if known is not None and known.variant != each.variant:
            arms[each.targeting_key] = None
    return tuple(each for each in arms.values() if each is not None and each.variant in design.arms)


def decide_experiment(design: Design, looks: Sequence[ArmsReading], progress: ExperimentProgress) -> ExperimentVerdict:
    """Return what to do with an experiment, from the readings of its arms since the start.

    The first of these that applies decides:

    1. Invalid: the flag was changed, or the counts of exposed or of logged users do not fit its shares (p < 0.001).
    2. Stop: a guardrail is significantly worse and not confirmed within its threshold.
    3. Wait: the minimum run time is not over.
    4. Winner: an arm is significantly better in the metric and confirmed within every guardrail, or, for the control,
       every other arm is significantly worse.
    5. No effect: the improvement of every arm is confirmed to be smaller than wanted.
    6. Wait.

    Always valid: however often you check, the chance of a false winner or stop is at most 5% over all arms and metrics,
    split evenly over the claims (see `sequential.half_width`). The score is adjusted for what the same questions scored
    earlier, and the same users before the start (`sequential.adjust_moments`). Smallest sample: 30 users per arm.
    """
    arms = looks[-1].arms if looks else {}
    lifts = compare_all(design, arms)
    if progress.disturbance:
        return ExperimentVerdict(
            ExperimentCall.INVALID, f"No figure can be trusted: {progress.disturbance}.", (), lifts
        )
    p, said = _find_mismatch(design, arms, progress)
    if said:
        return ExperimentVerdict(ExperimentCall.INVALID, said, (), lifts, p)
    broken = next((lift for lift in lifts if _is_guardrail(design, lift) and lift.compared.is_worse), None)
    if broken is not None:
        return ExperimentVerdict(ExperimentCall.STOP, _say_broken(design, broken), (), lifts, p)
    decided = _decide(design, [lift for lift in lifts if lift.metric == design.metric], lifts)
    missing, wait = _list_missing(design, arms, lifts, progress, looks)
    if decided is not None and progress.now - progress.started >= design.min_run:
        return replace(decided, lifts=lifts, mismatch_p=p)
    told = _say_open(design, arms, lifts, progress) + (f" About {say_time(wait)} more." if wait else "")
    return ExperimentVerdict(ExperimentCall.WAIT, told, missing, lifts, p, wait=wait)


def compare_all(design: Design, arms: Mapping[str, Arm]) -> tuple[Lift, ...]:
    """Compare every other arm with the control, in each metric that both log; the deciding metric comes first."""
    alpha = ALPHA / (len(design.treatments) * (2 + len(design.guardrails)))
    guarded = {each.metric: each for each in design.guardrails}
    order = list(dict.fromkeys((design.metric, *guarded, *design.further, *Metric)))
    control, lifts = arms.get(design.control, Arm()), []
    for arm in design.treatments:
        for metric in order:
            margin = Margin(metric, design.effect) if metric == design.metric else guarded.get(metric)
            found = compare_arms(control, arms.get(arm, Arm()), [margin or Margin(metric, _SHOWN_ONLY)], alpha=alpha)
            lifts += [Lift(arm, replace(each, safe_alpha=ALPHA), _sign(design, metric)) for each in found]
    return tuple(sorted(lifts, key=lambda lift: order.index(lift.metric)))


@dataclass(frozen=True, slots=True)
class LiftTrace:
    """An arm's lift as known at one time: the estimate and its confidence bounds."""

    at: datetime
    gain: float
    least: float
    most: float


def trace_lift(design: Design, looks: Sequence[ArmsReading], arm: str) -> tuple[LiftTrace, ...]:
    """Return the history of an arm's lift in the deciding metric, at most 120 points."""
    every = -(-len(looks) // _MOST_TRACED) or 1
    traced: list[LiftTrace] = []
    for look in looks[(len(looks) - 1) % every :: every] if looks else ():
        found = [each for each in compare_all(design, look.arms) if each.arm == arm and each.metric == design.metric]
        traced += [LiftTrace(look.at, each.gain, each.least, each.most) for each in found if each.gain is not None]
    return tuple(traced)


def measure_pace(looks: Sequence[ArmsReading]) -> float | None:
    """Return the new users per day in the later half of the run; None while unknown.

    The first half is left out because frequent users all arrive in the first days.
    """
    if not looks:
        return None
    first, last = looks[0].start, looks[-1].at
    half = next((look for look in looks if look.at - first >= (last - first) / 2), looks[-1])
    before = half if half.at < last else None
    days = (last - (before.at if before else first)) / timedelta(days=1)
    users = _count(looks[-1]) - (_count(before) if before else 0)
    return users / days if days > 0 and users > 0 else None


def _count(look: ArmsReading) -> int:
    return sum(arm.users for arm in look.arms.values())


def _sign(design: Design, metric: ComparedMetric) -> int:
    """Minus one if the design reverses the metric's usual direction, else one."""
    usual = Direction.UP if is_higher_better(metric) else Direction.DOWN
    return -1 if metric == design.metric and design.direction is not usual else 1


def _is_guardrail(design: Design, lift: Lift) -> bool:
    return any(each.metric == lift.metric for each in design.guardrails)


def _find_mismatch(design: Design, arms: Mapping[str, Arm], progress: ExperimentProgress) -> tuple[float | None, str]:
    """Return the smaller p-value of the two counts, and the sentence on a mismatch or ""."""
    weights = dict(zip(design.arms, design.shares, strict=True))
    logged = {arm: arms[arm].users for arm in design.arms if arm in arms}
    found = []
    for counts, where in ((progress.noted, "exposed by clients"), (logged, "found in the log")):
        p = compare_shares(counts, weights) if sum(counts.values()) else None
        if p is not None:
            found.append((p, counts, where))
    if not found:
        return None, ""
    p, counts, where = min(found, key=lambda each: each[0])
    if p >= MISMATCH_P:
        return p, ""
    total = sum(counts.values())
    arm = max(weights, key=lambda arm: abs(counts.get(arm, 0) / total - weights[arm]))
    return p, (
        f"No figure can be trusted: {counts.get(arm, 0) / total:.1%} of the {total:,} users {where} are on {arm}, "
        f"where {weights[arm]:.1%} are expected (sample ratio, p = {p:.1g}): users of an arm are lost or counted twice."
    )


def _decide(design: Design, primary: Sequence[Lift], lifts: Sequence[Lift]) -> ExperimentVerdict | None:
    """Return the verdict by the figures alone, ignoring the minimum run time."""
    unsafe = {lift.arm for lift in lifts if _is_guardrail(design, lift) and not lift.compared.is_safe}
    unsafe |= {arm for arm in design.treatments for each in design.guardrails if not _logs(lifts, arm, each.metric)}
    better = [lift for lift in primary if lift.least > 0 and lift.arm not in unsafe]
    if better:
        best = max(better, key=lambda lift: lift.gain or 0.0)
        return ExperimentVerdict(ExperimentCall.WINNER, _say_better(design, best), winner=best.arm)
    if len(primary) < len(design.treatments):
        return None
    if all(lift.most < 0 for lift in primary):
        least_bad = max(primary, key=lambda lift: lift.gain or 0.0)
        return ExperimentVerdict(ExperimentCall.WINNER, _say_control(design, least_bad), winner=design.control)
    if all(lift.most < lift.compared.margin for lift in primary):
        best = max(primary, key=lambda lift: lift.most)
        said = (
            f"No effect worth having: {best.arm} is at most {say_amount(design.metric, max(0.0, best.most))} better "
            f"than {design.control} in {design.metric}; the goal is {say_amount(design.metric, best.compared.margin)}."
        )
        return ExperimentVerdict(ExperimentCall.NO_EFFECT, said, winner=design.control)
    return None


def _logs(lifts: Sequence[Lift], arm: str, metric: ComparedMetric) -> bool:
    return any(lift.arm == arm and lift.metric == metric for lift in lifts)


def _list_missing(
    design: Design,
    arms: Mapping[str, Arm],
    lifts: Sequence[Lift],
    progress: ExperimentProgress,
    looks: Sequence[ArmsReading],
) -> tuple[tuple[str, ...], timedelta | None]:
    elapsed, pace = progress.now - progress.started, measure_pace(looks)
    missing, waits = [], []
    if elapsed < design.min_run:
        waits.append(design.min_run - elapsed)
        missing.append(f"{say_time(waits[0])} of the {say_time(design.min_run)} minimum run")
    for arm in design.arms:
        users = arms.get(arm, Arm()).users
        if users < LEAST_USERS:
            missing.append(f"{count_of(LEAST_USERS - users, 'more user')} on {arm}, of {LEAST_USERS} needed")
    for arm in design.treatments:
        for metric in (design.metric, *(each.metric for each in design.guardrails)):
            lift = next((each for each in lifts if each.arm == arm and each.metric is metric), None)
            if lift is None and arms.get(arm, Arm()).users:
                missing.append(f"{metric} in the log of {design.control} and {arm}")
            elif lift is not None and lift.gain is not None:
                missing += _say_unsure(design, lift, pace, waits)
    return tuple(missing), max(waits, default=None)


def _say_unsure(design: Design, lift: Lift, pace: float | None, waits: list[timedelta]) -> list[str]:
    """Return the line on an undecided metric, and add its wait to `waits`."""
    if _is_guardrail(design, lift):
        if lift.compared.is_safe:
            return []
        more = lift.compared.users_until_safe
        worse, allowed = (say_amount(lift.metric, each) for each in (lift.compared.most_harm, lift.compared.margin))
        told = f"guardrail {lift.metric}: {lift.arm} may be up to {worse} worse, {allowed} is allowed"
        return [f"{told}; at the current difference, more users will not settle it"] if more is None else [
            f"{told}; {_say_more(more, pace, waits)}"
        ]  # fmt: skip
    if lift.least > 0 or lift.most < 0:
        return []
    users = lift.compared.stable.users + lift.compared.other.users
    more = max(0, (lift.users_needed or 0) - users)
    wanted = say_amount(lift.metric, lift.compared.margin)
    if not more:
        return [f"{lift.metric} of {lift.arm}: a difference of {wanted} would probably be visible by now"]
    return [f"{lift.metric} of {lift.arm}: {_say_more(more, pace, waits)} to detect a difference of {wanted}"]


def _say_more(more: int, pace: float | None, waits: list[timedelta]) -> str:
    if pace is None:
        return f"about {say_count(more)} more users"
    waits.append(min(timedelta(days=more / pace), timedelta(days=36_500)))
    return f"about {say_count(more)} more users, {say_time(waits[-1])} at this pace"


def _say_open(design: Design, arms: Mapping[str, Arm], lifts: Sequence[Lift], progress: ExperimentProgress) -> str:
    noted, users = sum(progress.noted.values()), sum(arms[arm].users for arm in design.arms if arm in arms)
    if not noted:
        return "No exposures yet: clients record who gets which variant when they evaluate the flag."
    if not users:
        return (
            f"{noted:,} users were exposed, but none is in the log: the session_id of a retrieval has to be the "
            "targeting key that the flag was evaluated for."
        )
    known = [lift for lift in lifts if lift.metric == design.metric and lift.gain is not None]
    if not known:
        return f"Too early to tell: {count_of(users, 'user')} so far, each arm needs {LEAST_USERS}."
    first = max(known, key=lambda lift: lift.gain or 0.0)
    is_sure = first.least > 0 or first.most < 0
    early = progress.now - progress.started < design.min_run
    ends = " and ".join(_say_gain(first.metric, end) for end in (first.least, first.most))
    opening = "No significant difference yet"
    if is_sure:
        opening = "A difference, but the minimum run is not over" if early else "A difference, but no verdict yet"
    return f"{opening}: {first.arm} is between {ends} than {design.control} in {design.metric}, {users:,} users."


def _say_gain(metric: ComparedMetric, gain: float) -> str:
    return f"{say_amount(metric, gain)} {'better' if gain > 0 else 'worse'}"


def _say_both(lift: Lift, least: float) -> str:
    """Both means, and the difference that is sure."""
    other, stable = say_means(lift.compared, least)
    adjusted = " (adjusted for the questions and users)" if lift.compared.is_adjusted else ""
    return f"{other} against {stable}{adjusted}, by at least {say_amount(lift.metric, least)}"


def _say_better(design: Design, lift: Lift) -> str:
    users = lift.compared.stable.users + lift.compared.other.users
    return (
        f"{lift.arm} wins: its {lift.metric} is significantly better than {design.control}'s, "
        f"{_say_both(lift, lift.least)} over {users:,} users."
    )


def _say_control(design: Design, lift: Lift) -> str:
    users = lift.compared.stable.users + lift.compared.other.users
    return (
        f"{design.control} wins: {lift.arm}'s {lift.metric} is significantly worse, "
        f"{_say_both(lift, lift.most)} over {users:,} users."
    )


def _say_broken(design: Design, lift: Lift) -> str:
    return (
        f"A guardrail is broken: {lift.arm}'s {lift.metric} is significantly worse than {design.control}'s, "
        f"{_say_both(lift, lift.compared.least_harm)}; {say_amount(lift.metric, lift.compared.margin)} is allowed."
    )
