"""The names under which an experiment keeps its figures: saved with an audit entry, read back by all."""

import pytest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.causes.timeline import summarize_audit
from core.errors import InvalidInput
from core.prompts.naming import list_naming, read_naming, save_names
from core.tracking.conventions import RunNames
from quarterdeck.store import Store

BY = Act("ada", "our own names")
NAMES = RunNames(prompt="tpl", faithfulness="grounded")


def test_names_are_kept_for_one_experiment_with_an_audit_entry(store: Store) -> None:
    entry_id = save_names(store, "trials", NAMES, BY)
    assert list_naming(store) == {"trials": NAMES}
    (entry,) = list_audit(store)
    assert (entry.entry_id, entry.action, entry.target) == (entry_id, "prompt.map", "trials")
    assert RunNames.read(entry.before) == RunNames()
    assert RunNames.read(entry.after) == NAMES
    assert summarize_audit(entry) is None  # nothing changed for users


def test_the_usual_names_are_kept_as_none(store: Store) -> None:
    save_names(store, "trials", NAMES, BY)
    save_names(store, "trials", RunNames(), BY)
    assert list_naming(store) == {}


def test_nothing_to_change_and_no_experiment_are_refused(store: Store) -> None:
    save_names(store, "trials", NAMES, BY)
    with pytest.raises(InvalidInput, match="as they were"):
        save_names(store, "trials", NAMES, BY)
    with pytest.raises(InvalidInput, match="choose an MLflow experiment"):
        save_names(store, " ", NAMES, BY)
    assert len(list_audit(store)) == 1


def test_without_a_store_the_usual_names_hold() -> None:
    assert read_naming("sqlite:////nowhere/deck.db") == {}
