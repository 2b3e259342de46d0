"""Whether an attack is seen: what is refused is a line of the log under `quarterdeck.security`."""

import logging

import pytest

from core.audit.acts import Act
from core.audit.permissions import Role, Roles
from core.errors import Forbidden
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store


@pytest.mark.sqlite_only("it is about the log")
@pytest.mark.parametrize("roles", [Roles(), Roles((("production", Role.VIEWER),))], ids=["none", "viewer"])
def test_a_refused_act_is_a_security_event(store: Store, roles: Roles, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(Forbidden):
        create_flag(store, "f", boolean_flag(on=True), Act("eve\nforged line", "because", roles=roles))
    (told,) = [record for record in caplog.records if record.name == "quarterdeck.security"]
    assert told.getMessage().startswith("an act of 'eve\\nforged line' was refused: a change requires the role editor")
