"""Gateway to changes: who makes one and why, and one transaction that holds the change and its audit entry.

What is changed is for the shells of each subject. What is only observed (sightings, sessions, cached vectors, an
import's progress) is written without an act; the architecture test lists who does so.
"""

import logging
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from core.audit.actions import Action
from core.audit.permissions import ADMIN_EVERYWHERE, Roles, check_allowed, check_may_change
from core.audit.trail import record_audit
from core.errors import Forbidden, InvalidInput
from core.safety.letters import check_letters
from quarterdeck.clock import now_ms, to_ms
from quarterdeck.scope import DEFAULT_ENVIRONMENT
from quarterdeck.store import Store

MAX_TEXT = 2_000
security = logging.getLogger("quarterdeck.security")


@dataclass(frozen=True, slots=True)
class Act:
    """Who changes something, why, and in which environment; `at` is the current time unless a past is being rebuilt.

    `roles` are those of the actor. Code with access to the store, such as the command line, may do everything; pages
    and HTTP pass the roles of their visitor. `also` is called with the change before it is committed, for what has to
    be stored with it, such as an idempotency key; if it raises, nothing is changed.

    Raises InvalidInput when actor or reason is empty or too long.
    """

    actor: str
    reason: str
    environment: str = DEFAULT_ENVIRONMENT
    at: datetime | None = None
    roles: Roles = ADMIN_EVERYWHERE
    also: "Callable[[Change], None] | None" = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, remedy in (("actor", "name who acts"), ("reason", "give a reason for the audit trail")):
            value = getattr(self, name)
            if not any(unicodedata.category(letter)[0] in "LNPS" for letter in value):
                raise InvalidInput(name, f"is empty; {remedy}")
            if len(value) > MAX_TEXT or "\x00" in value:
                raise InvalidInput(name, f"must be at most {MAX_TEXT:,} characters, without null characters")
            check_letters(value, name)


class Audited(Protocol):
    """A state that knows how the audit trail keeps it; its class reads it back by `read`."""

    def to_audit(self) -> dict[str, Any]:
        """Return the state as JSON knows it."""
        ...


Side = Audited | Mapping[str, Any] | None


@dataclass(slots=True)
class Change:
    """An open change: its transaction, its time, and the audit entry's id after `record`."""

    connection: Connection
    act: Act
    at_ms: int
    entry_id: int = 0

    def record(self, action: Action, target: str, before: Side, after: Side) -> None:
        """Write the audit entry: `before` and `after` are states or JSON objects, or None for nothing.

        Raises Forbidden if the actor's roles do not allow this action, which undoes the change.
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
            before=_write(before),
            after=_write(after),
        )


def _write(state: Side) -> Mapping[str, Any] | None:
    return state if state is None or isinstance(state, Mapping) else state.to_audit()


@contextmanager
def changing(store: Store, act: Act) -> Iterator[Change]:
    """Open a unit of work: the changes on its connection and its audit entry are committed together, or not at all.

    Raises Forbidden if the actor may change nothing in the act's environment; `record` checks the action itself.
    """
    with _telling(act):
        check_may_change(act.roles, act.environment)
    with store.begin() as connection:
        change = Change(connection, act, to_ms(act.at) if act.at else now_ms())
        yield change
        if act.also is not None:
            act.also(change)


def require(act: Act, action: Action) -> None:
    """Raise Forbidden unless the actor may do this; for work that starts before its change is opened."""
    with _telling(act):
        check_allowed(act.roles, action, act.environment)


@contextmanager
def _telling(act: Act) -> Iterator[None]:
    """Log a refusal as a security event."""
    try:
        yield
    except Forbidden as error:
        security.warning("an act of %r was refused: %s", act.actor, error)
        raise
