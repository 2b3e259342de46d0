"""Each verdict of an experiment fires on data that call for it and stays quiet on data that do not."""

import random
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.arms.arms import Arm, ArmsReading, Metric
from core.arms.comparisons import Margin
from core.arms.sequential import Moments
from core.errors import InvalidInput
from core.flags.definition import FlagDefinition
from core.rollouts.experiment import (
    ExperimentCall,
    ExperimentProgress,
    ExperimentVerdict,
    decide_experiment,
    measure_pace,
    pick_users,
    trace_lift,
)
from core.rollouts.experiment_design import (
    Design,
    Direction,
    list_arms,
    note_users,
    parse_guardrail,
    parse_metric,
    plan_experiment,
    read_design,
    write_design,
)
from quarterdeck.definitions import boolean_flag, canary_flag, serve_to_all, split_flag, switch_flag
from quarterdeck.flags import FlagSet
from quarterdeck.rules import RuleOperator, TargetingRule

START = datetime(2026, 3, 2, tzinfo=UTC)
NOW = START + timedelta(days=10)
SPLIT = split_flag({"short": 1, "long": 1})
USUAL = {
    Metric.SCORE: (0.70, 0.01), Metric.ERRORS: (0.01, 0.004), Metric.LATENCY: (400.0, 40_000.0),
    Metric.COST: (0.002, 1e-6), Metric.FAITHFULNESS: (0.8, 0.02), Metric.FEEDBACK: (0.3, 0.5),
}  # fmt: skip


def design(definition: dict[str, Any] = SPLIT, **changed: Any) -> Design:
    given: dict[str, Any] = {
        "name": "longer answers", "metric": Metric.SCORE, "effect": 0.02, "control": "short",
        "guardrails": [Margin(Metric.LATENCY, 0.15)],
    }  # fmt: skip
    return plan_experiment("style", FlagDefinition(definition), **(given | changed))


def arm(users: int, **means: float) -> Arm:
    moments = {m: Moments(users, means.get(m.name.lower(), mean), spread) for m, (mean, spread) in USUAL.items()}
    return Arm(users, 3 * users, 0, moments)


def decide(
    short: Arm, long: Arm, *, now: datetime = NOW, noted: Mapping[str, int] | None = None, plan: Design | None = None,
    disturbance: str = "",
) -> ExperimentVerdict:  # fmt: skip
    looks = [
        ArmsReading(START + (now - START) * (day - 1) / 10, START + (now - START) * day / 10, arms, {})
        for day in range(1, 11)
        for arms in [{"short": _part(short, day), "long": _part(long, day)}]
    ]
    counts = noted if noted is not None else {"short": short.users, "long": long.users}
    return decide_experiment(plan or design(), looks, ExperimentProgress(START, now, counts, disturbance))


def _part(whole: Arm, day: int) -> Arm:
    moments = {m: replace(each, users=whole.users * day // 10) for m, each in whole.moments.items()}
    return Arm(whole.users * day // 10, 0, 0, moments)


def test_an_arm_that_is_surely_better_and_within_every_guardrail_wins() -> None:
    verdict = decide(arm(3_000), arm(3_000, score=0.74))
    assert (verdict.call, verdict.winner, verdict.missing) == (ExperimentCall.WINNER, "long", ())
    assert verdict.reason.startswith(
        "long wins: its score is significantly better than short's, 0.74 against 0.70, by at least 0.03"
    )
    assert "over 6,000 users" in verdict.reason


def test_without_a_difference_nothing_is_called_and_it_is_said_how_long_it_takes() -> None:
    verdict = decide(arm(400), arm(400))
    assert (verdict.call, verdict.winner) == (ExperimentCall.WAIT, "")
    assert verdict.reason.startswith("No significant difference yet: long is between 0.0")
    score = next(line for line in verdict.missing if line.startswith("score of long"))
    assert score.startswith("score of long: about ")
    assert score.endswith("at this pace to detect a difference of 0.020")
    assert verdict.wait is not None
    assert re.search(r"800 users\. About \d+ days more\.$", verdict.reason)
    assert timedelta(hours=1) < verdict.wait < timedelta(days=60)


def test_the_time_that_is_told_is_the_time_it_takes() -> None:
    first = decide(arm(400), arm(400, score=0.72))
    assert first.call is ExperimentCall.WAIT
    lift = next(lift for lift in first.lifts if lift.metric is Metric.SCORE)
    assert lift.users_needed is not None
    enough = lift.users_needed // 2 + 1
    later = next(each for each in decide(arm(enough), arm(enough, score=0.72)).lifts if each.metric is Metric.SCORE)
    assert later.visible is not None
    assert 0.019 < later.visible <= 0.02


def test_users_shared_out_otherwise_than_the_flag_says_make_every_figure_invalid() -> None:
    verdict = decide(arm(3_300), arm(2_700, score=0.9))
    assert verdict.call is ExperimentCall.INVALID
    assert verdict.reason.startswith(
        "No figure can be trusted: 55.0% of the 6,000 users exposed by clients are on short, where 50.0% are expected"
    )
    assert verdict.mismatch_p is not None
    assert verdict.mismatch_p < 1e-9


def test_users_lost_between_the_client_and_the_log_make_every_figure_invalid() -> None:
    verdict = decide(arm(3_000), arm(2_500, score=0.9), noted={"short": 3_000, "long": 3_000})
    assert verdict.call is ExperimentCall.INVALID
    assert "of the 5,500 users found in the log are on" in verdict.reason


def test_small_differences_of_counts_are_no_mismatch() -> None:
    verdict = decide(arm(3_040), arm(2_960, score=0.74))
    assert verdict.call is ExperimentCall.WINNER
    assert verdict.mismatch_p is not None
    assert verdict.mismatch_p > 0.1


def test_a_flag_that_was_changed_meanwhile_makes_every_figure_invalid() -> None:
    verdict = decide(arm(3_000), arm(3_000, score=0.9), disturbance="ada changed style on 5 Mar")
    assert (verdict.call, verdict.reason) == (
        ExperimentCall.INVALID, "No figure can be trusted: ada changed style on 5 Mar."
    )  # fmt: skip


def test_a_broken_guardrail_stops_it_although_the_score_is_better_and_the_run_is_young() -> None:
    verdict = decide(arm(3_000), arm(3_000, score=0.8, latency=600.0), now=START + timedelta(hours=6))
    assert verdict.call is ExperimentCall.STOP
    assert verdict.reason.startswith(
        "A guardrail is broken: long's latency is significantly worse than short's, 600 ms against 400 ms, by at least"
    )
    assert verdict.reason.endswith("60 ms is allowed.")


def test_a_harm_surely_within_the_guardrail_stops_nothing() -> None:
    assert decide(arm(30_000), arm(30_000, score=0.74, latency=420.0)).call is ExperimentCall.WINNER


def test_a_winner_waits_until_every_guardrail_is_surely_kept() -> None:
    verdict = decide(arm(500), arm(500, score=0.8, latency=430.0))
    assert verdict.call is ExperimentCall.WAIT
    assert verdict.reason.startswith("A difference, but no verdict yet: long is between 0.0")
    assert any(line.startswith("guardrail latency: long may be up to ") for line in verdict.missing)


def test_a_guardrail_that_is_not_logged_is_missing() -> None:
    silent = arm(3_000, score=0.8)
    silent = replace(silent, moments={Metric.SCORE: silent.moments[Metric.SCORE]})
    verdict = decide(arm(3_000), silent)
    assert verdict.call is ExperimentCall.WAIT
    assert "latency in the log of short and long" in verdict.missing


def test_before_the_minimum_run_is_over_nobody_wins() -> None:
    verdict = decide(arm(3_000), arm(3_000, score=0.74), now=START + timedelta(days=3))
    assert verdict.call is ExperimentCall.WAIT
    assert verdict.missing[0] == "4 days of the 7 days minimum run"
    assert verdict.reason.startswith("A difference, but the minimum run is not over: long is between 0.0")


def test_the_control_wins_where_every_other_arm_is_surely_worse() -> None:
    verdict = decide(arm(3_000), arm(3_000, score=0.64))
    assert (verdict.call, verdict.winner) == (ExperimentCall.WINNER, "short")
    assert verdict.reason.startswith("short wins: long's score is significantly worse, 0.64 against 0.70")


def test_an_effect_that_is_surely_smaller_than_wanted_ends_it() -> None:
    verdict = decide(arm(30_000), arm(30_000))
    assert (verdict.call, verdict.winner) == (ExperimentCall.NO_EFFECT, "short")
    assert "the goal is 0.020" in verdict.reason


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [
        (Metric.FAITHFULNESS, 0.9, 0.7), (Metric.COST, 0.001, 0.003), (Metric.LATENCY, 300.0, 500.0),
        (Metric.FEEDBACK, 0.6, 0.0), (Metric.ERRORS, 0.0, 0.05),
    ],
)  # fmt: skip
def test_every_metric_knows_which_way_is_better(metric: Metric, better: float, worse: float) -> None:
    plan = design(metric=metric, guardrails=[])
    for value, winner in ((better, "long"), (worse, "short")):
        assert decide(arm(6_000), arm(6_000, **{metric.name.lower(): value}), plan=plan).winner == winner


def test_the_direction_can_be_turned_around() -> None:
    plan = design(metric=Metric.FEEDBACK, direction=Direction.DOWN, guardrails=[])
    assert decide(arm(6_000), arm(6_000, feedback=0.0), plan=plan).winner == "long"


def test_too_few_users_and_none_at_all_are_said_with_what_to_do() -> None:
    few = decide(arm(20), arm(25))
    assert few.reason == "Too early to tell: 45 users so far, each arm needs 30."
    assert "10 more users on short, of 30 needed" in few.missing
    nobody = decide_experiment(design(), [], ExperimentProgress(START, NOW))
    assert nobody.reason.startswith("No exposures yet")
    unlogged = decide_experiment(design(), [], ExperimentProgress(START, NOW, {"short": 9, "long": 8}))
    assert unlogged.reason.startswith("17 users were exposed, but none is in the log")


def test_of_three_arms_the_better_one_wins() -> None:
    three = design(split_flag({"short": 2, "long": 1, "lists": 1}))
    arms = {"short": arm(4_000), "long": arm(2_000, score=0.72), "lists": arm(2_000, score=0.78)}
    verdict = decide_experiment(
        three,
        [ArmsReading(START, NOW, arms, {})],
        ExperimentProgress(START, NOW, {k: a.users for k, a in arms.items()}),
    )
    assert (verdict.call, verdict.winner) == (ExperimentCall.WINNER, "lists")


def test_the_knowledge_is_traced_and_narrows() -> None:
    looks = [
        ArmsReading(
            START, START + timedelta(days=day), {"short": arm(300 * day), "long": arm(300 * day, score=0.72)}, {}
        )
        for day in range(1, 300)
    ]
    traced = trace_lift(design(), looks, "long")
    assert 50 < len(traced) <= 120
    assert traced[-1].at == looks[-1].at
    widths = [each.most - each.least for each in traced]
    assert widths == sorted(widths, reverse=True)
    assert traced[-1].least < traced[-1].gain < traced[-1].most
    assert traced[-1].gain == pytest.approx(0.02)


def test_the_pace_is_that_of_the_later_half() -> None:
    counts = [400, 600, 700, 800, 900, 1_000]
    looks = [
        ArmsReading(START + timedelta(days=day), START + timedelta(days=day + 1), {"short": Arm(users=n)}, {})
        for day, n in enumerate(counts)
    ]
    assert measure_pace(looks) == pytest.approx(100)
    assert measure_pace([]) is None


@dataclass(frozen=True)
class Seen:
    targeting_key: str
    variant: str
    first_seen: datetime


def test_whoever_was_seen_in_two_arms_or_before_users_were_drawn_as_now_does_not_count() -> None:
    day = timedelta(days=1)
    seen = [
        Seen("new", "long", START + day), Seen("old", "long", START - day), Seen("moved", "short", START - day),
        Seen("moved", "long", START + day), Seen("both", "short", START), Seen("both", "long", START + day),
        Seen("outside", "off", START + day), Seen("later", "short", NOW + day),
    ]  # fmt: skip
    assert [each.targeting_key for each in pick_users(seen, design(), drawn_since=START, until=NOW)] == ["new"]


def simulate(seed: int, *, gain: float, users: int = 1_200) -> ExperimentVerdict:
    """Users who differ from each other ask several questions each, checked every day."""
    rng = random.Random(seed)
    values: dict[str, list[float]] = {"short": [], "long": []}
    looks, verdict = [], ExperimentVerdict(ExperimentCall.WAIT, "")
    plan = design(guardrails=[], min_run=timedelta(0))
    for day in range(1, 11):
        for _ in range(users // 10):
            name = rng.choice(["short", "long"])
            own = rng.gauss(0.7 + (gain if name == "long" else 0.0), 0.1)
            values[name].append(statistics.fmean(rng.gauss(own, 0.1) for _ in range(rng.randint(1, 4))))
        arms = {
            name: Arm(len(of), 0, 0, {Metric.SCORE: Moments(len(of), statistics.fmean(of), statistics.variance(of))})
            for name, of in values.items()
        }
        looks.append(ArmsReading(START, START + timedelta(days=day), arms, {}))
        counts = {name: len(of) for name, of in values.items()}
        verdict = decide_experiment(plan, looks, ExperimentProgress(START, looks[-1].at, counts))
        if verdict.call is ExperimentCall.WINNER:
            return verdict
    return verdict


@pytest.mark.deep
def test_looked_at_every_day_a_true_effect_is_found_and_none_is_invented() -> None:
    assert sum(simulate(seed, gain=0.04).winner == "long" for seed in range(40)) >= 36
    assert sum(simulate(seed, gain=0.0).call is ExperimentCall.WINNER for seed in range(100)) <= 5


@pytest.mark.parametrize(
    ("definition", "changed", "said"),
    [
        (SPLIT, {"name": ""}, "name: must be 1 to 100"),
        (SPLIT, {"name": "a\nb"}, "name: must be 1 to 100"),
        (SPLIT, {"effect": 0.0}, "effect: must be a number above 0"),
        (SPLIT, {"effect": float("nan")}, "effect: must be a number above 0"),
        (SPLIT, {"control": ""}, "control: name the control: one of short, long"),
        (SPLIT, {"control": "off"}, "control: 'off' gets no users; the arms are: short, long"),
        (SPLIT, {"min_run": timedelta(days=-1)}, "min_run: must be 0 to 365 days"),
        (SPLIT, {"guardrails": [Margin(Metric.SCORE, 0.1)]}, "guardrail: score already decides"),
        (SPLIT, {"guardrails": [Margin(Metric.COST, 0.1)] * 2}, "guardrail: cost is listed twice"),
        (SPLIT, {"guardrails": [Margin(Metric.COST, -0.1)]}, "guardrail: cost: give a number above 0"),
        (switch_flag(SPLIT, on=False), {}, "flag: style is switched off"),
        (boolean_flag(on=True), {}, "flag: style cannot have an experiment: every user gets the same variant"),
        (split_flag({"short": 1, "long": 0}), {}, "flag: style cannot have an experiment: every user gets the same"),
        (split_flag({"short": 1, "long": 1}, bucket_by="tenant"), {}, "flag: style is not bucketed by user"),
        (
            canary_flag(20, metadata={"canary_steps": "20% for 1h, 100%"}), {"control": "blue"},
            "flag: style is a canary with a plan",
        ),
        (
            boolean_flag(on=True, rollout_pct=50, rules=[TargetingRule("land", RuleOperator.EQUALS, "DE", "on")]), {},
            "flag: rules of style serve some users a fixed variant",
        ),
    ],
)  # fmt: skip
def test_a_design_that_cannot_tell_anything_is_refused(
    definition: dict[str, Any], changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        design(definition, **changed)
    assert str(caught.value).startswith(said)


def test_arms_and_shares_are_those_that_users_really_get() -> None:
    half = boolean_flag(on=True, rollout_pct=20, rules=[TargetingRule("staff", RuleOperator.EQUALS, "yes", "on")])
    assert list_arms(FlagDefinition(half)) == ()
    fifth = FlagDefinition(boolean_flag(on=True, rollout_pct=20))
    assert list_arms(fifth) == ("on", "off")
    found = plan_experiment("x", fifth, name="a", metric=Metric.COST, effect=0.1)
    assert (found.arms, found.direction) == (("off", "on"), Direction.DOWN)
    assert found.shares == pytest.approx((0.8, 0.2))
    part = split_flag({"short": 3, "long": 1}, 30)
    assert design(part).shares == pytest.approx((0.75, 0.25))
    users = [f"user-{number}" for number in range(20_000)]
    flags = FlagSet.from_definitions({"flags": {"style": part}})
    got = [flags.resolve("style", {"targetingKey": user}).variant for user in users]
    assert got.count("long") / (got.count("long") + got.count("short")) == pytest.approx(0.25, abs=0.02)
    plain = {
        "state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a",
        "targeting": {"fractional": [["a", 50], ["b", 50]]},
    }  # fmt: skip
    assert list_arms(FlagDefinition(plain)) == ("a", "b")


def test_a_decided_flag_gives_everybody_the_winner_and_keeps_its_rules() -> None:
    rule = TargetingRule("country", RuleOperator.EQUALS, "DE", "off")
    decided = serve_to_all(split_flag({"short": 1, "long": 1}) | {}, "long")
    flags = FlagSet.from_definitions({"flags": {"style": decided}})
    assert {flags.resolve("style", {"targetingKey": f"u{n}"}).variant for n in range(500)} == {"long"}
    ruled = serve_to_all(boolean_flag(on=True, rollout_pct=20, rules=[rule]), "on")
    flags = FlagSet.from_definitions({"flags": {"x": ruled}})
    assert flags.resolve("x", {"targetingKey": "u", "country": "DE"}).variant == "off"
    assert flags.resolve("x", {"targetingKey": "u", "country": "FR"}).variant == "on"
    with pytest.raises(InvalidInput, match="variant: 'blue' is not among the variants"):
        serve_to_all(SPLIT, "blue")


def test_a_design_comes_back_as_it_was_written() -> None:
    for each in (design(), design(split_flag({"short": 2, "long": 1, "lists": 1}), direction=Direction.DOWN)):
        assert read_design(write_design(each)) == each


def test_metrics_and_guardrails_are_read_as_people_write_them() -> None:
    assert parse_metric("error rate") is parse_metric("errors") is parse_metric("Error-Rate") is Metric.ERRORS
    assert parse_guardrail("latency=0.15") == Margin(Metric.LATENCY, 0.15)
    with pytest.raises(InvalidInput, match="metric: there is no metric 'clicks'; there are: score, error rate"):
        parse_metric("clicks")
    with pytest.raises(InvalidInput, match="guardrail: write it as latency=0.15"):
        parse_guardrail("latency")


def test_clients_are_told_to_note_users_and_told_to_stop() -> None:
    noted = note_users(SPLIT, "longer answers")
    assert noted["metadata"]["experiment"] == "longer answers"
    assert note_users(noted, None) == SPLIT
