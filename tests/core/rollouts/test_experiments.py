"""Experiments over a real store: a real client records its users, the log gives a verdict, a person decides."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli import main
from core.arms.arms import Metric
from core.arms.comparisons import Margin
from core.arms.histories import ArmHistories
from core.audit.acts import Act
from core.audit.trail import list_audit, list_broken_audit_entries
from core.causes.timeline import ChangeKind, summarize_audit
from core.errors import Conflict, InvalidInput, NotFound
from core.flags.operations import create_flag, switch_flag, update_flag
from core.flags.schedule import ScheduleStep
from core.flags.store import get_flag
from core.reverts import revert
from core.rollouts.experiment import ExperimentCall
from core.rollouts.experiment_design import plan_experiment
from core.rollouts.experiment_records import Experiment, ExperimentState, find_running, get_experiment, list_experiments
from core.rollouts.experiments import (
    ExperimentReport,
    decide_for,
    report_experiment,
    report_experiments,
    start_experiment,
    stop_experiment,
)
from core.rollouts.schedules import create_schedule
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag, set_weights, split_flag
from quarterdeck.store import Store

KEY, NAME, ENVIRONMENT = "answer_style", "longer answers", "production"
SETUP = Act("ada", "to try it", at=datetime.now(UTC) - timedelta(days=20))
ME = Act("ada", "because")


@pytest.fixture
def deck(url: str, store: Store, tmp_path: Path) -> Iterator[Quarterdeck]:
    """A client of a service, as the service makes it."""
    with Quarterdeck(url, poll_s=0.05, snapshot_path=tmp_path / "snapshot.json") as opened:
        yield opened


def start(store: Store, *, days_ago: float = 0.0, definition: dict[str, Any] | None = None, **changed: Any) -> int:
    """An A/B test of two styles with its experiment, which began some days ago."""
    create_flag(store, KEY, definition or split_flag({"short": 1, "long": 1}), SETUP)
    flag = get_flag(store, ENVIRONMENT, KEY)
    given: dict[str, Any] = {
        "name": NAME, "metric": Metric.SCORE, "effect": 0.02, "min_run": timedelta(0), "control": "short",
        "guardrails": [Margin(Metric.LATENCY, 0.15)],
    }  # fmt: skip
    design = plan_experiment(KEY, flag.view, **(given | changed))
    return start_experiment(store, flag, design, replace(ME, at=datetime.now(UTC) - timedelta(days=days_ago)))


def serve(deck: Quarterdeck, *, gain: float, users: int = 1_500, slower_ms: float = 0.0, lose: float = 0.0) -> None:
    """Answer two questions of each user within the last two hours: by the variant that the client says, and logged."""
    deck.refresh()
    rng, now = random.Random(3), datetime.now(UTC)
    for number in range(users):
        user = f"user-{number}"
        is_long = deck.variant(KEY, user) == "long"
        if is_long and rng.random() < lose:
            continue
        own = rng.gauss(0.7 + (gain if is_long else 0.0), 0.05)
        for _ in range(2):
            deck.log_retrieval(
                "what is an mbuf", min(1.0, max(0.0, rng.gauss(own, 0.08))), session_id=user,
                latency_ms=100 + 50 * rng.random() + (slower_ms if is_long else 0.0),
                ts=now - timedelta(seconds=rng.randrange(60, 7_000)),
            )  # fmt: skip
    deck.flush()


def report(store: Store, *, later: timedelta = timedelta(0)) -> ExperimentReport:
    found = get_experiment(store, ENVIRONMENT, NAME)
    return report_experiment(store, ArmHistories(store), found, now=datetime.now(UTC) + later)


def running(store: Store) -> Experiment:
    return get_experiment(store, ENVIRONMENT, NAME)


def test_what_the_client_noted_and_logged_names_the_better_variant(store: Store, deck: Quarterdeck) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.06)
    found = report(store)
    assert sum(found.noted.values()) == 1_500
    assert {arm: found.looks[-1].arms[arm].users for arm in found.noted} == found.noted
    assert (found.verdict.call, found.verdict.winner) == (ExperimentCall.WINNER, "long")
    assert found.verdict.reason.startswith(
        "long wins: its score is significantly better than short's, 0.76 against 0.70"
    )
    assert {(lift.metric, lift.arm) for lift in found.verdict.lifts} >= {
        (Metric.SCORE, "long"),
        (Metric.LATENCY, "long"),
    }


def test_only_the_services_of_the_design_are_compared(store: Store, url: str, tmp_path: Path) -> None:
    start(store, days_ago=1, services=["Answers"])
    for service, gain in (("answers", 0.06), ("search", -0.4)):
        with Quarterdeck(url, service=service, poll_s=0.05, snapshot_path=tmp_path / f"{service}.json") as deck:
            serve(deck, gain=gain)
    found = report(store)
    assert (found.verdict.call, found.verdict.winner) == (ExperimentCall.WINNER, "long")
    assert sum(arm.queries for arm in found.looks[-1].arms.values()) == 3_000
    assert running(store).design.services == ("answers",)
    (entry,) = list_audit(store, limit=1)
    assert (entry.after or {})["experiment"]["services"] == ["answers"]


def test_two_variants_that_do_the_same_have_no_winner(store: Store, deck: Quarterdeck) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.0)
    found = report(store)
    assert found.verdict.call in (ExperimentCall.WAIT, ExperimentCall.NO_EFFECT)
    assert found.verdict.winner != "long"


def test_users_of_one_variant_who_get_lost_on_the_way_to_the_log_make_it_invalid(
    store: Store, deck: Quarterdeck
) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.06, lose=0.3)
    found = report(store)
    assert found.verdict.call is ExperimentCall.INVALID
    assert "users found in the log are on" in found.verdict.reason


def test_a_slower_variant_breaks_its_guardrail_however_good_its_score(store: Store, deck: Quarterdeck) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.1, slower_ms=60)
    found = report(store)
    assert found.verdict.call is ExperimentCall.STOP
    assert found.verdict.reason.startswith("A guardrail is broken: long's latency is significantly worse than short's")


def test_a_flag_that_was_not_noted_is_noted_from_the_start_of_its_experiment_on(
    store: Store, deck: Quarterdeck
) -> None:
    create_flag(store, KEY, boolean_flag(on=True, rollout_pct=50), SETUP)
    deck.refresh()
    deck.variant(KEY, "before")
    flag = get_flag(store, ENVIRONMENT, KEY)
    design = plan_experiment(KEY, flag.view, name=NAME, metric=Metric.SCORE, effect=0.02)
    before = {f"u{n}": deck.variant(KEY, f"u{n}") for n in range(200)}
    start_experiment(store, flag, design, ME)
    deck.refresh()
    assert {user: deck.variant(KEY, user) for user in before} == before
    deck.flush()
    assert report(store, later=timedelta(minutes=1)).noted == {
        arm: sum(each == arm for each in before.values()) for arm in ("off", "on")
    }


def test_a_flag_that_somebody_changes_meanwhile_makes_every_figure_invalid(store: Store, deck: Quarterdeck) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.06)
    flag = get_flag(store, ENVIRONMENT, KEY)
    update_flag(store, flag, set_weights(flag.definition, {"short": 1, "long": 9}), Act("bob", "more of it"))
    verdict = report(store).verdict
    assert verdict.call is ExperimentCall.INVALID
    assert verdict.reason.startswith(f"No figure can be trusted: bob changed {KEY} on ")
    former = list_audit(store, limit=1)[0]
    revert(store, former.entry_id, ME)
    assert report(store).verdict.call is ExperimentCall.INVALID


def test_a_new_description_disturbs_nothing(store: Store, deck: Quarterdeck) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.06)
    flag = get_flag(store, ENVIRONMENT, KEY)
    described = {**flag.definition, "metadata": {**flag.definition["metadata"], "description": "how long answers are"}}
    update_flag(store, flag, described, ME)
    assert report(store).verdict.call is ExperimentCall.WINNER


def test_an_experiment_whose_users_are_no_longer_noted_says_so(store: Store, deck: Quarterdeck) -> None:
    definition = boolean_flag(on=True, rollout_pct=50)
    start(store, days_ago=1, definition=definition, control="off")
    assert report(store).verdict.call is ExperimentCall.WAIT
    update_flag(store, get_flag(store, ENVIRONMENT, KEY), definition, Act("bob", "an older file"))
    verdict = report(store).verdict
    assert verdict.call is ExperimentCall.INVALID
    assert "clients no longer record exposures of answer_style" in verdict.reason


def test_users_from_before_a_change_of_shares_do_not_count(store: Store, deck: Quarterdeck) -> None:
    create_flag(store, KEY, split_flag({"short": 3, "long": 1}), SETUP)
    serve(deck, gain=0.0, users=400)
    flag = get_flag(store, ENVIRONMENT, KEY)
    update_flag(store, flag, set_weights(flag.definition, {"short": 1, "long": 1}), ME)
    flag = get_flag(store, ENVIRONMENT, KEY)
    design = plan_experiment(KEY, flag.view, name=NAME, metric=Metric.SCORE, effect=0.02, control="long")
    start_experiment(store, flag, design, ME)
    serve(deck, gain=0.0, users=1_000)
    found = report(store, later=timedelta(minutes=1))
    assert sum(found.noted.values()) == 600
    assert found.verdict.mismatch_p is not None
    assert found.verdict.mismatch_p > 0.001


def test_a_decision_gives_everybody_the_winner_ends_it_and_stays_as_it_was_then(
    store: Store, deck: Quarterdeck
) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.06)
    decide_for(store, running(store), "long", ME, typed_name=None, now=datetime.now(UTC))
    deck.refresh()
    assert {deck.variant(KEY, f"user-{number}") for number in range(300)} == {"long"}
    flag = get_flag(store, ENVIRONMENT, KEY)
    assert "experiment" not in flag.definition["metadata"]
    found = report(store)
    assert (found.experiment.state, found.experiment.winner) == (ExperimentState.DECIDED, "long")
    assert (found.experiment.ended_by, found.experiment.conclusion) == ("ada", "because")
    assert (found.verdict.call, found.verdict.winner) == (ExperimentCall.WINNER, "long")
    with pytest.raises(Conflict, match="'longer answers' is decided already"):
        stop_experiment(store, found.experiment, ME)


def test_a_stop_leaves_the_flag_as_it_serves(store: Store, deck: Quarterdeck) -> None:
    start(store)
    deck.refresh()
    before = {f"u{n}": deck.variant(KEY, f"u{n}") for n in range(200)}
    definition = get_flag(store, ENVIRONMENT, KEY).definition
    assert definition["metadata"]["experiment"] == NAME
    stop_experiment(store, running(store), Act("bob", "the wrong question"))
    assert get_flag(store, ENVIRONMENT, KEY).definition == split_flag({"short": 1, "long": 1})
    deck.refresh()
    assert {user: deck.variant(KEY, user) for user in before} == before
    assert (running(store).state, running(store).conclusion) == (ExperimentState.STOPPED, "the wrong question")


def test_start_stop_and_decision_are_audited_and_stand_on_the_timeline(store: Store) -> None:
    start(store)
    stop_experiment(store, running(store), ME)
    flag = get_flag(store, ENVIRONMENT, KEY)
    second = plan_experiment(KEY, flag.view, name="again", metric=Metric.COST, effect=0.1, control="short")
    start_experiment(store, flag, second, ME)
    decide_for(store, get_experiment(store, ENVIRONMENT, "again"), "short", ME, typed_name=None, now=datetime.now(UTC))
    entries = [entry for entry in reversed(list_audit(store)) if entry.action.startswith("experiment.")]
    assert [entry.action for entry in entries] == [
        "experiment.start", "experiment.stop", "experiment.start", "experiment.decide"
    ]  # fmt: skip
    told = [summarize_audit(entry) for entry in entries]
    assert [change.kind for change in told if change] == [ChangeKind.EXPERIMENT] * 4
    assert [(change.summary, change.reach) for change in told if change] == [
        ("experiment longer answers started on answer_style: score of long against short", 0.0),
        ("experiment longer answers on answer_style stopped", 0.0),
        ("experiment again started on answer_style: cost of long against short", 0.0),
        ("experiment again decided: everybody gets short of answer_style", 1.0),
    ]
    assert list_broken_audit_entries(store) == ()
    assert [each.design.name for each in list_experiments(store, ENVIRONMENT)] == ["again", NAME]


def test_one_experiment_a_flag_at_a_time_and_every_name_once(store: Store) -> None:
    start(store)
    flag = get_flag(store, ENVIRONMENT, KEY)
    other = plan_experiment(KEY, flag.view, name="other", metric=Metric.COST, effect=0.1, control="short")
    with pytest.raises(Conflict, match="the experiment 'longer answers' runs on answer_style already; stop it first"):
        start_experiment(store, flag, other, ME)
    stop_experiment(store, running(store), ME)
    flag = get_flag(store, ENVIRONMENT, KEY)
    with pytest.raises(Conflict, match="an experiment named 'longer answers' already exists"):
        start_experiment(store, flag, replace(other, name=NAME), ME)
    start_experiment(store, flag, other, ME)
    found = find_running(store, ENVIRONMENT, KEY)
    assert found is not None
    assert found.design.name == "other"


def test_who_was_slower_changes_nothing(store: Store) -> None:
    create_flag(store, KEY, split_flag({"short": 1, "long": 1}), SETUP)
    flag = get_flag(store, ENVIRONMENT, KEY)
    design = plan_experiment(KEY, flag.view, name=NAME, metric=Metric.SCORE, effect=0.02, control="short")
    switch_flag(store, flag, ME, on=True)
    with pytest.raises(Conflict):
        start_experiment(store, flag, design, ME)
    assert list_experiments(store, ENVIRONMENT) == ()
    start_experiment(store, get_flag(store, ENVIRONMENT, KEY), design, ME)
    seen = running(store)
    stop_experiment(store, seen, ME)
    with pytest.raises(Conflict):
        decide_for(store, seen, "long", ME, typed_name=None, now=datetime.now(UTC))


def test_schedules_and_experiments_keep_out_of_each_others_way(store: Store) -> None:
    definition = boolean_flag(on=True, rollout_pct=50)
    create_flag(store, KEY, definition, SETUP)
    flag, now = get_flag(store, ENVIRONMENT, KEY), datetime.now(UTC)
    create_schedule(store, flag, [ScheduleStep(rollout_pct=60)], ME, starts=now, now=now)
    design = plan_experiment(KEY, flag.view, name=NAME, metric=Metric.SCORE, effect=0.02)
    with pytest.raises(Conflict, match="the open schedule 1 would move users of answer_style; cancel it first"):
        start_experiment(store, flag, design, ME)
    create_flag(store, "other", definition, SETUP)
    other = get_flag(store, ENVIRONMENT, "other")
    start_experiment(store, other, replace(design, flag="other"), ME)
    with pytest.raises(
        Conflict, match="the experiment 'longer answers' runs on other; a schedule would move its users"
    ):
        create_schedule(store, get_flag(store, ENVIRONMENT, "other"), [ScheduleStep(on=False)], ME, starts=now, now=now)


def test_a_flag_that_is_off_or_gone_is_not_decided_and_a_wide_choice_takes_its_name(store: Store) -> None:
    start(store, definition=split_flag({"short": 9, "long": 1}))
    now = datetime.now(UTC)
    with pytest.raises(InvalidInput, match="name: .* of users get another answer; type answer_style to continue"):
        decide_for(store, running(store), "long", ME, typed_name="", now=now)
    with pytest.raises(InvalidInput, match="variant: 'off' is not one of the arms: short, long"):
        decide_for(store, running(store), "off", ME, typed_name=None, now=now)
    switch_flag(store, get_flag(store, ENVIRONMENT, KEY), ME, on=False)
    with pytest.raises(InvalidInput, match="flag: answer_style is switched off, so nobody would get long"):
        decide_for(store, running(store), "long", ME, typed_name=None, now=now)
    assert running(store).is_running


def test_environments_have_experiments_of_their_own(store: Store) -> None:
    start(store)
    assert list_experiments(store, "staging") == ()
    with pytest.raises(NotFound, match="no experiment 'other' in production; there are: longer answers"):
        get_experiment(store, ENVIRONMENT, "other")
    assert report_experiments(store, ArmHistories(store), "staging", now=datetime.now(UTC)) == ()


def run(url: str, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["experiments", *arguments, "--database", url], catch_exceptions=True)
    if code == 0:
        assert done.exit_code == 0, done.output or done.exception
        return done.output
    assert done.exception is not None
    return str(done.exception)


def test_the_command_line_starts_shows_stops_and_decides(url: str, store: Store, deck: Quarterdeck) -> None:
    create_flag(store, KEY, split_flag({"short": 1, "long": 1}), SETUP)
    said = run(
        url, "start", NAME, "--flag", KEY, "--metric", "score", "--effect", "0.02", "--guardrail", "latency=0.15",
        "--control", "short", "--min-days", "0", "--service", "default", "--reason", "users ask for detail",
    )  # fmt: skip
    assert said == "longer answers runs on answer_style: short 50%, long 50% (audit entry 2)\n"
    serve(deck, gain=0.0, users=40)
    assert "longer answers           answer_style             running  wait" in run(url, "list")
    status = json.loads(run(url, "status", NAME, "--json"))
    assert (status["state"], status["control"], sum(status["noted"].values())) == ("running", "short", 40)
    assert status["services"] == ["default"]
    assert "missing: " in (said := run(url, "status", NAME))
    assert "compared: the rows of default" in said
    refused = run(url, "decide", NAME, "--variant", "long", "--reason", "a hunch", code=2)
    assert "wait: " in refused
    assert refused.endswith("--anyway overrides it")
    assert "everybody gets long of answer_style" in run(
        url, "decide", NAME, "--variant", "long", "--anyway", "--reason", "a hunch"
    )
    assert "is decided already" in run(url, "stop", NAME, "--reason", "too late", code=1)
    assert [each["state"] for each in json.loads(run(url, "list", "--json"))] == ["decided"]


def test_without_experiments_the_list_says_how_to_have_one(url: str, store: Store) -> None:
    assert run(url, "list") == "no experiments: start one on a flag\n"


def test_what_staging_logs_of_the_same_users_moves_no_experiment_in_production(
    url: str, store: Store, deck: Quarterdeck, tmp_path: Path
) -> None:
    start(store, days_ago=1)
    serve(deck, gain=0.06)
    before = report(store)
    with Quarterdeck(url, environment="staging", poll_s=0.05, snapshot_path=tmp_path / "staging.json") as there:
        for number in range(300):
            there.log_retrieval("what is an mbuf", 0.01, session_id=f"user-{number}")
    after = report(store)
    assert after.looks[-1].arms == before.looks[-1].arms
    assert after.verdict.call is before.verdict.call
