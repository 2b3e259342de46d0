import json
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import text

from core.audit.acts import Act
from core.audit.settings import Family, get_setting, setting_key
from core.audit.trail import list_audit, list_broken_audit_entries
from core.drift.operations import accept_level
from core.errors import Conflict, InvalidInput, NotFound
from core.flags.operations import change_rollout, create_flag, import_flags, switch_flag, update_flag
from core.flags.store import get_flag, list_flags
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index, list_aliases
from core.log.operations import purge_retrievals
from core.log.retrievals import get_span
from core.reverts import revert
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval

ME = Act("ada", "because")


@pytest.fixture
def flag(store):
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=20), ME)
    return get_flag(store, "production", "use_hyde")


def test_a_new_flag_and_its_audit_entry_land_together(store, flag):
    (entry,) = list_audit(store)
    assert (entry.actor, entry.action, entry.target, entry.reason) == ("ada", "flag.create", "use_hyde", "because")
    assert (entry.before, entry.after) == (None, flag.definition)
    assert flag.version == 1


def test_a_rollout_change_is_audited_with_before_and_after(store, flag):
    change_rollout(store, flag, 50, ME)
    entry = list_audit(store)[0]
    assert (rollout_pct(entry.before), rollout_pct(entry.after)) == (20, 50)
    assert rollout_pct(get_flag(store, "production", "use_hyde").definition) == 50


@pytest.mark.parametrize("pct", [-0.1, 100.1, float("nan"), float("inf")])
def test_a_percentage_outside_0_to_100_changes_nothing(store, flag, pct):
    with pytest.raises(InvalidInput, match="rollout_pct"):
        change_rollout(store, flag, pct, ME)
    assert get_flag(store, "production", "use_hyde") == flag
    assert len(list_audit(store)) == 1


def test_the_second_of_two_editors_gets_a_conflict_and_overwrites_nothing(store, flag):
    switch_flag(store, flag, ME, on=False)
    with pytest.raises(Conflict, match="'use_hyde' is at version 2, you changed version 1"):
        change_rollout(store, flag, 80, Act("bob", "more of it"))
    assert get_flag(store, "production", "use_hyde").definition["state"] == "DISABLED"
    assert len(list_audit(store)) == 2


def test_a_change_without_actor_or_reason_is_refused():
    with pytest.raises(InvalidInput, match="^reason: is empty; say why"):
        Act("ada", "  ")
    with pytest.raises(InvalidInput, match="^actor: is empty"):
        Act("", "because")


def test_environments_keep_their_own_flags(store, flag):
    assert list_flags(store, "staging") == ()
    create_flag(store, "use_hyde", boolean_flag(on=False), replace(ME, environment="staging"))
    assert get_flag(store, "production", "use_hyde") == flag


def test_an_unknown_flag_is_named_with_those_that_exist(store, flag):
    with pytest.raises(NotFound, match="no flag 'use_hdye' in production; there are: use_hyde"):
        get_flag(store, "production", "use_hdye")


def test_an_import_is_all_or_nothing(store, flag):
    document = {"flags": {"a": boolean_flag(on=True), "b": {"state": "MAYBE"}}}
    with pytest.raises(InvalidInput):
        import_flags(store, document, ME)
    assert [each.key for each in list_flags(store, "production")] == ["use_hyde"]
    good = {"flags": {"a": boolean_flag(on=True), "use_hyde": flag.definition}}
    assert import_flags(store, good, ME) == ("a",)


def test_reverting_brings_back_the_former_state_with_an_entry_of_its_own(store, flag):
    entry = change_rollout(store, flag, 90, ME)
    revert(store, entry, Act("bob", "too fast"))
    assert get_flag(store, "production", "use_hyde").definition == flag.definition
    assert list_audit(store)[0].reason == "too fast"
    first = list_audit(store)[-1]
    revert(store, first.entry_id, ME)
    assert list_flags(store, "production") == ()
    revert(store, list_audit(store)[0].entry_id, ME)
    assert get_flag(store, "production", "use_hyde").definition == flag.definition


def test_an_index_swap_names_the_index_it_replaces(store):
    built = datetime(2026, 3, 1, tzinfo=UTC)
    for name in ("docs-v1", "docs-v2"):
        register_index(store, Index(name, "folder", name[-2:], "model", 10, built, "ada"), ME)
    swap_index(store, "default", "docs-v1", ME, expected=None)
    entry = swap_index(store, "default", "docs-v2", ME, expected="docs-v1")
    with pytest.raises(Conflict, match="stands for docs-v2, not for docs-v1"):
        swap_index(store, "default", "docs-v1", ME, expected="docs-v1")
    with pytest.raises(NotFound, match="'docs-v3'"):
        swap_index(store, "default", "docs-v3", ME, expected="docs-v2")
    revert(store, entry, ME)
    assert [alias.index_name for alias in list_aliases(store)] == ["docs-v1"]


def test_an_accepted_level_is_stored_and_audited(store):
    accept_level(store, date(2026, 3, 1), ME)
    assert get_setting(store, setting_key(Family.ACCEPTED_LEVEL, "production")) == ({"accepted_on": "2026-03-01"}, 1)
    assert list_audit(store)[0].action == "drift.accept"


def test_the_chain_of_entries_is_whole_until_a_row_is_changed_or_removed(store, flag):
    for pct in (30, 40, 50):
        change_rollout(store, get_flag(store, "production", "use_hyde"), pct, ME)
    assert list_broken_audit_entries(store) == ()
    with store.begin() as connection:
        connection.execute(text("UPDATE audit SET reason = 'nothing to see' WHERE id = 2"))
    assert list_broken_audit_entries(store) == (2,)
    with store.begin() as connection:
        connection.execute(text("DELETE FROM audit WHERE id = 2"))
    assert list_broken_audit_entries(store) == (3,)


def test_a_failure_between_change_and_entry_leaves_neither(store, flag, monkeypatch):
    monkeypatch.setattr("core.audit.acts.record_audit", lambda *_a, **_k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        update_flag(store, flag, boolean_flag(on=False), ME)
    assert get_flag(store, "production", "use_hyde") == flag
    assert json.dumps(flag.definition)


def test_a_purge_says_in_the_audit_trail_what_it_deleted_and_why(store):
    old, new = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    append_retrievals(store, [Retrieval(old, "q", 0.5), Retrieval(old, "q", None), Retrieval(new, "q", 0.5)])
    assert purge_retrievals(store, datetime(2026, 2, 1, tzinfo=UTC), Act("ada", "retention of 30 days")) == 2
    (entry,) = list_audit(store)
    assert (entry.action, entry.reason, entry.before) == ("log.purge", "retention of 30 days", {"rows": 2})
    assert entry.after == {"older_than": "2026-02-01T00:00:00+00:00"}
    assert purge_retrievals(store, datetime(2026, 2, 1, tzinfo=UTC), Act("ada", "again")) == 0
    assert len(list_audit(store)) == 1
    assert get_span(store) == (new, new)
