"""Index canaries over a real store: sticky users, the log's verdict, automatic rollback, and pauses."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from app.cli import main
from app.http.server import list_jobs
from core.approvals.operations import approve_request, set_policy
from core.approvals.requests import get_request
from core.approved import apply_request
from core.arms.histories import ArmHistories
from core.audit.acts import Act
from core.audit.gate import Origin, Policy
from core.audit.permissions import Role, Roles, hold_everywhere
from core.audit.trail import list_audit
from core.causes.timeline import summarize_audit
from core.config import load_config
from core.errors import ApprovalNeeded, Conflict, Forbidden, InvalidInput, NotFound
from core.flags.canary_plan import Automation
from core.flags.definition import set_metadata
from core.flags.layers import Holdout, find_holdout
from core.flags.operations import create_flag, remove_flag, switch_flag, update_flag
from core.flags.store import Flag, get_flag, list_flags
from core.indexes.builds import plan_garbage
from core.indexes.operations import register_index, retire_index, rollback_index, swap_index
from core.indexes.registry import Index, list_aliases, newest_swap_id
from core.jobs.scheduler import Scheduler
from core.metrics.definition import MetricDefinition, MetricSource, Statistic
from core.metrics.operations import add_metric
from core.rollouts.canaries import CanaryReport, promote_canary, report_canaries, roll_back_canary, run_canaries
from core.rollouts.canary import CanaryCall
from core.rollouts.index_canaries import start_index_canary
from core.rollouts.layers import start_holdout
from quarterdeck import Quarterdeck
from quarterdeck.definitions import canary_flag
from quarterdeck.store import Store

KEY, ENVIRONMENT = "index:default", "production"
STEPS = "20% for 1h, 50% for 1h, 100%"
ME = Act("ada", "because")
EDITOR = hold_everywhere(Role.EDITOR)
USERS = [f"user-{number}" for number in range(900)]


def add_index(store: Store, name: str, *, model: str = "minilm", days_old: float = 0) -> None:
    built = datetime.now(UTC) - timedelta(days=days_old)
    register_index(store, Index(name, "indexes", name, model, 10, built, "ada"), ME)


@pytest.fixture
def indexes(store: Store) -> Store:
    """Three indexes; v1 is live."""
    for name in ("v1", "v2", "v3"):
        add_index(store, name)
    swap_index(store, "default", "v1", ME, expected=None)
    return store


@pytest.fixture
def deck(url: str, indexes: Store, tmp_path: Path) -> Iterator[Quarterdeck]:
    with Quarterdeck(url, poll_s=60, snapshot_path=tmp_path / "snapshot.json") as opened:
        yield opened


def start(store: Store, candidate: str = "v2", *, hours_ago: float = 3, **options: Any) -> None:
    act = replace(ME, at=datetime.now(UTC) - timedelta(hours=hours_ago))
    start_index_canary(store, "default", candidate, act, **{"steps": STEPS, "unprobed": True, **options})


def ask(deck: Quarterdeck) -> dict[str, str | None]:
    deck.refresh()
    return {user: deck.active_index(user_id=user) for user in USERS}


def serve(deck: Quarterdeck, scores: dict[str, float], *, fails: frozenset[str] = frozenset()) -> None:
    """Answer two questions of each user within the last two hours, as a service that logs its index does."""
    rng, now = random.Random(3), datetime.now(UTC)
    for user, index in ask(deck).items():
        for _ in range(2):
            score = min(1.0, max(0.0, rng.gauss(scores[str(index)], 0.08)))
            deck.log_retrieval(
                "what is an mbuf", None if index in fails else score, user_id=user, index_version=index,
                ts=now - timedelta(seconds=rng.randrange(60, 7_000)),
            )  # fmt: skip
    deck.flush()


def read(store: Store, key: str = KEY) -> CanaryReport:
    found = report_canaries(store, ArmHistories(store), ENVIRONMENT, now=datetime.now(UTC))
    return next(report for report in found if report.flag.key == key)


def flag_of(store: Store) -> Flag:
    return get_flag(store, ENVIRONMENT, KEY)


def run(store: Store) -> tuple[str, ...]:
    return run_canaries(store, ArmHistories(store), ENVIRONMENT, now=datetime.now(UTC))


def test_a_share_of_users_searches_the_candidate_and_nobody_else(indexes: Store, deck: Quarterdeck) -> None:
    start(indexes)
    answers = ask(deck)
    tried = {user for user, index in answers.items() if index == "v2"}
    assert 140 < len(tried) < 220
    assert set(answers.values()) == {"v1", "v2"}
    assert deck.active_index() == "v1"
    assert deck.active_index(user_id="") == "v1"
    assert deck.active_index("other", user_id="user-1") is None
    promote_canary(indexes, flag_of(indexes), ME)
    assert tried < {user for user, index in ask(deck).items() if index == "v2"}


def test_whatever_a_service_passes_it_gets_the_live_index(indexes: Store, deck: Quarterdeck) -> None:
    start(indexes)
    deck.refresh()
    for odd in (object(), [], {}, b"x", 7, "\ud800"):
        found = deck.active_index(user_id=odd)  # type: ignore[arg-type]
        assert found in ("v1", "v2")
    assert deck.active_index([], user_id="ann") is None  # type: ignore[arg-type]


def test_a_restarted_client_without_its_store_keeps_users_where_they_were(
    indexes: Store, deck: Quarterdeck, tmp_path: Path
) -> None:
    start(indexes)
    before = ask(deck)
    kept = tmp_path / "snapshot.json"
    with Quarterdeck("postgresql://nobody@127.0.0.1:9/none", poll_s=60, snapshot_path=kept) as alone:
        assert {user: alone.active_index(user_id=user) for user in USERS} == before


def test_a_worse_candidate_is_rolled_back_by_the_servers_job(
    url: str, indexes: Store, deck: Quarterdeck, tmp_path: Path
) -> None:
    start(indexes)
    serve(deck, {"v1": 0.7, "v2": 0.55})
    config = load_config({"QUARTERDECK_HOME": str(tmp_path), "QUARTERDECK_OPERATOR": "ada"}, database_url=url)
    store = Store(config.database_url)
    scheduler = Scheduler(store, [job for job in list_jobs(config, store) if job.name == "canaries"])
    scheduler.look()
    assert scheduler.wait(60)
    store.close()
    entry = list_audit(indexes, limit=1)[0]
    assert (entry.actor, entry.action, entry.target) == ("canary", "canary.rollback", KEY)
    assert entry.reason.startswith("Green's score is significantly worse: 0.55 against 0.70 on blue")
    assert set(ask(deck).values()) == {"v1"}


def test_a_candidate_as_good_as_the_live_index_takes_the_next_step_by_itself(indexes: Store, deck: Quarterdeck) -> None:
    start(indexes, automation=Automation.FULL)
    allow_errors(indexes)
    serve(deck, {"v1": 0.7, "v2": 0.72})
    assert "promote" in run(indexes)[0]
    assert flag_of(indexes).view.green_pct == 50


def test_a_person_lets_it_go_live_which_ends_it(indexes: Store, deck: Quarterdeck) -> None:
    start(indexes, automation=Automation.FULL, steps="20% for 1h, 100%")
    allow_errors(indexes)
    serve(deck, {"v1": 0.7, "v2": 0.72})
    assert read(indexes).verdict.call is CanaryCall.PROMOTE
    assert run(indexes) == ()  # it would move the readers of every environment
    promote_canary(indexes, flag_of(indexes), ME)
    assert list_aliases(indexes)[0].index_name == "v2"
    assert list_audit(indexes, limit=1)[0].action == "index.swap"
    assert set(ask(deck).values()) == {"v2"}
    assert "Paused: default points to v2" in read(indexes).verdict.reason


def allow_errors(store: Store) -> None:
    flag = flag_of(store)
    update_flag(store, flag, set_metadata(flag.definition, {"canary_error_margin": 0.1}), ME)


@pytest.mark.parametrize("back", [False, True])
def test_it_pauses_where_the_alias_was_moved_even_if_it_was_moved_back(
    indexes: Store, deck: Quarterdeck, *, back: bool
) -> None:
    start(indexes, automation=Automation.FULL)
    serve(deck, {"v1": 0.7, "v2": 0.72})
    swap_index(indexes, "default", "v3", ME, expected="v1")
    if back:
        rollback_index(indexes, "default", ME)
    live = "v1" if back else "v3"
    assert set(ask(deck).values()) == {live}
    found = read(indexes)
    assert found.verdict.reason.startswith(f"Paused: default points to {live} since")
    assert (found.verdict.call, found.verdict.is_healthy) == (CanaryCall.HOLD, False)
    assert run(indexes) == ()
    with pytest.raises(Conflict, match="Paused"):
        promote_canary(indexes, flag_of(indexes), ME)
    start(indexes, hours_ago=0)  # again, against what is live now
    assert set(ask(deck).values()) == {live, "v2"}
    assert read(indexes).share_pct == 20


@pytest.mark.deep
def test_one_that_cannot_be_read_stops_no_other_canary(url: str, indexes: Store, deck: Quarterdeck) -> None:
    start(indexes)
    serve(deck, {"v1": 0.7, "v2": 0.5})
    create_flag(indexes, "index:broken", canary_flag(20, metadata={"canary_steps": STEPS}), ME)
    create_flag(indexes, "index:worse", canary_flag(20, metadata={"canary_steps": STEPS}), ME)
    with indexes.begin() as connection:  # by hand, past every check
        damaged = '{"state":"ENABLED","variants":{"blue":1,"green":2},"defaultVariant":"blue","targeting":{"fractional"'
        damaged += ':[["green",20],["blue",80]]},"metadata":{"canary_steps":"soon"}}'
        connection.execute(text("UPDATE flags SET definition = :d WHERE key = 'index:worse'"), {"d": damaged})
    assert read(indexes, "index:broken").verdict.reason.startswith("Paused: index:broken names no two indexes")
    assert read(indexes, "index:worse").verdict.reason.startswith("It cannot be read: metadata.canary_steps")
    assert "roll back" in run(indexes)[0]
    assert set(ask(deck).values()) == {"v1"}


def test_it_runs_beside_a_canary_of_builds(indexes: Store, deck: Quarterdeck) -> None:
    start(indexes)
    create_flag(indexes, "answer-service", canary_flag(20, metadata={"canary_steps": STEPS}), ME)
    serve(deck, {"v1": 0.7, "v2": 0.5})
    assert read(indexes).verdict.call is CanaryCall.ROLL_BACK
    assert read(indexes, "answer-service").verdict.reason == "No user has been logged on green since the step began."


@pytest.mark.deep
def test_two_models_are_not_compared_by_their_scores(indexes: Store, deck: Quarterdeck) -> None:
    add_index(indexes, "other", model="e5")
    start(indexes, "other")
    serve(deck, {"v1": 0.7, "other": 0.3})
    assert [str(each.metric) for each in read(indexes).verdict.comparisons] == ["error rate"]


def test_two_models_are_not_compared_by_scores_that_a_plan_names(indexes: Store, deck: Quarterdeck) -> None:
    add_metric(indexes, MetricDefinition("good", MetricSource.SIMILARITY, Statistic.SHARE, at_least=0.5), ME)
    add_index(indexes, "other", model="e5")
    start(indexes, "other")
    flag = flag_of(indexes)
    named = {"canary_guardrails": "good", "canary_signals": "score, latency"}
    update_flag(indexes, flag, set_metadata(flag.definition, named), ME)
    serve(deck, {"v1": 0.7, "other": 0.3})
    found = read(indexes)
    assert [str(each.metric) for each in found.verdict.comparisons] == ["error rate"]
    assert (found.verdict.call, found.verdict.signals) == (CanaryCall.HOLD, ())


def test_a_candidate_that_fails_is_rolled_back_by_its_error_rate(indexes: Store, deck: Quarterdeck) -> None:
    start(indexes)
    serve(deck, {"v1": 0.7, "v2": 0.7}, fails=frozenset({"v2"}))
    assert "error rate" in run(indexes)[0]


def test_what_cannot_start(indexes: Store) -> None:
    with pytest.raises(InvalidInput, match="v2 has not been probed"):
        start(indexes, unprobed=False)
    with pytest.raises(InvalidInput, match="v1 is live under default already"):
        start(indexes, "v1")
    with pytest.raises(NotFound, match="no index 'v9' is registered"):
        start(indexes, "v9")
    with pytest.raises(NotFound, match="'other' points to no index yet; there are: default"):
        start_index_canary(indexes, "other", "v2", ME, unprobed=True)
    with pytest.raises(InvalidInput, match=r"canary_steps: cannot read 'soon'"):
        start(indexes, steps="soon")
    start(indexes)
    with pytest.raises(Conflict, match="at 20% already"):
        start(indexes, "v3")
    roll_back_canary(indexes, flag_of(indexes), ME)
    start(indexes, "v3", steps=None)
    assert flag_of(indexes).view.variants == {"blue": "v1", "green": "v3"}
    assert flag_of(indexes).view.metadata["canary_steps"] == STEPS


def test_what_it_searches_is_not_removed_until_readers_have_left(indexes: Store) -> None:
    add_index(indexes, "old", days_old=9)
    add_index(indexes, "older", days_old=9)
    start(indexes, "old")
    now = datetime.now(UTC)
    assert plan_garbage(indexes, keep=0, now=now + timedelta(days=9)).removable == ("older", "v2", "v3")
    with pytest.raises(Conflict, match="an index canary searches index 'old'"):
        retire_index(indexes, "old", ME, newest_swap=_newest_swap(indexes))
    remove_flag(indexes, flag_of(indexes), ME, typed_name=KEY)
    assert "old" not in plan_garbage(indexes, keep=0, now=now).removable
    assert "old" in plan_garbage(indexes, keep=0, now=now + timedelta(hours=2)).removable
    retire_index(indexes, "old", ME, newest_swap=_newest_swap(indexes))


def test_a_candidate_that_was_removed_is_searched_by_nobody(indexes: Store, deck: Quarterdeck) -> None:
    add_index(indexes, "gone")
    start(indexes, "gone")
    kept = flag_of(indexes).definition
    remove_flag(indexes, flag_of(indexes), ME, typed_name=KEY)
    retire_index(indexes, "gone", ME, newest_swap=_newest_swap(indexes))
    create_flag(indexes, KEY, kept, ME)
    assert set(ask(deck).values()) == {"v1"}
    assert "gone is no longer registered" in read(indexes).verdict.reason
    with pytest.raises(Conflict, match="no longer registered"):
        promote_canary(indexes, flag_of(indexes), ME)


def test_the_kill_switch_brings_everybody_back(indexes: Store, deck: Quarterdeck) -> None:
    start(indexes)
    switch_flag(indexes, flag_of(indexes), ME, on=False)
    assert set(ask(deck).values()) == {"v1"}


def test_each_environment_has_its_own(url: str, indexes: Store, deck: Quarterdeck, tmp_path: Path) -> None:
    start_index_canary(indexes, "default", "v2", replace(ME, environment="staging"), steps=STEPS, unprobed=True)
    assert set(ask(deck).values()) == {"v1"}
    with Quarterdeck(url, environment="staging", poll_s=60, snapshot_path=tmp_path / "other.json") as staging:
        assert {staging.active_index(user_id=user) for user in USERS} == {"v1", "v2"}


def test_the_timeline_tells_each_step_with_the_part_of_the_log_it_affects(indexes: Store) -> None:
    start(indexes)
    promote_canary(indexes, flag_of(indexes), ME)
    told = [summarize_audit(entry) for entry in list_audit(indexes, limit=2)]
    assert [(each.summary, each.reach, each.touches) for each in told if each] == [
        ("canary index:default rolled out from 20% to 50%", 0.3, (("index_version", "v2"),)),
        ("canary index:default created at 20% with v2", 0.2, (("index_version", "v2"),)),
    ]


def _newest_swap(store: Store) -> int:
    with store.read() as connection:
        return newest_swap_id(connection)


def test_the_command_starts_it_and_takes_it_to_its_end(url: str, indexes: Store) -> None:
    def run_command(*arguments: str) -> str:
        return str(CliRunner().invoke(main, [*arguments, "--database", url]).output)

    reason = ("--reason", "covers VPP")
    assert "of 2,000 made-up users (none is known yet) would search v2 instead of v1" in run_command(
        "index", "canary", "v2", "--preview"
    )
    assert list_flags(indexes, ENVIRONMENT) == ()
    said = run_command("index", "canary", "v2", "--steps", "20% for 1h, 100%", "--service", "a", "--unprobed", *reason)
    assert said.startswith("20% of users search v2 (audit entry")
    plan = flag_of(indexes).view.plan
    assert plan
    assert (plan.services, plan.automation, len(plan.steps)) == (("a",), Automation.ROLLBACK, 2)
    assert "green is v2, blue is v1, by the index_version of each row" in run_command("canary", "status", KEY)
    said = run_command("canary", "promote", KEY, "--anyway", *reason)
    assert said.startswith("default points to v2, was v1 (audit entry")
    assert "Paused: default points to v2" in run_command("canary", "list")


def test_it_waits_for_a_second_person_and_its_way_back_does_not(indexes: Store, deck: Quarterdeck) -> None:
    ada, bob = (Act(name, "because", roles=EDITOR, origin=Origin.PERSON) for name in ("ada", "bob"))
    root = Act("root", "because", roles=hold_everywhere(Role.ADMIN), origin=Origin.PERSON)
    set_policy(indexes, Policy(required=True), root, has_sign_in=True)
    with pytest.raises(ApprovalNeeded) as needed:
        start_index_canary(indexes, "default", "v2", ada, steps=STEPS, unprobed=True)
    assert set(ask(deck).values()) == {"v1"}
    approve_request(indexes, get_request(indexes, needed.value.request_id), bob)
    apply_request(indexes, get_request(indexes, needed.value.request_id), now=datetime.now(UTC))
    assert set(ask(deck).values()) == {"v1", "v2"}
    roll_back_canary(indexes, flag_of(indexes), ada)
    assert set(ask(deck).values()) == {"v1"}


def test_what_was_approved_is_void_where_the_alias_was_moved_since(indexes: Store, deck: Quarterdeck) -> None:
    ada, bob = (Act(name, "because", roles=EDITOR, origin=Origin.PERSON) for name in ("ada", "bob"))
    root = Act("root", "because", roles=hold_everywhere(Role.ADMIN), origin=Origin.PERSON)
    set_policy(indexes, Policy(required=True), root, has_sign_in=True)
    with pytest.raises(ApprovalNeeded) as needed:
        start_index_canary(indexes, "default", "v2", ada, steps=STEPS, unprobed=True)
    number = needed.value.request_id
    approve_request(indexes, get_request(indexes, number), bob)
    swap_index(indexes, "default", "v3", replace(ME, origin=Origin.SERVER), expected="v1")
    with pytest.raises(Conflict, match=f"request {number} is void: alias 'default' was moved meanwhile"):
        apply_request(indexes, get_request(indexes, number), now=datetime.now(UTC))
    assert list_flags(indexes, ENVIRONMENT) == ()
    assert set(ask(deck).values()) == {"v3"}


@pytest.mark.parametrize("is_first", [True, False])
def test_nobody_in_the_holdout_searches_the_candidate(indexes: Store, deck: Quarterdeck, *, is_first: bool) -> None:
    held = Holdout("2026q4", 20)
    if is_first:
        start_holdout(indexes, held, ME)
    start(indexes, steps="50% for 1h, 80% for 1h, 100%", hours_ago=0)
    if not is_first:
        start_holdout(indexes, held, ME)
    assert find_holdout(flag_of(indexes).view) == "2026q4"
    assert 0.32 < sum(index == "v2" for index in ask(deck).values()) / len(USERS) < 0.48
    assert not read(indexes).verdict.reason.startswith("Paused")
    promote_canary(indexes, flag_of(indexes), ME)
    assert 0.56 < sum(index == "v2" for index in ask(deck).values()) / len(USERS) < 0.72
    roll_back_canary(indexes, flag_of(indexes), ME)
    assert set(ask(deck).values()) == {"v1"}


def test_a_viewer_may_not_start_it_and_who_holds_one_environment_may_not_let_it_live(indexes: Store) -> None:
    viewer = replace(ME, roles=hold_everywhere(Role.VIEWER))
    with pytest.raises(Forbidden):
        start_index_canary(indexes, "default", "v2", viewer, unprobed=True)
    local = replace(ME, roles=Roles((("production", Role.EDITOR),)))
    start_index_canary(indexes, "default", "v2", local, steps="20% for 1h, 100%", unprobed=True)
    with pytest.raises(Forbidden):
        promote_canary(indexes, flag_of(indexes), local)
    assert list_aliases(indexes)[0].index_name == "v1"
