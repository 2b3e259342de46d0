"""The actions of the audit trail: known ones as members; those of another release are shown as they are."""

import json

import pytest

from core.audit.actions import Action, Subject, read_action, subject_of, verb_of
from core.audit.acts import Act
from core.audit.files import write_csv, write_json
from core.audit.trail import AuditFilter, get_audit_entry, list_audit, list_broken_audit_entries, record_audit
from core.causes.timeline import summarize_audit
from core.errors import InvalidInput
from core.reverts import explain_irreversible, revert

ME = Act("ada", "because")


@pytest.mark.parametrize("action", Action)
def test_every_action_has_a_known_subject_and_a_verb(action):
    assert f"{subject_of(action)}.{verb_of(action)}" == action
    assert read_action(str(action)) is action


def test_an_action_of_another_release_stays_the_text_that_it_is():
    assert read_action("index.freeze") == "index.freeze"
    assert subject_of("index.freeze") is Subject.INDEX
    assert subject_of("galaxy.explode") is None


@pytest.mark.parametrize(
    "action", ["index.freeze", "galaxy.explode", "flag.rename", "prompt.copy", "experiment.clone", "nothing", ""]
)
def test_an_entry_of_an_unknown_action_is_shown_and_not_brought_back(store, action):
    with store.begin() as connection:
        entry_id = record_audit(
            connection, ts_ms=0, environment="production", actor="ada", action=action, target="docs-v1",
            reason="by another release", before=None, after={"what": 1},
        )  # fmt: skip
    (entry,) = list_audit(store, AuditFilter(action=action))
    assert (entry, entry.action) == (get_audit_entry(store, entry_id), action)
    assert list_broken_audit_entries(store) == ()
    assert json.loads(write_json([entry]))[0]["action"] == action
    assert f",{action},docs-v1," in write_csv([entry])
    told = summarize_audit(entry)
    assert told is None or told.target == "docs-v1"
    assert explain_irreversible(entry) != ""
    with pytest.raises(InvalidInput):
        revert(store, entry_id, ME)
