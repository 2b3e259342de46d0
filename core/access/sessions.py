"""Gateway to ended sign-ins: a visitor who signs out is signed out in every tab and on every server.

An entry is kept as long as the session could have lasted. It holds a hash of the session's token, not the token.
"""

from datetime import datetime, timedelta

from sqlalchemy import delete, select, text

from quarterdeck.clock import to_ms
from quarterdeck.schema import ended_sessions
from quarterdeck.store import Store


def end_session(store: Store, session: str, *, now: datetime, lasts: timedelta) -> None:
    """Remember that a session is over, and forget those that would be over by now anyway."""
    with store.begin() as connection:
        connection.execute(delete(ended_sessions).where(ended_sessions.c.ended_ms < to_ms(now - lasts)))
        connection.execute(
            text("INSERT INTO ended_sessions (session, ended_ms) VALUES (:session, :now) ON CONFLICT DO NOTHING"),
            {"session": session, "now": to_ms(now)},
        )


def is_ended(store: Store, session: str) -> bool:
    """Whether somebody signed out of this session."""
    with store.read() as connection:
        found = connection.scalar(select(ended_sessions.c.session).where(ended_sessions.c.session == session))
    return found is not None
