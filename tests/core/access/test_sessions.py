"""When a sign-in ends: by its owner, by an admin, by its age, and by not being used."""

from datetime import UTC, datetime, timedelta

import pytest

from core.access.identity import OidcLogin, Person
from core.access.roles import end_sign_ins
from core.access.sessions import end_session, explain_end, note_use
from core.audit.acts import Act
from core.audit.permissions import Role, Roles
from core.audit.trail import list_audit
from core.errors import Forbidden
from quarterdeck.store import Store

LOGIN = OidcLogin("https://id.example.org/.well-known/openid-configuration", "deck", "secret", "c" * 40)
BEGAN = datetime(2026, 11, 1, 8, tzinfo=UTC)


def sign_in(name: str = "ada@example.org", session: str = "a" * 64, began: datetime = BEGAN) -> Person:
    return Person(name, (), session, began + LOGIN.session)


def look(store: Store, person: Person, **after: float) -> str:
    return explain_end(store, person, LOGIN, now=BEGAN + timedelta(**after))


def test_a_session_that_is_used_goes_on_until_it_is_too_old(store: Store) -> None:
    person = sign_in()
    for minutes in range(0, 12 * 60, 45):
        assert look(store, person, minutes=minutes) == ""
        note_use(store, person.session, now=BEGAN + timedelta(minutes=minutes))
    assert look(store, person, hours=12) == "your session has ended; sign in again"


def test_a_session_that_nobody_uses_ends(store: Store) -> None:
    assert look(store, sign_in(), minutes=59) == ""
    assert look(store, sign_in(), minutes=61) == "you were away for 60 minutes; sign in again"
    note_use(store, sign_in().session, now=BEGAN + timedelta(minutes=30))
    assert look(store, sign_in(), minutes=89) == ""
    assert look(store, sign_in(), minutes=91) == "you were away for 60 minutes; sign in again"


def test_a_sign_out_ends_one_session_and_an_admin_ends_all_of_a_person_that_began_before(store: Store) -> None:
    laptop, phone, other = sign_in(), sign_in(session="b" * 64), sign_in("eve@example.org", "c" * 64)
    end_session(store, laptop.session, now=BEGAN + timedelta(minutes=1), lasts=LOGIN.session)
    assert look(store, laptop, minutes=2) == "you signed out; sign in again"
    assert look(store, phone, minutes=2) == ""
    end_sign_ins(store, "Ada@Example.org", Act("root", "her laptop was stolen", at=BEGAN + timedelta(minutes=3)))
    assert look(store, phone, minutes=4) == "an admin ended your sessions; sign in again"
    assert look(store, other, minutes=4) == ""
    again = sign_in(session="d" * 64, began=BEGAN + timedelta(minutes=5))
    assert look(store, again, minutes=6) == ""
    entry = list_audit(store, limit=1)[0]
    assert (entry.action, entry.target, entry.environment) == ("session.end", "Ada@Example.org", "*")


def test_only_an_admin_of_everything_ends_sessions_of_others(store: Store) -> None:
    for roles in (Roles((("*", Role.EDITOR),)), Roles((("production", Role.ADMIN),))):
        with pytest.raises(Forbidden):
            end_sign_ins(store, "ada@example.org", Act("eve", "because", roles=roles, at=BEGAN))
    assert look(store, sign_in(), minutes=1) == ""
