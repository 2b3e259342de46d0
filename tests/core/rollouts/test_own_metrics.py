"""Own metrics over a real store: scores, events and percentiles decide experiments, stop canaries and pause them."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.arms.arms import Metric
from core.arms.comparisons import Margin
from core.arms.histories import ArmHistories
from core.audit.acts import Act
from core.errors import InvalidInput
from core.flags.operations import create_flag
from core.flags.store import get_flag
from core.log.scores import apply_scores
from core.metrics.builtin import BUILT_IN, find_builtin
from core.metrics.definition import MetricDefinition, MetricSource, Statistic, define_metric
from core.metrics.operations import add_metric, remove_metric
from core.rollouts.canaries import CanaryReport, get_canary, report_canary
from core.rollouts.canary import CanaryCall
from core.rollouts.experiment import ExperimentCall
from core.rollouts.experiment_design import parse_guardrail, parse_metric, plan_experiment
from core.rollouts.experiment_records import get_experiment
from core.rollouts.experiments import ExperimentReport, report_experiment, start_experiment
from quarterdeck import Quarterdeck
from quarterdeck.clock import now_ms
from quarterdeck.definitions import canary_flag, split_flag
from quarterdeck.store import Store

KEY, NAME, ENVIRONMENT = "answer_style", "longer answers", "production"
SETUP = Act("ada", "to try it", at=datetime.now(UTC) - timedelta(days=20))
STARS = MetricDefinition("stars", MetricSource.SCORE, Statistic.MEAN, "stars", margin=0.2)
RESOLVED = MetricDefinition("resolved", MetricSource.EVENT, Statistic.SHARE, "resolved", margin=0.05)
CLICKS = MetricDefinition("clicks", MetricSource.EVENT, Statistic.RATIO, "click", per="questions", margin=0.5)
P95 = find_builtin("latency p95")


@pytest.fixture
def deck(url: str, store: Store, tmp_path: Path) -> Iterator[Quarterdeck]:
    """A client of a service, as the service makes it."""
    with Quarterdeck(url, poll_s=0.05, snapshot_path=tmp_path / "snapshot.json") as opened:
        yield opened


def start(store: Store, **changed: Any) -> None:
    """An A/B test of two styles with its experiment, which began yesterday."""
    create_flag(store, KEY, split_flag({"short": 1, "long": 1}), SETUP)
    flag = get_flag(store, ENVIRONMENT, KEY)
    given: dict[str, Any] = {
        "name": NAME, "metric": STARS, "effect": 0.2, "min_run": timedelta(0), "control": "short",
        "guardrails": [Margin(RESOLVED, 0.1)], "further": [CLICKS, P95],
    }  # fmt: skip
    design = plan_experiment(KEY, flag.view, **(given | changed))
    act = Act("ada", "because", at=datetime.now(UTC) - timedelta(days=1))
    start_experiment(store, flag, design, act)


def serve(
    deck: Quarterdeck, store: Store, variants: tuple[str, str], *, stars: float = 0.0, resolved: float = 0.0,
    slower: float = 1.0, users: int = 800, names_arm: bool = False,
) -> None:  # fmt: skip
    """Answer two questions of each user within the last two hours; the second variant does differently."""
    deck.refresh()
    rng, now = random.Random(3), datetime.now(UTC)
    for number in range(users):
        user = f"user-{number}"
        variant = deck.variant(KEY, user)
        is_other = variant == variants[1]
        for _ in range(2):
            row = deck.log_retrieval(
                "what is an mbuf", 0.7, session_id=user, arm=variant if names_arm else None,
                latency_ms=rng.lognormvariate(5, 0.5) * (slower if is_other else 1.0),
                ts=now - timedelta(seconds=rng.randrange(60, 7_000)),
            )  # fmt: skip
            deck.score(row, "stars", rng.gauss(3.0 + (stars if is_other else 0.0), 0.8), source="judge")
        if rng.random() < 0.5 + (resolved if is_other else 0.0):
            deck.track("resolved", user)
        deck.track("click", user) if rng.random() < 0.4 else None
    deck.flush()
    apply_scores(store, now_ms=now_ms())


def report(store: Store) -> ExperimentReport:
    found = get_experiment(store, ENVIRONMENT, NAME)
    return report_experiment(store, ArmHistories(store), found, now=datetime.now(UTC))


def test_a_score_of_ones_own_decides_and_an_event_guards(store: Store, deck: Quarterdeck) -> None:
    start(store)
    serve(deck, store, ("short", "long"), stars=0.4)
    found = report(store)
    assert (found.verdict.call, found.verdict.winner) == (ExperimentCall.WINNER, "long"), found.verdict
    assert "its stars is significantly better than short's, 3." in found.verdict.reason
    metrics = {lift.metric: lift for lift in found.verdict.lifts}
    assert {STARS, RESOLVED, CLICKS, P95, Metric.SCORE, Metric.LATENCY} <= metrics.keys()
    assert list(metrics)[:2] == [STARS, RESOLVED]
    assert metrics[RESOLVED].compared.stable.users == found.noted["short"]  # those without the event count too
    assert metrics[CLICKS].compared.stable.mean == pytest.approx(0.2, abs=0.05)


def test_a_worse_event_stops_it_although_the_score_is_better(store: Store, deck: Quarterdeck) -> None:
    start(store)
    serve(deck, store, ("short", "long"), stars=0.4, resolved=-0.3)
    found = report(store)
    assert found.verdict.call is ExperimentCall.STOP
    assert "long's resolved is significantly worse than short's, 1" in found.verdict.reason


def test_a_percentile_can_decide(store: Store, deck: Quarterdeck) -> None:
    start(store, metric=P95, effect=0.1, guardrails=[], further=[])
    serve(deck, store, ("short", "long"), slower=0.5)
    found = report(store)
    assert (found.verdict.call, found.verdict.winner) == (ExperimentCall.WINNER, "long"), found.verdict
    assert "ms" in found.verdict.reason


def test_earlier_values_of_the_same_users_narrow_the_interval(store: Store, deck: Quarterdeck) -> None:
    create_flag(store, KEY, split_flag({"short": 1, "long": 1}), replace(SETUP, at=datetime.now(UTC)))
    steps = MetricDefinition("tokens per question", MetricSource.TOKENS, Statistic.RATIO, per="questions")
    flag = get_flag(store, ENVIRONMENT, KEY)
    given: dict[str, Any] = {"name": NAME, "metric": steps, "effect": 1.0, "min_run": timedelta(0), "control": "short"}
    start_experiment(store, flag, plan_experiment(KEY, flag.view, **given), Act("ada", "because"))
    deck.refresh()
    rng, now = random.Random(3), datetime.now(UTC)
    for number in range(600):
        level = rng.gauss(100, 30)
        deck.variant(KEY, f"user-{number}")
        for at in (now - timedelta(days=3), now - timedelta(days=2), now + timedelta(seconds=1)):
            deck.log_retrieval("q", 0.7, session_id=f"user-{number}", tokens=level + rng.gauss(0, 10), ts=at)
    deck.flush()
    found = report_experiment(
        store, ArmHistories(store), get_experiment(store, ENVIRONMENT, NAME), now=now + timedelta(minutes=1)
    )
    (lift,) = [each for each in found.verdict.lifts if each.metric == steps]
    assert lift.compared.is_adjusted
    assert lift.compared.stable.variance < 0.3 * 30**2


def canary(store: Store, **metadata: Any) -> None:
    plan = {"canary_steps": "50% for 1h, 100%"} | {f"canary_{name}": value for name, value in metadata.items()}
    at = datetime.now(UTC) - timedelta(hours=3)
    create_flag(store, KEY, canary_flag(50, metadata=plan), Act("ada", "try it", at=at))


def judge(store: Store) -> CanaryReport:
    return report_canary(store, ArmHistories(store), get_canary(store, ENVIRONMENT, KEY), now=datetime.now(UTC))


@pytest.mark.parametrize("kind", ["guardrails", "signals"])
def test_a_guardrail_rolls_back_and_a_signal_only_pauses(store: Store, deck: Quarterdeck, kind: str) -> None:
    add_metric(store, STARS, Act("ada", "we look at stars"))
    canary(store, **{kind: "Stars"})
    serve(deck, store, ("blue", "green"), stars=-0.5, names_arm=True)
    verdict = judge(store).verdict
    if kind == "guardrails":
        assert verdict.call is CanaryCall.ROLL_BACK
        assert verdict.reason.startswith("Green's stars is significantly worse")
    else:
        assert verdict.call is CanaryCall.HOLD
        assert verdict.reason.startswith("Paused by a signal. Green's stars is significantly worse")
        assert [each.metric for each in verdict.signals] == [STARS]


def test_a_good_green_is_promoted_with_its_own_guardrails_confirmed(store: Store, deck: Quarterdeck) -> None:
    add_metric(store, STARS, Act("ada", "we look at stars"))
    add_metric(store, RESOLVED, Act("ada", "we look at resolved"))
    canary(store, guardrails="stars, resolved=0.2", signals="latency p95, latency", error_margin=0.2)
    serve(deck, store, ("blue", "green"), names_arm=True, users=1_200)
    verdict = judge(store).verdict
    assert verdict.call is CanaryCall.PROMOTE, verdict
    assert {each.metric for each in verdict.comparisons} >= {STARS, RESOLVED}
    assert Metric.LATENCY not in {each.metric for each in verdict.comparisons}
    assert [each.metric for each in verdict.signals] == [P95, Metric.LATENCY]
    remove_metric(store, "stars", Act("ada", "no longer"))
    verdict = judge(store).verdict
    assert verdict.call is CanaryCall.HOLD
    assert "the metric stars: it is not defined here (quarterdeck metrics add)" in verdict.missing


@pytest.mark.parametrize("name", ["errors", "Error-Rate", "latency p95"])
def test_a_name_that_means_a_built_in_metric_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput, match="is a built-in metric; choose another name"):
        add_metric(store, replace(RESOLVED, name=name), Act("ada", "because"))


def test_metrics_and_guardrails_are_found_by_name() -> None:
    known = (*BUILT_IN, STARS)
    assert parse_metric("latency", known) is Metric.LATENCY
    assert parse_metric("Latency P95", known) == P95
    assert parse_guardrail("stars", known) == Margin(STARS, 0.2)
    assert parse_guardrail("stars=0.5", known) == Margin(STARS, 0.5)
    with pytest.raises(InvalidInput, match="there is no metric 'speed'; there are: score, .*, stars"):
        parse_metric("speed", known)


@pytest.mark.parametrize("text", ["stars=", "=0.2", "stars=-1", "stars=x", "stars, Stars"])
def test_wrong_names_in_a_plan_are_refused(store: Store, text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        canary(store, guardrails=text)
    assert error.value.field == "metadata.canary_guardrails"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latency p95=20", "latency p95=20 would be 2000% of the stable figure and could never fire"),
        ("errors=1", "error rate=1 allows 100 points where values go from 0 to 1, and could never fire"),
        ("Resolved=5", "resolved=5 allows 500 points where values go from 0 to 1, and could never fire"),
        ("score=1.5", "score=1.5 allows 1.5 where values go from 0 to 1, and could never fire"),
    ],
)
def test_a_margin_that_can_never_fire_is_refused(store: Store, text: str, said: str) -> None:
    add_metric(store, RESOLVED, Act("ada", "we look at resolved"))
    for kind in ("guardrails", "signals"):
        with pytest.raises(InvalidInput) as error:
            canary(store, **{kind: text})
        assert str(error.value).startswith(f"metadata.canary_{kind}: {said}")
    canary(store, guardrails="latency p95=1, errors=0.99, resolved=0.2, stars=3, unknown=7")
    with pytest.raises(InvalidInput, match="could never fire"):
        define_metric("solved", "event", "share", of="solved", margin=1)
