"""Each reason to roll back, hold or promote fires on data that require it, and stays quiet on other data."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from core.arms.arms import Arm, ArmsReading, Metric, Stretch
from core.arms.comparisons import Margin
from core.arms.sequential import Moments
from core.flags.canary_plan import CANARY, DEFAULT_PLAN, STABLE, Plan
from core.metrics.definition import MetricDefinition, MetricSource, Statistic
from core.rollouts.canary import CanaryCall, CanaryVerdict, NamedMetrics, decide_canary, find_start
from quarterdeck.definitions import canary_flag, set_rollout, switch_flag

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
NOW = SINCE + timedelta(days=2)
PLAN = DEFAULT_PLAN
EVEN = {
    Metric.SCORE: (0.70, 0.01), Metric.ERRORS: (0.01, 0.004), Metric.LATENCY: (400.0, 40_000.0),
    Metric.COST: (0.002, 1e-6),
}  # fmt: skip


def arm(users: int, **changed: float) -> Arm:
    """An arm whose metrics are as usual but for the means that are given."""
    usual = {metric: Moments(users, mean, variance) for metric, (mean, variance) in EVEN.items()}
    return Arm(
        users,
        3 * users,
        0,
        usual | {m: replace(usual[m], mean=changed[m.name.lower()]) for m in usual if m.name.lower() in changed},
    )


def decide(
    blue: Arm, green: Arm, *, share_pct: float = 5, now: datetime = NOW, plan: Plan = PLAN, last: Stretch | None = None
) -> CanaryVerdict:
    look = ArmsReading(now - timedelta(hours=1), now, {STABLE: blue, CANARY: green}, {CANARY: last or Stretch()})
    return decide_canary(plan, [look], share_pct=share_pct, since=SINCE, now=now)


def test_a_green_as_good_as_blue_is_promoted() -> None:
    verdict = decide(arm(38_000), arm(2_000))
    assert (verdict.call, verdict.missing, verdict.is_healthy) == (CanaryCall.PROMOTE, (), True)
    assert verdict.reason == (
        "Green can go from 5% to 25%: score, error rate, latency, cost confirmed within the margins over 2,000 users."
    )


@pytest.mark.parametrize(
    ("worse", "said"),
    [
        ({"score": 0.64}, "Green's score is significantly worse: 0.64 against 0.70 on blue, by at least 0.05"),
        ({"errors": 0.05}, "Green's error rate is significantly worse: 5.0% against 1.0% on blue, by at least 3"),
        ({"latency": 700.0}, "Green's latency is significantly worse: 700 ms against 400 ms on blue, by at least 28"),
        ({"cost": 0.004}, "Green's cost is significantly worse: $0.0040 against $0.0020 on blue, by at least $0.0019"),
    ],
)
def test_a_green_that_is_surely_worse_is_rolled_back_with_the_metric_named(worse: dict[str, float], said: str) -> None:
    verdict = decide(arm(38_000), arm(2_000, **worse))
    assert verdict.call is CanaryCall.ROLL_BACK
    assert verdict.reason.startswith(said)
    assert not verdict.is_healthy


@pytest.mark.parametrize("better", [{"score": 0.8}, {"errors": 0.0}, {"latency": 200.0}, {"cost": 0.001}])
def test_a_green_that_is_better_is_promoted(better: dict[str, float]) -> None:
    assert decide(arm(38_000), arm(2_000, **better)).call is CanaryCall.PROMOTE


def test_a_margin_above_all_harm_that_green_can_do_is_told_with_the_numbers() -> None:
    stars = MetricDefinition("stars", MetricSource.SCORE, Statistic.MEAN, "stars")
    solved = MetricDefinition("solved", MetricSource.EVENT, Statistic.SHARE, "solved")
    figures = {stars: Moments(500, 4.2, 1.0), solved: Moments(500, 0.015, 0.0148)}
    blue, green = (replace(usual, moments={**usual.moments, **figures}) for usual in (arm(9_500), arm(500)))
    look = ArmsReading(NOW - timedelta(hours=1), NOW, {STABLE: blue, CANARY: green}, {CANARY: Stretch()})

    def warn(*margins: Margin) -> tuple[str, ...]:
        named = NamedMetrics(margins[:1], margins[1:])
        return decide_canary(PLAN, [look], share_pct=5, since=SINCE, now=NOW, named=named).warnings

    assert warn(Margin(stars, 5.0), Margin(solved, 0.02)) == (
        "stars: it may get 5.00 worse, but blue is at 4.20, so its margin can never be exceeded unless it falls below "
        "0; choose a smaller one",
        "solved: it may get 2.0 points worse, but blue is at 1.5%, so its margin can never be exceeded; choose a "
        "smaller one",
    )
    assert warn(Margin(Metric.ERRORS, 1.0))[0].startswith(
        "error rate: it may get 100.0 points worse, but blue is at 1."
    )
    assert warn(Margin(stars, 4.0), Margin(solved, 0.01), Margin(Metric.ERRORS, 0.9), Margin(Metric.LATENCY, 1)) == ()


def test_a_harm_that_is_sure_but_within_the_margin_is_no_reason_to_roll_back() -> None:
    verdict = decide(arm(950_000), arm(50_000, latency=410.0))
    assert verdict.comparisons[2].least_harm > 0
    assert verdict.call is CanaryCall.PROMOTE


def test_a_harm_that_is_not_sure_yet_is_a_reason_to_wait() -> None:
    verdict = decide(arm(1_140), arm(60, score=0.66))
    assert verdict.call is CanaryCall.HOLD
    assert any(line.startswith("score: may be up to 0.0") for line in verdict.missing)
    assert "at the current difference, more users will not settle it" in " ".join(verdict.missing)


def test_with_few_users_it_is_too_early_to_tell_and_said_how_many_are_missing() -> None:
    verdict = decide(arm(418), arm(22))
    assert (verdict.call, verdict.reason) == (CanaryCall.HOLD, "Too early to tell: 22 users on green so far.")
    assert verdict.missing == ("78 more users on green, of 100, 7 days at this pace",)
    assert verdict.is_healthy


def test_without_any_user_nothing_is_said_about_green() -> None:
    verdict = decide(Arm(), Arm())
    assert verdict.call is CanaryCall.HOLD
    assert verdict.reason == "No user has been logged on green since the step began."


def test_a_step_is_held_for_its_time_however_good_green_is() -> None:
    verdict = decide(arm(38_000), arm(2_000), now=SINCE + timedelta(hours=3))
    assert verdict.call is CanaryCall.HOLD
    assert verdict.missing == ("21 h of the 24 h hold at 5%",)


def test_a_rollback_does_not_wait_for_the_steps_time() -> None:
    assert decide(arm(38_000), arm(2_000, score=0.6), now=SINCE + timedelta(minutes=5)).call is CanaryCall.ROLL_BACK


def test_errors_surely_above_the_ceiling_roll_back_at_once_however_few_they_are() -> None:
    verdict = decide(arm(285), arm(15, errors=0.8))
    assert verdict.call is CanaryCall.ROLL_BACK
    assert verdict.reason == "Green's error rate is 80.0% over 15 users, 1.0% on blue; the ceiling is 10.0%."
    assert decide(arm(133), arm(7, errors=1.0)).call is CanaryCall.ROLL_BACK
    assert decide(arm(57), arm(3, errors=1.0)).call is CanaryCall.HOLD


def test_errors_above_the_ceiling_that_may_be_chance_are_a_reason_to_wait() -> None:
    assert decide(arm(380), arm(20, errors=0.15)).call is CanaryCall.HOLD
    blue, green = (
        replace(one, moments={**one.moments, Metric.ERRORS: Moments(one.users, rate, 0.55 * rate * (1 - rate))})
        for one, rate in ((arm(5_700), 0.08), (arm(300), 0.11))
    )
    assert decide(blue, green).call is CanaryCall.HOLD


def test_a_green_above_the_ceiling_is_no_worse_than_a_blue_that_is_there_too() -> None:
    assert decide(arm(38_000, errors=0.5), arm(2_000, errors=0.5)).call is not CanaryCall.ROLL_BACK
    assert decide(arm(38_000, errors=0.2), arm(2_000, errors=0.5)).call is CanaryCall.ROLL_BACK


def test_the_ceiling_stops_a_green_that_is_worse_within_a_wide_margin() -> None:
    wide = replace(PLAN, margins=tuple(replace(each, amount=0.5) for each in PLAN.margins))
    spread = {Metric.ERRORS: Moments(2_000, 0.12, 0.05)}
    green = replace(arm(2_000), moments={**arm(2_000).moments, **spread})
    verdict = decide(arm(38_000), green, plan=wide)
    assert verdict.call is CanaryCall.ROLL_BACK
    assert verdict.reason == "Green's error rate is 12.0% over 2,000 users, 1.0% on blue; the ceiling is 10.0%."
    assert decide(arm(38_000), green, plan=replace(wide, error_ceiling=0.15)).call is CanaryCall.PROMOTE


def test_an_outage_late_in_a_step_is_seen_in_its_last_hours() -> None:
    verdict = decide(arm(38_000), arm(2_000, errors=0.02), last=Stretch(40, failing=26.7))
    assert verdict.call is CanaryCall.ROLL_BACK
    assert verdict.reason == "Green's error rate is 66.8% over the last hour, 40 users; the ceiling is 10.0%."
    assert decide(arm(38_000), arm(2_000), last=Stretch(40, failing=2.0)).call is CanaryCall.PROMOTE
    assert decide(arm(38_000), arm(2_000), last=Stretch(4, failing=4.0)).call is CanaryCall.PROMOTE


def test_an_outage_of_both_arms_is_not_greens() -> None:
    look = ArmsReading(
        NOW - timedelta(hours=1), NOW, {STABLE: arm(38_000), CANARY: arm(2_000)},
        {STABLE: Stretch(800, failing=530.0), CANARY: Stretch(40, failing=26.7)},
    )  # fmt: skip
    assert decide_canary(PLAN, [look], share_pct=5, since=SINCE, now=NOW).call is CanaryCall.PROMOTE


def test_users_shared_out_otherwise_than_the_flag_says_hold_whatever_the_metrics_say() -> None:
    verdict = decide(arm(38_000), arm(1_500, score=0.6))
    assert verdict.call is CanaryCall.HOLD
    assert verdict.reason.startswith("3.8% of users were on green where 5% are expected")
    assert verdict.mismatch_p is not None
    assert verdict.mismatch_p < 0.001
    assert not verdict.is_healthy


def test_the_ceiling_holds_for_lost_users_too() -> None:
    assert decide(arm(38_000), arm(1_500, errors=0.5)).call is CanaryCall.ROLL_BACK


def test_a_metric_that_one_arm_does_not_log_is_missing() -> None:
    green = arm(2_000)
    green = replace(green, moments={m: found for m, found in green.moments.items() if m is not Metric.LATENCY})
    verdict = decide(arm(38_000), green)
    assert (verdict.call, verdict.missing) == (CanaryCall.HOLD, ("latency: only blue logs this metric",))


def test_a_stable_arm_without_errors_does_not_make_green_safe_too_early() -> None:
    verdict = decide(arm(1_900, errors=0.0), arm(100, errors=0.0))
    errors = verdict.comparisons[1]
    assert errors.metric is Metric.ERRORS
    assert not errors.is_safe


def test_a_canary_nobody_is_on_waits_for_a_person_and_one_with_everybody_is_done() -> None:
    nobody = decide(Arm(), Arm(), share_pct=0)
    assert (nobody.call, nobody.reason) == (CanaryCall.HOLD, "Nobody gets green.")
    everybody = decide(Arm(), arm(2_000, errors=0.5), share_pct=100)
    assert (everybody.call, everybody.missing) == (CanaryCall.HOLD, ())


@dataclass(frozen=True)
class Entry:
    ts: datetime
    before: dict | None
    after: dict | None


def test_a_step_begins_with_the_last_change_of_who_gets_green() -> None:
    five, quarter = canary_flag(5), canary_flag(25)
    described = canary_flag(25, description="the new build")
    days = [SINCE + timedelta(days=number) for number in range(4)]
    created, grown, edited = (
        Entry(days[0], None, five),
        Entry(days[1], five, quarter),
        Entry(days[2], quarter, described),
    )
    off = Entry(days[3], described, switch_flag(described, on=False))
    assert find_start([created]) == days[0]
    assert find_start([grown, created]) == days[1]
    assert find_start([edited, grown, created]) == days[1]
    assert find_start([off, edited, grown, created]) == days[3]
    assert find_start([Entry(days[2], None, set_rollout(five, 50)), Entry(days[1], five, None), created]) == days[2]
    assert find_start([]) is None
