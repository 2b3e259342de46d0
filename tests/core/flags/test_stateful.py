"""Changes in any order, by people with and without a role: the store agrees with a model, and so does its trail."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from core.access.roles import grant_role, list_grants, revoke_role
from core.audit.acts import Act
from core.audit.permissions import Grant, Role, Roles
from core.audit.trail import count_audit, get_head, list_audit, list_broken_audit_entries, list_denied_heads
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from core.flags.operations import change_rollout, create_flag, remove_flag, switch_flag
from core.flags.store import Flag, get_flag, list_flags
from core.reverts import revert
from quarterdeck.clock import from_ms
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.deep]

ME = Act("ada", "because")
NOBODY = Act("eve", "because", roles=Roles((("production", Role.VIEWER),)))
KEYS = st.sampled_from(["a", "b", "c"])
NAMES = st.sampled_from(["ada", "eve"])


class Changes(RuleBasedStateMachine):
    """A store next to a model of it: definitions by key, roles by name, and how many changes there were."""

    read = Bundle("flags as somebody read them earlier")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(f"sqlite:///{Path(self.folder.name) / 'deck.db'}", create=True)
        with self.store.begin():
            pass
        self.flags: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, int] = {}
        self.roles: dict[str, Role] = {}
        self.changes = 0
        self.heads = [get_head(self.store, now=from_ms(0))]

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def note(self, key: str) -> None:
        """Take over what the store made of a flag: only what was meant may have changed."""
        flag = get_flag(self.store, "production", key)
        self.flags[key], self.versions[key] = dict(flag.definition), flag.version
        self.changes += 1

    @rule(key=KEYS, on=st.booleans())
    def create(self, key: str, on: bool) -> None:
        if key in self.flags:
            with pytest.raises(Conflict):
                create_flag(self.store, key, boolean_flag(on=on), ME)
        else:
            create_flag(self.store, key, boolean_flag(on=on), ME)
            self.note(key)

    @rule(target=read, key=KEYS)
    def look(self, key: str) -> Any:
        return get_flag(self.store, "production", key) if key in self.flags else multiple()

    @rule(flag=read, on=st.booleans())
    def switch(self, flag: Flag, on: bool) -> None:
        if flag.version != self.versions.get(flag.key):
            with pytest.raises(Conflict):
                switch_flag(self.store, flag, ME, on=on)
        else:
            switch_flag(self.store, flag, ME, on=on)
            self.note(flag.key)
            assert self.flags[flag.key]["state"] == ("ENABLED" if on else "DISABLED")

    @rule(flag=read, share=st.integers(0, 100))
    def roll_out(self, flag: Flag, share: int) -> None:
        if flag.version != self.versions.get(flag.key):
            with pytest.raises((Conflict, InvalidInput)):
                change_rollout(self.store, flag, share, ME)
        else:
            change_rollout(self.store, flag, share, ME)
            self.note(flag.key)

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        if key in self.flags:
            remove_flag(self.store, get_flag(self.store, "production", key), ME, typed_name=key)
            del self.flags[key], self.versions[key]
            self.changes += 1

    @rule(flag=read)
    def intrude(self, flag: Flag) -> None:
        with pytest.raises(Forbidden):
            switch_flag(self.store, flag, NOBODY, on=True)

    @rule(who=NAMES, role=st.sampled_from(Role))
    def grant(self, who: str, role: Role) -> None:
        grant_role(self.store, Grant(who, role), ME)
        self.roles[who] = role
        self.changes += 1

    @rule(who=NAMES)
    def revoke(self, who: str) -> None:
        if who in self.roles:
            revoke_role(self.store, who, "*", ME)
            del self.roles[who]
            self.changes += 1
        else:
            with pytest.raises(NotFound):
                revoke_role(self.store, who, "*", ME)

    @rule(data=st.data())
    def bring_back(self, data: st.DataObject) -> None:
        entries = [entry for entry in list_audit(self.store) if entry.action in ("flag.update", "flag.create")]
        if not entries:
            return
        entry = data.draw(st.sampled_from(entries))
        try:
            revert(self.store, entry.entry_id, ME)
        except (Conflict, InvalidInput, NotFound):
            return
        self.changes += 1
        if entry.before is None:
            self.flags.pop(entry.target, None)
            self.versions.pop(entry.target, None)
            return
        flag = get_flag(self.store, "production", entry.target)
        assert flag.definition == entry.before
        self.flags[entry.target], self.versions[entry.target] = dict(flag.definition), flag.version

    @rule()
    def keep_a_head(self) -> None:
        self.heads.append(get_head(self.store, now=from_ms(0)))

    @invariant()
    def the_store_agrees(self) -> None:
        assert {flag.key: flag.definition for flag in list_flags(self.store, "production")} == self.flags
        assert {grant.who: grant.role for grant in list_grants(self.store)} == self.roles
        assert count_audit(self.store) == self.changes
        assert list_broken_audit_entries(self.store) == ()
        assert list_denied_heads(self.store, self.heads) == ()
        for key, definition in self.flags.items():
            newest = next(entry for entry in list_audit(self.store) if entry.target == key)
            assert newest.after == definition


TestChanges = Changes.TestCase
TestChanges.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
