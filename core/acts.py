"""The frame of every change of stored state: who, why, where, and one transaction that holds its audit entry too.

What is changed is for `operations.py` and the other shells that change something.
"""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from core.control import record_audit
from core.errors import InvalidInput
from core.permissions import ADMIN_EVERYWHERE, Roles, check_allowed, check_may_change
from quarterdeck.retrieval import now_ms, to_ms
from quarterdeck.store import DEFAULT_ENVIRONMENT, Store

MAX_TEXT = 2_000


@dataclass(frozen=True, slots=True)
class Act:
    """Who changes something, why, and in which environment; `at` is the present unless a past is being rebuilt.

    `roles` are those that the actor holds. Code that holds the store itself, like the command line, may do everything;
    the doors that others come through (pages, HTTP) give the roles of whoever comes.

    Raises InvalidInput when actor or reason is empty or too long.
    """

    actor: str
    reason: str
    environment: str = DEFAULT_ENVIRONMENT
    at: datetime | None = None
    roles: Roles = ADMIN_EVERYWHERE

    def __post_init__(self) -> None:
        for name, remedy in (("actor", "say who acts"), ("reason", "say why, for the audit trail")):
            value = getattr(self, name)
            if not any(unicodedata.category(letter)[0] in "LNPS" for letter in value):
                raise InvalidInput(name, f"is empty; {remedy}")
            if len(value) > MAX_TEXT or "\x00" in value:
                raise InvalidInput(name, f"must be at most {MAX_TEXT:,} characters, without null characters")


@dataclass(slots=True)
class Change:
    """An open change: its transaction, its time, and the audit entry's id once `record` was called."""

    connection: Connection
    act: Act
    at_ms: int
    entry_id: int = 0

    def record(self, action: str, target: str, before: Any, after: Any) -> None:
        """Write the audit entry: `before` and `after` are JSON-like, or None for nothing.

        Raises Forbidden, and with it undoes the change, when the actor's roles do not allow this action.
        """
        require(self.act, action)
        self.entry_id = record_audit(
            self.connection,
            ts_ms=self.at_ms,
            environment=self.act.environment,
            actor=self.act.actor.strip(),
            action=action,
            target=target,
            reason=self.act.reason.strip(),
            before=before,
            after=after,
        )


@contextmanager
def changing(store: Store, act: Act) -> Iterator[Change]:
    """Open a change: what is done to its connection and its audit entry land together, or not at all.

    Raises Forbidden when the actor may change nothing in the act's environment; `record` checks the very action.
    """
    check_may_change(act.roles, act.environment)
    with store.begin() as connection:
        yield Change(connection, act, to_ms(act.at) if act.at else now_ms())


def require(act: Act, action: str) -> None:
    """Raise Forbidden unless the actor may do this: for work that begins before its change is opened."""
    check_allowed(act.roles, action, act.environment)
