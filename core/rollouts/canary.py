"""Rule: how a canary is judged. From how the two arms do: promote, hold or roll back, with the reason.

It decides and does nothing: `canaries.py` reads the log and acts, `core.flags.canary_plan` reads the plan.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from core.arms.arms import Arm, ArmsReading, Metric
from core.arms.comparisons import (
    ArmComparison,
    Margin,
    compare_arms,
    is_higher_better,
    is_relative,
    say_amount,
    say_count,
    say_means,
    say_time,
    say_value,
)
from core.arms.sequential import ALPHA, MISMATCH_P, compare_shares
from core.flags.canary_plan import CANARY, STABLE, Plan
from core.flags.definition import FlagDefinition
from core.metrics.definition import MetricDefinition
from core.rollouts.ceiling import CEILING_ALPHA, find_breach
from core.wording.counts import count_of

MARGIN_ALPHA = ALPHA - CEILING_ALPHA  # of the false alarms, what the comparison of the metrics may use


class CanaryCall(StrEnum):
    """What to do with a canary now."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """What to do, why in one sentence, and what the next step still needs (empty when it can be taken).

    `mismatch_p` is the p-value of the user counts under the flag's shares (sample ratio check). `signals` are the
    comparisons that can only pause it.
    """

    call: CanaryCall
    reason: str
    missing: tuple[str, ...] = ()
    comparisons: tuple[ArmComparison, ...] = ()
    mismatch_p: float | None = None
    is_healthy: bool = True
    signals: tuple[ArmComparison, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The metrics whose margin is larger than any harm that green can do, with the numbers."""
        return tuple(line for each in (*self.comparisons, *self.signals) if (line := _say_toothless(each)))


@dataclass(frozen=True, slots=True)
class NamedMetrics:
    """What the names in a plan stand for: its margins, its signals, and the names that no metric has."""

    margins: tuple[Margin, ...]
    signals: tuple[Margin, ...] = ()
    undefined: tuple[str, ...] = ()


class FlagEntry(Protocol):
    """The fields of a flag's audit entry that are read here."""

    @property
    def ts(self) -> datetime: ...
    @property
    def before(self) -> dict[str, Any] | None: ...
    @property
    def after(self) -> dict[str, Any] | None: ...


def find_start(entries: Iterable[FlagEntry]) -> datetime | None:
    """Return when the flag began to serve users as it does now (None if unknown), from its audit entries, newest first.

    A change of its state, share, rules or variants begins a new step; one of its description or plan does not.
    """
    since = None
    for entry in entries:
        since = entry.ts
        if not serves_alike(entry.before, entry.after):
            return since
    return since


def serves_alike(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
    """Return whether both definitions serve every user the same; None means that there is no flag."""
    return FlagDefinition(before or {}).served == FlagDefinition(after or {}).served


def decide_canary(
    plan: Plan, looks: Sequence[ArmsReading], *, share_pct: float, since: datetime, now: datetime,
    is_random: bool = True, reached: float = 1.0, named: NamedMetrics | None = None,
) -> CanaryVerdict:  # fmt: skip
    """Return what to do with a canary that has had `share_pct` since `since`, from the readings of its two arms.

    Pass `is_random=False` when rules also put users on green; their shares are then not checked. `reached` is the share
    of all counted users whom the flag may touch: those in a holdout are on blue, and comparable, but were never drawn.
    `named` are the metrics of the plan, by default its margins.

    The first of these that applies decides:

    1. Roll back: green's error rate is above the ceiling and surely above blue's, over the step or the last two hours.
    2. Hold: the user counts do not fit the flag's shares (p < 0.001), so no figure can be trusted.
    3. Roll back: a metric is significantly worse and not confirmed within its margin.
    4. Hold: a signal is significantly worse and not confirmed within its margin.
    5. Hold: the step's time is not over, green has too few users, or a metric of both arms is not within its margin.
    6. Promote.

    Always valid: however often you check, a green as good as blue is rolled back with a chance of at most 5% per step,
    all metrics together, whatever blue's own error rate is. 4.5% are for the metrics (`sequential.half_width`, split by
    `compare_arms`), 0.5% for the exact checks of the ceiling (`find_breach`). Signals have 5% of their own to pause it
    wrongly. Smallest sample: 30 users per arm; none for the ceiling.
    """
    named = named or NamedMetrics(plan.margins)
    if share_pct in (0, 100):
        return _say_one_arm(plan, share_pct)
    arms = looks[-1].arms if looks else {}
    blue, green = arms.get(STABLE, Arm()), arms.get(CANARY, Arm())
    found = compare_arms(blue, green, named.margins, alpha=MARGIN_ALPHA)
    signals = compare_arms(blue, green, named.signals, alpha=ALPHA)

    def say(call: CanaryCall, reason: str, missing: tuple[str, ...] = (), *, healthy: bool = True) -> CanaryVerdict:
        return CanaryVerdict(call, reason, missing, found, p, healthy, signals)

    p = None
    if over := find_breach(looks, found, ceiling=plan.error_ceiling, since=since):
        return say(CanaryCall.ROLL_BACK, over, healthy=False)
    expected_pct = share_pct * reached
    p = compare_shares({STABLE: blue.users, CANARY: green.users}, {STABLE: 100 - expected_pct, CANARY: expected_pct})
    if is_random and p is not None and p < MISMATCH_P:
        lost = _say_mismatch(blue, green, expected_pct)
        return say(CanaryCall.HOLD, lost, ("users split as the flag says",), healthy=False)
    if worse := [each for each in found if each.is_worse]:
        return say(CanaryCall.ROLL_BACK, _say_worse(worse[0]), healthy=False)
    if worse := [each for each in signals if each.is_worse]:
        due = tuple(f"signal {_say_unsure(each)}" for each in worse)
        return say(CanaryCall.HOLD, f"Paused by a signal. {_say_worse(worse[0])}", due, healthy=False)
    missing = _list_missing(plan, blue, green, found, share_pct=share_pct, elapsed=now - since)
    if missing := (*missing, *_list_unjudged(named, found)):
        return say(CanaryCall.HOLD, _say_held(green, found), missing)
    following = plan.share_after(share_pct)
    if following is None:
        return say(CanaryCall.HOLD, f"{share_pct:g}% is the last step of the plan.")
    reason = f"Green can go from {share_pct:g}% to {following:g}%: {_say_safe(green, found)}."
    return say(CanaryCall.PROMOTE, reason)


def _say_one_arm(plan: Plan, share_pct: float) -> CanaryVerdict:
    if share_pct:
        reason = "Everybody gets green: there is no stable arm left to compare it with."
        return CanaryVerdict(CanaryCall.HOLD, reason)
    return CanaryVerdict(
        CanaryCall.HOLD, "Nobody gets green.", (f"a person starts it: the first step is {_first(plan)}",)
    )


def _say_mismatch(blue: Arm, green: Arm, share_pct: float) -> str:
    seen = green.users / (blue.users + green.users)
    return (
        f"{seen:.1%} of users were on green where {share_pct:g}% are expected: some users are lost or "
        "counted twice, so no figure can be trusted."
    )


def _say_safe(green: Arm, found: Sequence[ArmComparison]) -> str:
    margins = f"confirmed within the margin{'s' if len(found) > 1 else ''}"
    return f"{', '.join(str(each.metric) for each in found)} {margins} over {green.users:,} users"


def _list_missing(
    plan: Plan, blue: Arm, green: Arm, found: Sequence[ArmComparison], *, share_pct: float, elapsed: timedelta
) -> tuple[str, ...]:
    missing = []
    step = plan.step_at(share_pct)
    if step is not None and elapsed < step.hold:
        missing.append(f"{say_time(step.hold - elapsed)} of the {say_time(step.hold)} hold at {share_pct:g}%")
    if green.users < plan.min_users:
        lacking = plan.min_users - green.users
        missing.append(
            f"{count_of(lacking, 'more user')} on green, of {plan.min_users:,}{_pace(lacking, green.users, elapsed)}"
        )
    alone = [m for m in Metric if (m in blue.moments) != (m in green.moments) and blue.users and green.users]
    missing += [f"{metric}: only {CANARY if metric in green.moments else STABLE} logs this metric" for metric in alone]
    if green.users >= plan.min_users and not any(each.difference for each in found):
        missing.append("a metric logged by 30 users in each arm")
    users = blue.users + green.users
    for each in found:
        if each.difference is not None and not each.is_safe:
            missing.append(f"{_say_unsure(each)}{_say_wait(each, users, elapsed)}")
    return tuple(missing)


def _list_unjudged(named: NamedMetrics, found: Sequence[ArmComparison]) -> tuple[str, ...]:
    """Own guardrails that cannot be judged hold a canary: whoever names one wants it judged."""
    compared = {each.metric for each in found if each.difference is not None}
    own = [each.metric for each in named.margins if isinstance(each.metric, MetricDefinition)]
    return (
        *(f"{metric}: enough numbers of it in both arms" for metric in own if metric not in compared),
        *(f"the metric {name}: it is not defined here (quarterdeck metrics add)" for name in named.undefined),
    )


def _say_unsure(each: ArmComparison) -> str:
    allowed = say_amount(each.metric, each.margin)
    return f"{each.metric}: may be up to {say_amount(each.metric, each.most_harm)} worse, {allowed} is allowed"


def _say_wait(each: ArmComparison, users: int, elapsed: timedelta) -> str:
    more = each.users_until_safe
    if more is None:
        return "; at the current difference, more users will not settle it"
    return f"; about {say_count(more)} more users{_pace(more, users, elapsed)}"


def _pace(lacking: int, seen: int, elapsed: timedelta) -> str:
    return f", {say_time(elapsed * (lacking / seen))} at this pace" if seen and elapsed > timedelta(0) else ""


def _say_worse(each: ArmComparison) -> str:
    other, stable = say_means(each, each.least_harm)
    least = say_amount(each.metric, each.least_harm)
    return (
        f"Green's {each.metric} is significantly worse: {other} against {stable} on blue, by at least {least} "
        f"over {each.other.users:,} users."
    )


def _say_held(green: Arm, found: Sequence[ArmComparison]) -> str:
    if not green.users:
        return "No user has been logged on green since the step began."
    known = [each for each in found if each.difference is not None]
    if not known:
        return f"Too early to tell: {count_of(green.users, 'user')} on green so far."
    likely = [each for each in known if each.harm is not None and each.harm > each.margin]
    if likely:
        return f"Green's {likely[0].metric} looks worse by more than its margin, but that is not significant yet."
    return f"Nothing speaks against green over {green.users:,} users, but it is not confirmed within its margins yet."


def _say_toothless(each: ArmComparison) -> str:
    """Say that a margin can never be exceeded; "" if it can. What has no bounds can become as bad as it likes."""
    blue, metric = each.stable.mean, each.metric
    is_share = metric is Metric.ERRORS or (isinstance(metric, MetricDefinition) and metric.is_share)
    is_up = is_higher_better(metric)
    if each.difference is None or metric is Metric.FEEDBACK or not (is_share or (is_up and blue > 0)):
        return ""
    most = blue if is_up else 1 - blue
    if is_relative(metric) or each.margin < most:
        return ""
    unless = "" if is_share else " unless it falls below 0"
    return (
        f"{metric}: it may get {say_amount(metric, each.margin)} worse, but blue is at {say_value(metric, blue)}, so "
        f"its margin can never be exceeded{unless}; choose a smaller one"
    )


def _first(plan: Plan) -> str:
    return f"{plan.steps[0].share_pct:g}%"
