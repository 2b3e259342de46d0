"""Reverting from the audit trail, in the store, on the command line and on the page; and the trail as files."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from app.cli import main
from core.access.roles import grant_role
from core.alerts.book import read_book
from core.alerts.operations import delete_alert_rule, save_alert_rule
from core.alerts.rules import AlertKind, AlertRule, LimitSide
from core.arms.arms import Metric
from core.audit.acts import Act
from core.audit.files import write_csv, write_json
from core.audit.permissions import Grant, Role
from core.audit.settings import Family, get_setting, scope_key, setting_key
from core.audit.trail import AuditFilter, count_audit, list_audit, list_audit_values, list_broken_audit_entries
from core.drift.operations import accept_level
from core.errors import Conflict, InvalidInput, NotFound
from core.flags.operations import change_rollout, create_flag, switch_flag
from core.flags.store import get_flag
from core.reverts import explain_irreversible, find_newest, revert
from core.rollouts.experiment_design import plan_experiment
from core.rollouts.experiment_records import get_experiment
from core.rollouts.experiments import decide_for, start_experiment
from quarterdeck.clock import to_ms
from quarterdeck.definitions import boolean_flag, rollout_pct, split_flag
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.pages.opening import open_page, text_of, verdict

ME, KEY = Act("ada", "because"), "use_hyde"


@pytest.fixture
def moved(store: Store) -> Store:
    """A flag that went from 5% to 20%, 50% and 80%."""
    create_flag(store, KEY, boolean_flag(on=True, rollout_pct=5), ME)
    for share in (20, 50, 80):
        change_rollout(store, get_flag(store, "production", KEY), share, Act("bob", f"to {share}"))
    return store


def share(store: Store) -> float | None:
    return rollout_pct(get_flag(store, "production", KEY).definition)


@pytest.mark.parametrize(("entry_id", "expected"), [(2, 5.0), (3, 20.0), (4, 50.0)])
def test_every_earlier_state_can_be_brought_back(moved: Store, entry_id: int, expected: float) -> None:
    made = revert(moved, entry_id, Act("eve", "it was better"))
    assert share(moved) == expected
    entry = list_audit(moved, limit=1)[0]
    assert (entry.entry_id, entry.actor, entry.action, entry.reason) == (made, "eve", "flag.update", "it was better")
    assert list_broken_audit_entries(moved) == ()


def test_what_happens_in_another_environment_hides_nothing(moved: Store) -> None:
    staging = Act("ada", "tried", "staging")
    create_flag(moved, KEY, boolean_flag(on=False), staging)
    for on in (True, False):
        switch_flag(moved, get_flag(moved, "staging", KEY), staging, on=on)
    newest = list_audit(moved, AuditFilter(environment="production"), limit=1)[0]
    assert newest.reason == "to 80"
    assert find_newest(moved, newest) == newest.entry_id


def test_what_somebody_changed_after_it_was_looked_at_is_not_overwritten(moved: Store) -> None:
    entry = list_audit(moved, limit=1)[0]
    seen = find_newest(moved, entry)
    change_rollout(moved, get_flag(moved, "production", KEY), 90, Act("bob", "meanwhile"))
    with pytest.raises(Conflict, match="use_hyde was changed by entry 5 after you loaded it"):
        revert(moved, entry.entry_id, ME, seen=seen)
    assert share(moved) == 90
    revert(moved, entry.entry_id, ME, seen=find_newest(moved, entry))
    assert share(moved) == 50


def test_a_change_of_another_environments_flag_is_no_conflict(moved: Store) -> None:
    entry = list_audit(moved, limit=1)[0]
    create_flag(moved, KEY, boolean_flag(on=True), Act("bob", "there", "staging"))
    revert(moved, entry.entry_id, ME, seen=entry.entry_id)
    assert share(moved) == 50


def test_an_accepted_level_is_taken_back_to_the_one_before_and_to_none(store: Store) -> None:
    first = accept_level(store, date(2026, 3, 1), ME)
    second = accept_level(store, date(2026, 4, 1), ME)
    revert(store, second, ME)
    assert get_setting(store, setting_key(Family.ACCEPTED_LEVEL, "production"))[0] == {"accepted_on": "2026-03-01"}
    revert(store, first, ME)
    assert get_setting(store, setting_key(Family.ACCEPTED_LEVEL, "production"))[0] is None


def test_the_level_of_a_service_is_its_own_and_taken_back_alone(store: Store) -> None:
    answers = scope_key(Family.ACCEPTED_LEVEL, Scope("production", "answers"))
    accept_level(store, date(2026, 3, 1), ME)
    entry = accept_level(store, date(2026, 4, 1), ME, service="answers")
    assert get_setting(store, answers)[0] == {"accepted_on": "2026-04-01"}
    revert(store, entry, ME)
    assert get_setting(store, answers)[0] is None
    assert get_setting(store, setting_key(Family.ACCEPTED_LEVEL, "production"))[0] == {"accepted_on": "2026-03-01"}


def test_a_decided_experiment_is_undone_for_the_flag_and_stays_over(store: Store) -> None:
    before = split_flag({"control": 1, "long": 1})
    create_flag(store, KEY, before, ME)
    flag = get_flag(store, "production", KEY)
    design = plan_experiment(KEY, flag.view, name="a", metric=Metric.SCORE, effect=0.02)
    started = start_experiment(store, flag, design, ME)
    running = get_experiment(store, "production", "a")
    decided = decide_for(store, running, "long", ME, typed_name=None, now=datetime.now(UTC))
    with pytest.raises(InvalidInput, match="stop or start experiments on Rollouts"):
        revert(store, started, ME)
    revert(store, decided, ME)
    assert get_flag(store, "production", KEY).definition == before
    assert not get_experiment(store, "production", "a").is_running


def test_what_has_no_way_back_says_so_and_changes_nothing(store: Store) -> None:
    entry = grant_role(store, Grant("ada", Role.VIEWER), ME)
    with pytest.raises(InvalidInput, match="has no former state to restore"):
        revert(store, entry, ME)
    with pytest.raises(NotFound, match="there is no entry 99"):
        revert(store, 99, ME)
    assert explain_irreversible(list_audit(store)[0]) != ""
    assert count_audit(store) == 1


def test_the_filter_finds_counts_and_exports_the_same_entries(moved: Store) -> None:
    create_flag(moved, "other", boolean_flag(on=True), Act("bob", "there", "staging"))
    assert list_audit_values(moved, "actor") == ("ada", "bob")
    assert list_audit_values(moved, "environment") == ("production", "staging")
    for chosen, ids in (
        ({"actor": "bob"}, [5, 4, 3, 2]), ({"actor": "bob", "environment": "production"}, [4, 3, 2]),
        ({"target": "other"}, [5]), ({"action": "flag.create"}, [5, 1]),
        ({"since_ms": to_ms(datetime.now(UTC) + timedelta(days=1))}, []),
        ({"until_ms": to_ms(datetime.now(UTC) + timedelta(days=1))}, [5, 4, 3, 2, 1]),
    ):  # fmt: skip
        found = list_audit(moved, AuditFilter(**chosen), limit=None)
        assert [entry.entry_id for entry in found] == ids
        assert count_audit(moved, AuditFilter(**chosen)) == len(ids)


def test_the_files_hold_both_states_and_the_chain_of_hashes(moved: Store) -> None:
    entries = list_audit(moved, limit=None)
    rows = list(csv.DictReader(io.StringIO(write_csv(entries))))
    told = json.loads(write_json(entries))
    assert len(rows) == len(told) == 4
    for row, each, entry in zip(rows, told, entries, strict=True):
        assert each["before"] == entry.before
        assert (json.loads(row["before"]) if row["before"] else None) == entry.before
        assert row["previous_hash"] == each["previous_hash"] == entry.previous_hash
        assert datetime.fromisoformat(each["ts"]) == entry.ts
    assert write_json(()) == "[]"


def run(url: str, *arguments: str) -> str:
    done = CliRunner().invoke(main, ["audit", *arguments, "--database", url], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_line_shows_exports_and_reverts(moved: Store, url: str, tmp_path: Path) -> None:
    shown = run(url, "show", "3")
    assert "flag.update of use_hyde in production" in shown
    assert any("50000" in line for line in shown.splitlines() if line.startswith("+"))
    assert len(run(url, "list", "--who", "bob", "--what", "flag.update").splitlines()) == 3
    assert run(url, "export", str(tmp_path / "a.csv"), "--who", "bob").startswith("3 entries are in ")
    assert len(list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))) == 3
    run(url, "export", str(tmp_path / "a.json"), "--since", "2000-01-01")
    assert len(json.loads((tmp_path / "a.json").read_text())) == 4
    assert "the state before entry 3 is restored (audit entry 5)" in run(url, "revert", "3", "--reason", "a mistake")
    assert share(moved) == 20


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.usefixtures("clean_streamlit")
def test_the_page_shows_what_differs_and_what_the_way_back_would_change(empty_url: str, moved: Store) -> None:
    app = open_page("audit", entry="3")
    diff, way_back = (block.value for block in app.code[:2])
    assert "-" in diff
    assert "50000" in diff
    assert "80000" in way_back
    assert "20000" in way_back
    app.text_input[0].input("it was better")
    app = next(button for button in app.button if button.label == "Revert").click().run()
    assert not app.exception
    assert [s.value for s in app.success] == ["Recorded as audit entry 5."]
    assert share(moved) == 20


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.usefixtures("clean_streamlit")
def test_the_page_overwrites_nothing_that_came_in_between(empty_url: str, moved: Store) -> None:
    app = open_page("audit", entry="3")
    change_rollout(moved, get_flag(moved, "production", KEY), 90, Act("bob", "meanwhile"))
    app.text_input[0].input("it was better")
    app = next(button for button in app.button if button.label == "Revert").click().run()
    assert "use_hyde was changed by entry 5 after you loaded it" in text_of(app.error[0].value)
    assert share(moved) == 90


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.usefixtures("clean_streamlit")
def test_the_page_filters_in_the_store_and_hands_out_all_that_fits(empty_url: str, moved: Store) -> None:
    with moved.begin() as connection:
        connection.execute(text(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) INSERT INTO audit (ts_ms, "
            "environment, actor, action, target, reason, before, after, previous_hash, hash) SELECT 1, 'production', "
            "'old', 'topic.mark', 'many', 'r', NULL, NULL, 'x' || i, 'y' FROM n"
        ))  # fmt: skip
    app = open_page("audit", on="many")
    assert "The newest 1,000 of 1,200 matching entries; the files have all of them." in [c.value for c in app.caption]
    labels = [button.proto.label for button in app.get("download_button")]
    assert labels == ["All 1,200 as CSV", "All 1,200 as JSON"]
    old = open_page("audit", who="bob")
    assert list(old.dataframe[0].value["entry"]) == [4, 3, 2]
    captions = open_page("audit", who="ada", what="flag.update").main.caption
    assert captions[-1].value == "No change matches the filter."


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.usefixtures("clean_streamlit")
def test_an_entry_without_a_way_back_has_no_form(empty_url: str, store: Store) -> None:
    grant_role(store, Grant("ada", Role.VIEWER), ME)
    app = open_page("audit")
    assert verdict(app)
    assert "Revert" not in [button.label for button in app.button]
    assert "has no former state to restore" in text_of(" ".join(c.value for c in app.caption))


def test_an_alert_rule_comes_back_as_it_was_or_goes_again(store: Store) -> None:
    rule = AlertRule("failures", "failed_share", AlertKind.THRESHOLD, side=LimitSide.ABOVE, alert=0.1)
    made = save_alert_rule(store, rule, ME)
    changed = save_alert_rule(store, replace(rule, alert=0.2), ME)
    revert(store, changed, ME)
    assert read_book(store, "production").rules == (rule,)
    removed = delete_alert_rule(store, "failures", ME)
    revert(store, removed, ME)
    assert read_book(store, "production").rules == (rule,)
    with pytest.raises(Conflict, match="changed by entry"):
        revert(store, made, ME, seen=made)
    revert(store, made, ME)
    assert read_book(store, "production").rules == ()


def test_switching_off_is_undone_like_any_other_change(store: Store) -> None:
    create_flag(store, KEY, boolean_flag(on=True), ME)
    entry = switch_flag(store, get_flag(store, "production", KEY), ME, on=False)
    revert(store, entry, ME)
    assert get_flag(store, "production", KEY).definition["state"] == "ENABLED"
