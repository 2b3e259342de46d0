"""A change commits with what an act wants stored with it, or not at all."""

from typing import NoReturn

import pytest

from core.audit.acts import Act, Change
from core.audit.trail import count_audit
from core.errors import Conflict
from core.flags.operations import create_flag
from core.flags.store import list_flags
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store


def test_what_an_act_wants_stored_too_is_called_with_the_entry_before_the_commit(store: Store) -> None:
    seen: list[int] = []
    act = Act("ada", "because", also=lambda change: seen.append(change.entry_id))
    assert create_flag(store, "use_hyde", boolean_flag(on=True), act) == seen[0]


def test_a_change_is_undone_if_that_fails(store: Store) -> None:
    def refuse(_change: Change) -> NoReturn:
        raise Conflict("another request was faster")

    with pytest.raises(Conflict, match="faster"):
        create_flag(store, "use_hyde", boolean_flag(on=True), Act("ada", "because", also=refuse))
    assert (list_flags(store, "production"), count_audit(store)) == ((), 0)
