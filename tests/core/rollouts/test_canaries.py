"""Canaries over a real store: what the log says becomes a verdict, and the job does what the plan allows, no more."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli import main
from app.http.server import list_jobs
from core.arms.histories import ArmHistories
from core.audit.acts import Act
from core.audit.trail import list_audit
from core.causes.timeline import ChangeKind, summarize_audit
from core.config import load_config
from core.errors import Conflict, InvalidInput, NotFound
from core.flags.operations import create_flag, import_flags, update_flag
from core.flags.schedule import ScheduleStep
from core.flags.store import get_flag
from core.flags.timetable import list_schedules
from core.jobs.scheduler import Scheduler
from core.reverts import revert
from core.rollouts.canaries import (
    get_canary,
    list_canaries,
    promote_canary,
    report_canaries,
    report_canary,
    roll_back_canary,
    run_canaries,
)
from core.rollouts.canary import CanaryCall
from core.rollouts.schedules import cancel_schedule, create_schedule
from quarterdeck import CanaryRouter, Quarterdeck
from quarterdeck.definitions import canary_flag, set_rollout, switch_flag
from quarterdeck.store import Store

KEY, ENVIRONMENT = "answer-service", "production"
STEPS = "20% for 1h, 50% for 1h, 100%"
ME = Act("ada", "because")


def start(store: Store, share: float = 20, *, hours_ago: float = 3, key: str = KEY, **metadata: Any) -> None:
    plan = {f"canary_{name}": value for name, value in ({"steps": STEPS} | metadata).items() if value is not None}
    noted = {name.removeprefix("canary_"): plan.pop(name) for name in ["canary_experiment"] if name in plan}
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    create_flag(store, key, canary_flag(share, metadata=plan | noted), Act("ada", "try it", at=at))


@pytest.fixture
def deck(url: str, store: Store, tmp_path: Path) -> Iterator[Quarterdeck]:
    """A client of a service, as the service makes it."""
    with Quarterdeck(url, poll_s=0.05, snapshot_path=tmp_path / "snapshot.json") as opened:
        yield opened


def refresh(deck: Quarterdeck) -> None:
    deck.refresh()


def serve(deck: Quarterdeck, *, green_score: float, users: int = 900, key: str = KEY, green_fails: float = 0.0) -> None:
    """Answer two questions of each user within the last two hours, through the router, as a service does."""
    rng, now = random.Random(3), datetime.now(UTC)
    router = CanaryRouter(deck, key, blue=lambda: rng.gauss(0.7, 0.08), green=lambda: rng.gauss(green_score, 0.08))
    for number in range(users):
        for _ in range(2):
            route = router.route(f"user-{number}")
            score = min(1.0, max(0.0, route.target()))
            failed = route.arm == "green" and rng.random() < green_fails
            route.log_retrieval(
                "what is an mbuf", None if failed else score, latency_ms=100 + 50 * rng.random(),
                ts=now - timedelta(seconds=rng.randrange(60, 7_000)),
            )  # fmt: skip
    deck.flush()


def run_job(url: str, home: Path) -> None:
    """Run the server's own job for canaries once, through its scheduler."""
    config = load_config({"QUARTERDECK_HOME": str(home), "QUARTERDECK_OPERATOR": "ada"}, database_url=url)
    store = Store(config.database_url)
    jobs = [job for job in list_jobs(config, store) if job.name == "canaries"]
    scheduler = Scheduler(store, jobs)
    scheduler.look()
    assert scheduler.wait(60)
    store.close()


def share(store: Store) -> float:
    return get_flag(store, ENVIRONMENT, KEY).view.green_pct


def report(store: Store, key: str = KEY) -> Any:
    flag = get_canary(store, ENVIRONMENT, key)
    return report_canary(store, ArmHistories(store), flag, now=datetime.now(UTC))


def test_a_worse_green_is_rolled_back_by_the_servers_job_and_every_client_is_back_on_blue(
    url: str, store: Store, deck: Quarterdeck, tmp_path: Path
) -> None:
    start(store)
    refresh(deck)
    serve(deck, green_score=0.55)
    greens = [f"user-{number}" for number in range(900) if deck.route(KEY, f"user-{number}") == "green"]
    assert 140 < len(greens) < 220
    run_job(url, tmp_path)
    entry = list_audit(store, limit=1)[0]
    assert (entry.actor, entry.action, entry.target) == ("canary", "canary.rollback", KEY)
    assert entry.reason.startswith("Green's score is significantly worse: 0.55 against 0.70 on blue, by at least 0.1")
    assert share(store) == 0
    refresh(deck)
    assert {deck.route(KEY, user) for user in greens} == {"blue"}
    run_job(url, tmp_path)
    assert list_audit(store, limit=1)[0] == entry


def test_the_servers_job_looks_at_every_environment_that_has_a_canary(url: str, store: Store, tmp_path: Path) -> None:
    plan = {"canary_steps": STEPS}
    at = datetime.now(UTC) - timedelta(hours=3)
    create_flag(store, KEY, canary_flag(20, metadata=plan), Act("ada", "try it there", "staging", at=at))
    with Quarterdeck(url, environment="staging", poll_s=0.05, snapshot_path=tmp_path / "staging.json") as deck:
        serve(deck, green_score=0.55)
    run_job(url, tmp_path)
    entry = list_audit(store, limit=1)[0]
    assert (entry.actor, entry.action, entry.environment) == ("canary", "canary.rollback", "staging")
    assert get_flag(store, "staging", KEY).view.green_pct == 0


def test_a_green_as_good_as_blue_is_left_alone(url: str, store: Store, deck: Quarterdeck, tmp_path: Path) -> None:
    start(store, error_margin=0.05)
    refresh(deck)
    serve(deck, green_score=0.7, users=1_500)
    run_job(url, tmp_path)
    assert share(store) == 20
    assert report(store).verdict.call is CanaryCall.PROMOTE


def test_a_green_as_good_as_blue_takes_the_next_step_where_the_plan_says_so(
    url: str, store: Store, deck: Quarterdeck, tmp_path: Path
) -> None:
    start(store, automation="full", error_margin=0.05)
    refresh(deck)
    serve(deck, green_score=0.7, users=1_500)
    run_job(url, tmp_path)
    assert share(store) == 50
    entry = list_audit(store, limit=1)[0]
    assert (entry.actor, entry.action) == ("canary", "canary.promote")
    assert entry.reason.startswith("Green can go from 20% to 50%: score, error rate, latency confirmed within")
    found = report(store)
    assert found.since == entry.ts
    assert found.verdict.reason == "No user has been logged on green since the step began."


def test_only_the_services_that_judge_it_move_a_canary(url: str, store: Store, tmp_path: Path) -> None:
    start(store, services="Answers")
    for service, green_score in (("answers", 0.7), ("search", 0.3)):
        with Quarterdeck(url, service=service, poll_s=0.05, snapshot_path=tmp_path / f"{service}.json") as deck:
            serve(deck, green_score=green_score, users=400)
    run_job(url, tmp_path)
    assert share(store) == 20
    found = report(store)
    assert found.plan.services == ("answers",)
    assert found.looks[-1].arms["blue"].queries + found.looks[-1].arms["green"].queries == 800
    promote_canary(store, get_canary(store, ENVIRONMENT, KEY), ME, services=("search", "answers"))
    entry = list_audit(store, limit=1)[0]
    told = [(side or {})["metadata"]["canary_services"] for side in (entry.before, entry.after)]
    assert told == ["Answers", "answers, search"]
    roll_back_canary(store, get_canary(store, ENVIRONMENT, KEY), ME)
    promote_canary(store, get_canary(store, ENVIRONMENT, KEY), ME, services=())
    assert "canary_services" not in (list_audit(store, limit=1)[0].after or {})["metadata"]
    assert report(store).plan.services == ()


def test_several_services_judge_together_and_all_do_by_default(url: str, store: Store, tmp_path: Path) -> None:
    for key, services in (("a", "answers, search"), ("b", None)):
        start(store, key=key, services=services, experiment=True)
    for service in ("answers", "search", "third"):
        with Quarterdeck(url, service=service, poll_s=0.05, snapshot_path=tmp_path / f"{service}.json") as deck:
            serve(deck, green_score=0.7, users=50, key="a")
            serve(deck, green_score=0.7, users=50, key="b")
    counts = {key: sum(arm.queries for arm in report(store, key).looks[-1].arms.values()) for key in "ab"}
    assert counts == {"a": 400, "b": 600}  # each client logs for both canaries


def test_searches_that_fail_are_rolled_back_by_the_ceiling(
    url: str, store: Store, deck: Quarterdeck, tmp_path: Path
) -> None:
    start(store)
    refresh(deck)
    serve(deck, green_score=0.7, users=150, green_fails=0.6)
    run_job(url, tmp_path)
    entry = list_audit(store, limit=1)[0]
    assert entry.action == "canary.rollback"
    assert "the ceiling is 10.0%" in entry.reason


@pytest.mark.parametrize("automation", ["off", None])
def test_nothing_happens_by_itself_where_the_plan_says_so_or_there_is_none(
    automation: str | None, url: str, store: Store, deck: Quarterdeck, tmp_path: Path
) -> None:
    start(store, automation=automation, steps=STEPS if automation else None)
    refresh(deck)
    serve(deck, green_score=0.5)
    run_job(url, tmp_path)
    assert share(store) == 20
    assert report(store).verdict.call is CanaryCall.ROLL_BACK


def test_two_canaries_at_once_cannot_be_told_apart_by_the_arm(store: Store, deck: Quarterdeck) -> None:
    start(store)
    start(store, key="search-service")
    refresh(deck)
    serve(deck, green_score=0.5)
    for key in (KEY, "search-service"):
        verdict = report(store, key).verdict
        assert (verdict.call, verdict.is_healthy) == (CanaryCall.HOLD, False)
        assert "runs too and the log's arm does not name its canary" in verdict.reason
    assert run_canaries(store, ArmHistories(store), ENVIRONMENT, now=datetime.now(UTC)) == ()


def test_what_staging_logs_of_a_canary_of_the_same_name_moves_nothing_in_production(
    url: str, store: Store, deck: Quarterdeck, tmp_path: Path
) -> None:
    start(store, error_margin=0.05)
    at = datetime.now(UTC) - timedelta(hours=3)
    create_flag(store, KEY, canary_flag(20), Act("ada", "there too", "staging", at=at))
    refresh(deck)
    serve(deck, green_score=0.7, users=1_500)
    before = report(store)
    with Quarterdeck(url, environment="staging", poll_s=0.05, snapshot_path=tmp_path / "staging.json") as there:
        serve(there, green_score=0.3)
    after = report(store)
    assert after.looks[-1].arms["green"] == before.looks[-1].arms["green"]
    assert after.verdict.call is not CanaryCall.ROLL_BACK
    run_job(url, tmp_path)
    assert share(store) >= 20
    staged = report_canary(store, ArmHistories(store), get_canary(store, "staging", KEY), now=datetime.now(UTC))
    assert staged.verdict.call is CanaryCall.ROLL_BACK


def test_two_canaries_at_once_are_told_apart_by_whom_clients_noted(store: Store, deck: Quarterdeck) -> None:
    start(store, experiment=True)
    start(store, key="search-service", experiment=True)
    refresh(deck)
    for number in range(900):
        deck.route("search-service", f"user-{number}")
    serve(deck, green_score=0.5)
    deck.flush()
    assert report(store).verdict.call is CanaryCall.ROLL_BACK
    assert report(store, "search-service").verdict.call is not CanaryCall.ROLL_BACK


def test_a_plan_and_a_schedule_that_both_move_the_share_are_kept_apart(store: Store) -> None:
    start(store)
    now, flag = datetime.now(UTC), get_canary(store, ENVIRONMENT, KEY)
    steps = [ScheduleStep(rollout_pct=60)]
    said = "answer-service has a canary plan .canary_steps., which already changes its share"
    with pytest.raises(Conflict, match=said):
        create_schedule(store, flag, steps, ME, starts=now, now=now)
    create_schedule(store, flag, [ScheduleStep(on=False)], ME, starts=now + timedelta(hours=1), now=now)
    assert share(store) == 20


def test_a_plan_is_refused_while_a_schedule_moves_the_share(store: Store) -> None:
    start(store, steps=None)
    now, flag = datetime.now(UTC), get_canary(store, ENVIRONMENT, KEY)
    create_schedule(store, flag, [ScheduleStep(rollout_pct=60)], ME, starts=now + timedelta(hours=1), now=now)
    planned = canary_flag(20, metadata={"canary_steps": STEPS})
    for change in (
        lambda: update_flag(store, flag, planned, ME), lambda: import_flags(store, {"flags": {KEY: planned}}, ME)
    ):  # fmt: skip
        with pytest.raises(Conflict, match="so it cannot have a schedule"):
            change()
    assert get_canary(store, ENVIRONMENT, KEY) == flag
    cancel_schedule(store, list_schedules(store)[0], ME)
    update_flag(store, flag, planned, ME)


def test_steps_are_taken_and_undone_by_hand(store: Store) -> None:
    start(store)
    promote_canary(store, get_canary(store, ENVIRONMENT, KEY), ME)
    promote_canary(store, get_canary(store, ENVIRONMENT, KEY), ME)
    with pytest.raises(InvalidInput, match="all users of answer-service are on green already"):
        promote_canary(store, get_canary(store, ENVIRONMENT, KEY), ME)
    assert share(store) == 100
    entry = roll_back_canary(store, get_canary(store, ENVIRONMENT, KEY), ME)
    with pytest.raises(InvalidInput, match="no users of answer-service are on green"):
        roll_back_canary(store, get_canary(store, ENVIRONMENT, KEY), ME)
    promote_canary(store, get_canary(store, ENVIRONMENT, KEY), ME)
    assert share(store) == 20
    revert(store, entry, ME)
    assert share(store) == 100
    told = [summarize_audit(each) for each in list_audit(store)]
    assert [change.kind for change in told if change] == [ChangeKind.CANARY] * 6
    assert [change.summary for change in told if change][1:5] == [
        "canary answer-service rolled out from 0% to 20%",
        "canary answer-service rolled back from 100% to 0%",
        "canary answer-service rolled out from 50% to 100%",
        "canary answer-service rolled out from 20% to 50%",
    ]


def test_a_canary_that_is_off_says_so_and_names_the_share_that_its_flag_keeps(store: Store) -> None:
    start(store, share=5)
    flag = get_canary(store, ENVIRONMENT, KEY)
    update_flag(store, flag, switch_flag(flag.definition, on=False), ME)
    assert report(store).verdict.reason == "Nobody gets green: the flag is off. Its share is set to 5%."


def test_a_canary_that_was_switched_off_starts_again_with_its_first_step(store: Store) -> None:
    start(store, 50)
    flag = get_canary(store, ENVIRONMENT, KEY)
    update_flag(store, flag, switch_flag(flag.definition, on=False), ME)
    promote_canary(store, get_canary(store, ENVIRONMENT, KEY), ME)
    assert share(store) == 20


def test_who_was_slower_changes_nothing(store: Store) -> None:
    start(store)
    flag = get_canary(store, ENVIRONMENT, KEY)
    roll_back_canary(store, flag, ME)
    with pytest.raises(Conflict):
        promote_canary(store, flag, ME)
    assert share(store) == 0


def test_a_share_chosen_by_hand_begins_a_step_and_a_new_description_does_not(store: Store) -> None:
    start(store, hours_ago=48)
    first = report(store).since
    flag = get_canary(store, ENVIRONMENT, KEY)
    described = {**flag.definition, "metadata": {**flag.definition["metadata"], "description": "new"}}
    update_flag(store, flag, described, ME)
    assert report(store).since == first
    flag = get_canary(store, ENVIRONMENT, KEY)
    update_flag(store, flag, set_rollout(flag.definition, 7), ME)
    assert report(store).since > first


def test_a_wrong_plan_is_not_saved_by_any_way_in(store: Store) -> None:
    wrong = canary_flag(5, metadata={"canary_steps": "5% for ever, 100%"})
    with pytest.raises(InvalidInput, match=r"^metadata.canary_steps: cannot read"):
        create_flag(store, KEY, wrong, ME)
    with pytest.raises(InvalidInput, match=r"^flags.answer-service.metadata.canary_steps: cannot read"):
        import_flags(store, {"flags": {KEY: wrong}}, ME)
    start(store)
    flag = get_canary(store, ENVIRONMENT, KEY)
    with pytest.raises(InvalidInput, match=r"^metadata.canary_steps: cannot read"):
        update_flag(store, flag, wrong, ME)
    assert get_canary(store, ENVIRONMENT, KEY) == flag


def test_only_flags_of_blue_and_green_are_canaries(store: Store) -> None:
    assert list_canaries(store, ENVIRONMENT) == report_canaries(
        store, ArmHistories(store), ENVIRONMENT, now=datetime.now(UTC)
    )
    with pytest.raises(NotFound, match="no canary 'answers' in production; there are: none"):
        get_canary(store, ENVIRONMENT, "answers")


def test_the_command_line_lists_tells_and_moves_canaries(
    url: str, store: Store, deck: Quarterdeck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    start(store)
    refresh(deck)
    serve(deck, green_score=0.55)
    run = CliRunner().invoke
    assert run(main, ["canary", "list"]).output.startswith(
        f"{KEY:<28}      20%  roll back  Green's score is significantly"
    )
    status = run(main, ["canary", "status", KEY]).output
    assert "score: 0.55 against 0.70, between 0.1" in status
    assert '"call": "roll back"' in run(main, ["canary", "status", KEY, "--json"]).output
    refused = run(main, ["canary", "promote", KEY, "--reason", "hurry"])
    assert isinstance(refused.exception, InvalidInput)
    assert "the verdict is roll back" in str(refused.exception)
    both = run(main, ["canary", "promote", KEY, "--service", "a", "--all-services", "--reason", "hurry"])
    assert isinstance(both.exception, InvalidInput)
    step = ["canary", "promote", KEY, "--anyway", "--service", "Answers", "--reason", "hurry"]
    assert "is at 50%" in run(main, step).output
    assert "judged by: answers" in run(main, ["canary", "status", KEY]).output
    assert "everybody is on blue" in run(main, ["canary", "rollback", KEY, "--reason", "oh"]).output
    assert share(store) == 0
