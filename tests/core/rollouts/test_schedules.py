"""Changes of flags that are previewed or scheduled: previews, typed names, schedules and who runs them."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit, list_broken_audit_entries
from core.errors import Conflict, InvalidInput, NotFound
from core.flags import definition
from core.flags.canary_plan import read_plan
from core.flags.operations import (
    change_rollout,
    create_flag,
    import_flags,
    remove_flag,
    save_edit,
    switch_flag,
    update_flag,
)
from core.flags.preview import find_recent_users, preview_change
from core.flags.schedule import (
    ScheduleState,
    ScheduleStep,
    parse_duration,
    parse_shares,
    plan_steps,
    say_next,
    say_steps,
)
from core.flags.store import get_flag
from core.flags.timetable import get_schedule, list_schedules
from core.log.retrievals import list_recent_users
from core.rollouts.schedules import cancel_schedule, create_schedule, pause_schedule, resume_schedule, run_schedules
from quarterdeck.definitions import boolean_flag, canary_flag, rollout_pct, set_rollout, split_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store
from tests.backends import BACKENDS, make_url

ME = Act("ada", "no complaints")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOLD_S = 3_600.0


@pytest.fixture
def flag(store):
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=0), ME)
    return get_flag(store, "production", "use_hyde")


def stored_pct(store):
    return rollout_pct(get_flag(store, "production", "use_hyde").definition)


def step_up(store, flag, *shares):
    steps = plan_steps(shares or (5, 25, 50, 100), hold_s=HOLD_S, switch_on=False)
    create_schedule(store, flag, steps, ME, starts=NOW, now=NOW)
    return newest(store)


def newest(store):
    return list_schedules(store)[0]


@pytest.mark.deep
@pytest.mark.parametrize("backend", BACKENDS)
def test_recent_users_are_the_session_ids_of_the_newest_rows_each_once(backend, open_new_log):
    log = open_new_log(backend)
    rows = [
        Retrieval(NOW + at * HOUR, "q", 0.5, session_id=name) for at, name in enumerate(["old", "b", None, "b", "a"])
    ]
    append_retrievals(log, rows)
    since_ms = int((NOW + HOUR).timestamp() * 1_000)
    assert list_recent_users(log, since_ms=since_ms) == ("a", "b")
    assert list_recent_users(log, since_ms=since_ms, limit=1) == ("a",)


def test_a_preview_asks_the_users_of_the_last_week_and_says_where_they_are_from(store, flag):
    wanted = boolean_flag(on=True, rollout_pct=30)
    impact, users = preview_change(store, "production", "use_hyde", flag.definition, wanted, now=NOW)
    assert (impact.are_made_up, users.source) == (True, "")
    rows = [Retrieval(NOW - HOUR, "q", 0.5, session_id=f"s-{number}") for number in range(500)]
    append_retrievals(store, [*rows, *rows, Retrieval(NOW - 200 * HOUR, "q", 0.5, session_id="long ago")])
    impact, users = preview_change(store, "production", "use_hyde", flag.definition, wanted, now=NOW)
    assert (impact.asked, impact.are_made_up, users.source) == (500, False, "users of the last 7 days")
    assert impact.share == pytest.approx(0.3, abs=0.09)
    assert "long ago" not in find_recent_users(store, "production", "use_hyde", now=NOW).ids


def test_a_wide_change_in_production_takes_the_flags_name_and_in_staging_none(store, flag):
    wide, narrow = boolean_flag(on=True), boolean_flag(on=True, rollout_pct=10)
    with pytest.raises(InvalidInput, match="^name: 100% of users get another answer; type use_hyde to continue"):
        save_edit(store, flag, wide, ME, typed_name="use_hide", now=NOW)
    assert get_flag(store, "production", "use_hyde") == flag
    save_edit(store, flag, narrow, ME, typed_name="", now=NOW)
    save_edit(store, get_flag(store, "production", "use_hyde"), wide, ME, typed_name="use_hyde", now=NOW)
    there = Act("ada", "try it", "staging")
    create_flag(store, "use_hyde", narrow, there)
    save_edit(store, get_flag(store, "staging", "use_hyde"), wide, there, typed_name="", now=NOW)


def test_a_flag_is_deleted_by_its_typed_name_and_comes_back_by_a_revert(store, flag):
    from core.reverts import revert

    with pytest.raises(InvalidInput, match="^name: type use_hyde to delete it"):
        remove_flag(store, flag, ME, typed_name="")
    entry = remove_flag(store, flag, ME, typed_name="use_hyde")
    with pytest.raises(NotFound):
        get_flag(store, "production", "use_hyde")
    revert(store, entry, ME)
    assert get_flag(store, "production", "use_hyde").definition == flag.definition


def test_a_flag_that_somebody_changed_is_not_deleted(store, flag):
    change_rollout(store, flag, 10, Act("bob", "more"))
    with pytest.raises(Conflict):
        remove_flag(store, flag, ME, typed_name="use_hyde")


def test_a_stepped_rollout_makes_each_step_once_its_time_has_come(store, flag):
    made = step_up(store, flag)
    seen = []
    for quarter in range(17):
        run_schedules(store, now=NOW + quarter * HOUR / 4)
        seen.append(stored_pct(store))
    assert seen == [5] * 4 + [25] * 4 + [50] * 4 + [100] * 5
    assert get_schedule(store, made.schedule_id).state is ScheduleState.DONE
    entries = [e for e in list_audit(store) if e.actor == "scheduler for ada"]
    assert [e.action for e in entries] == ["flag.update"] * 4
    assert entries[0].reason == "step 4 of 4 of schedule 1: no complaints"
    assert list_broken_audit_entries(store) == ()


def test_a_change_for_later_happens_at_its_time(store, flag):
    create_schedule(store, flag, [ScheduleStep(on=False)], ME, starts=NOW + HOUR, now=NOW)
    run_schedules(store, now=NOW + HOUR - timedelta(seconds=1))
    assert get_flag(store, "production", "use_hyde").definition["state"] == "ENABLED"
    assert run_schedules(store, now=NOW + HOUR) == ("use_hyde: off, step 1 of 1",)
    assert get_flag(store, "production", "use_hyde").definition["state"] == "DISABLED"


def test_a_canarys_plan_is_read_once_on_a_save(store, monkeypatch):
    planned = canary_flag(5, metadata={"canary_steps": "5% for 24h, 100%"})
    create_flag(store, "answers", planned, ME)
    flag = get_flag(store, "production", "answers")
    create_schedule(store, flag, [ScheduleStep(on=False)], ME, starts=NOW + HOUR, now=NOW)
    read = []
    monkeypatch.setattr(definition, "read_plan", lambda *given, **named: read.append(1) or read_plan(*given, **named))
    update_flag(store, flag, set_rollout(planned, 10), ME)
    import_flags(store, {"flags": {"answers": set_rollout(planned, 20)}}, ME)
    assert len(read) == 2


def test_steps_never_bunch_when_the_clock_jumps_or_the_server_was_away(store, flag):
    step_up(store, flag)
    for _ in range(5):
        run_schedules(store, now=NOW + 100 * HOUR)
    assert stored_pct(store) == 5
    assert newest(store).due == NOW + 101 * HOUR


def test_a_clock_that_jumps_back_makes_a_step_late_and_never_again(store, flag):
    step_up(store, flag)
    run_schedules(store, now=NOW)
    run_schedules(store, now=NOW - 24 * HOUR)
    assert stored_pct(store) == 5
    run_schedules(store, now=NOW + HOUR)
    assert stored_pct(store) == 25


def test_a_paused_rollout_keeps_what_was_left_of_its_wait(store, flag):
    step_up(store, flag)
    run_schedules(store, now=NOW)
    pause_schedule(store, newest(store), ME, now=NOW + HOUR / 4)
    run_schedules(store, now=NOW + 50 * HOUR)
    assert stored_pct(store) == 5
    resume_schedule(store, newest(store), ME, now=NOW + 60 * HOUR)
    assert newest(store).due == NOW + 60 * HOUR + 3 * HOUR / 4


def test_a_cancelled_rollout_leaves_the_flag_where_it_is_and_makes_room_for_another(store, flag):
    step_up(store, flag)
    run_schedules(store, now=NOW)
    with pytest.raises(Conflict, match="has the open schedule 1; cancel it first"):
        step_up(store, get_flag(store, "production", "use_hyde"))
    cancel_schedule(store, newest(store), ME)
    run_schedules(store, now=NOW + 50 * HOUR)
    assert stored_pct(store) == 5
    assert step_up(store, get_flag(store, "production", "use_hyde")).schedule_id == 2
    with pytest.raises(Conflict, match="already cancelled"):
        cancel_schedule(store, get_schedule(store, 1), ME)


def test_a_kill_switch_stops_the_rollout_and_no_step_turns_the_flag_on_again(store, flag):
    step_up(store, flag)
    run_schedules(store, now=NOW)
    switch_flag(store, get_flag(store, "production", "use_hyde"), Act("bob", "errors"), on=False)
    assert run_schedules(store, now=NOW + HOUR) == ("use_hyde: paused, bob changed the flag",)
    assert run_schedules(store, now=NOW + 9 * HOUR) == ()
    found = get_flag(store, "production", "use_hyde").definition
    assert (found["state"], rollout_pct(found)) == ("DISABLED", 5)
    pausing = list_audit(store, AuditFilter(action="schedule.pause"))[0]
    assert (pausing.actor, pausing.reason) == ("scheduler", "bob changed the flag")
    resume_schedule(store, newest(store), ME, now=NOW + 9 * HOUR)
    run_schedules(store, now=NOW + 20 * HOUR)
    assert get_flag(store, "production", "use_hyde").definition["state"] == "DISABLED"


def test_a_changed_description_stops_no_rollout(store, flag):
    step_up(store, flag)
    described = boolean_flag(on=True, rollout_pct=0, description="what for")
    save_edit(store, flag, described, Act("bob", "say it"), typed_name="", now=NOW)
    run_schedules(store, now=NOW)
    assert stored_pct(store) == 5
    assert get_flag(store, "production", "use_hyde").definition["metadata"]["description"] == "what for"


def test_a_deleted_flag_stops_its_rollout_and_no_other(store, flag):
    step_up(store, flag)
    create_flag(store, "other", boolean_flag(on=True, rollout_pct=0), ME)
    other = get_flag(store, "production", "other")
    create_schedule(store, other, [ScheduleStep(rollout_pct=10)], ME, starts=NOW, now=NOW)
    remove_flag(store, flag, ME, typed_name="use_hyde")
    assert run_schedules(store, now=NOW) == ("use_hyde: paused, the flag is gone", "other: 10%, step 1 of 1")


def test_schedules_of_every_environment_are_run(store, flag):
    there = Act("ada", "try it", "staging")
    create_flag(store, "use_hyde", flag.definition, there)
    found = get_flag(store, "staging", "use_hyde")
    create_schedule(store, found, [ScheduleStep(rollout_pct=7)], there, starts=NOW, now=NOW)
    run_schedules(store, now=NOW)
    assert rollout_pct(get_flag(store, "staging", "use_hyde").definition) == 7
    assert stored_pct(store) == 0


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_two_that_run_the_same_step_at_once_make_it_once(backend, tmp_path):
    url = make_url(backend, tmp_path)
    store = Store(url, create=True)
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=0), ME)
    step_up(store, get_flag(store, "production", "use_hyde"))
    stores = [Store(url) for _ in range(4)]
    gate = threading.Barrier(len(stores))

    def run(each):
        gate.wait()
        run_schedules(each, now=NOW)

    threads = [threading.Thread(target=run, args=(each,)) for each in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([e for e in list_audit(store) if e.actor == "scheduler for ada"]) == 1
    assert stored_pct(store) == 5
    for each in (store, *stores):
        each.close()


@pytest.mark.parametrize(
    ("steps", "starts", "field"),
    [
        ([], NOW, "steps"),
        ([ScheduleStep(on=True)] * 51, NOW, "steps"),
        ([ScheduleStep(rollout_pct=0.0001)], NOW, "rollout_pct"),
        ([ScheduleStep(on=True)], NOW - HOUR, "starts"),
        ([ScheduleStep(on=True)], NOW + timedelta(days=400), "starts"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused_with_the_fields_name(store, flag, steps, starts, field):
    with pytest.raises(InvalidInput, match=f"^{field}: "):
        create_schedule(store, flag, steps, ME, starts=starts, now=NOW)
    assert list_schedules(store) == ()


@pytest.mark.parametrize(
    ("values", "field"),
    [({}, "step"), ({"rollout_pct": 101}, "rollout_pct"), ({"rollout_pct": float("nan")}, "rollout_pct"),
     ({"on": True, "hold_s": -1}, "hold"), ({"on": True, "hold_s": float("nan")}, "hold")],
)  # fmt: skip
def test_a_step_that_cannot_be_is_refused(values, field):
    with pytest.raises(InvalidInput, match=f"^{field}: "):
        ScheduleStep(**values)


def test_a_flag_without_a_rollout_takes_no_percentage(store):
    create_flag(store, "kind", {"state": "ENABLED", "variants": {"a": "x", "b": "y"}, "defaultVariant": "a"}, ME)
    flag = get_flag(store, "production", "kind")
    with pytest.raises(InvalidInput, match="^targeting: this is not a plain rollout"):
        create_schedule(store, flag, [ScheduleStep(rollout_pct=5)], ME, starts=NOW, now=NOW)


def test_a_wide_schedule_in_production_takes_the_flags_name(store, flag):
    steps = plan_steps((5, 100), hold_s=60, switch_on=False)
    with pytest.raises(InvalidInput, match="^name: "):
        create_schedule(store, flag, steps, ME, starts=NOW, now=NOW, typed_name="")
    create_schedule(store, flag, steps, ME, starts=NOW, now=NOW, typed_name="use_hyde")


def test_an_experiment_is_rolled_out_in_steps_too(store):
    create_flag(store, "test", split_flag({"a": 1, "b": 1}, 10), ME)
    flag = get_flag(store, "production", "test")
    create_schedule(store, flag, plan_steps((20, 40), hold_s=60, switch_on=False), ME, starts=NOW, now=NOW)
    run_schedules(store, now=NOW)
    assert rollout_pct(get_flag(store, "production", "test").definition) == 20


def test_a_schedule_says_what_was_done_and_what_is_next(store, flag):
    made = step_up(store, flag)
    assert (say_steps(made), say_next(made, now=NOW - HOUR)) == ("5% → 25% → 50% → 100%", "5% in 60 min")
    run_schedules(store, now=NOW)
    assert say_steps(newest(store)) == "✓ 5% → 25% → 50% → 100%"
    assert say_next(newest(store), now=NOW + HOUR / 2) == "25% in 30 min"
    pause_schedule(store, newest(store), ME, now=NOW, note="look first")
    assert say_next(newest(store), now=NOW) == "paused before 25%: look first"


def test_durations_and_percentages_are_read_as_people_write_them():
    assert [parse_duration(text) for text in ("30m", "24h", "2d", "1.5h", "90s")] == [1_800, 86_400, 172_800, 5_400, 90]
    assert parse_shares("5, 25%,50 ,100") == (5, 25, 50, 100)
    for text in ("", "30", "h", "-1h", "1e3h", "one day"):
        with pytest.raises(InvalidInput, match="^hold: "):
            parse_duration(text)
    with pytest.raises(InvalidInput, match="^steps: "):
        parse_shares("5, many")
