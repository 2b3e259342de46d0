"""Gateway to what is known of sign-ins: which were ended, by whom, and when each was last used, on every server.

A mark is kept as long as the session could have lasted. It holds hashes, never a token or a name.
"""

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, select, text

from core.access.identity import OidcLogin, Person
from core.audit.permissions import fold_name
from quarterdeck.clock import to_ms
from quarterdeck.schema import ended_sessions
from quarterdeck.store import Store

_KEY_CHARACTERS = 64
_SET = text(
    "INSERT INTO ended_sessions (session, ended_ms) VALUES (:session, :now) "
    "ON CONFLICT (session) DO UPDATE SET ended_ms = excluded.ended_ms"
)


def end_session(store: Store, session: str, *, now: datetime, lasts: timedelta) -> None:
    """Record the end of a session, and delete the marks of sessions that have expired anyway."""
    with store.begin() as connection:
        connection.execute(delete(ended_sessions).where(ended_sessions.c.ended_ms < to_ms(now - lasts)))
        _mark(connection, session, to_ms(now))


def end_sessions_of(connection: Connection, name: str, *, now_ms: int) -> None:
    """Record that every session of a person that began until now is over."""
    _mark(connection, _key_of(name), now_ms)


def note_use(store: Store, session: str, *, now: datetime) -> None:
    """Record that a session is in use."""
    with store.begin() as connection:
        _mark(connection, _key_of_use(session), to_ms(now))


def explain_end(store: Store, person: Person, login: OidcLogin, *, now: datetime) -> str:
    """Return why a person has to sign in again, in one clause; "" while the session goes on."""
    if person.ends is None or person.ends <= now:
        return "your session has ended; sign in again"
    began_ms, c = to_ms(person.ends - login.session), ended_sessions.c
    own, all_own, use = person.session, _key_of(person.name), _key_of_use(person.session)
    with store.read() as connection:
        query = select(c.session, c.ended_ms).where(c.session.in_((own, all_own, use)))
        marks = {session: int(at_ms) for session, at_ms in connection.execute(query)}
    if own in marks:
        return "you signed out; sign in again"
    if marks.get(all_own, 0) > began_ms:
        return "an admin ended your sessions; sign in again"
    if marks.get(use, began_ms) < to_ms(now - login.idle):
        return f"you were away for {login.idle.total_seconds() / 60:.0f} minutes; sign in again"
    return ""


def _mark(connection: Connection, session: str, at_ms: int) -> None:
    connection.execute(_SET, {"session": session, "now": at_ms})


def _key_of(name: str) -> str:
    return f"of:{hashlib.sha256(fold_name(name).encode()).hexdigest()}"[:_KEY_CHARACTERS]


def _key_of_use(session: str) -> str:
    return f"use:{session}"[:_KEY_CHARACTERS]
