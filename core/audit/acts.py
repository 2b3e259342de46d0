"""Gateway to changes: who makes one and why, and one transaction that holds the change and its audit entry.

What is changed is for the shells of each subject. What is only observed (sightings, sessions, cached vectors, an
import's progress) is written without an act; the architecture test lists who does so.
"""

import logging
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from core.audit.actions import Action
from core.audit.gate import (
    EMERGENCY,
    GUARDED,
    Origin,
    WantedChange,
    add_request,
    find_approved,
    find_policy,
    mark_applied,
)
from core.audit.permissions import ADMIN_EVERYWHERE, EVERYWHERE, SHARED, Roles, check_allowed, check_may_change
from core.audit.trail import record_audit
from core.errors import ApprovalNeeded, Conflict, Forbidden, InvalidInput
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
    and HTTP pass the roles of their visitor. `origin` says whether the actor is a verified person. `stops` is set for
    what only stops something, as the kill switch does: it waits for nobody. `also` is called with the change before it
    is committed, for what has to be stored with it, such as an idempotency key; if it raises, nothing is changed.

    With `assistant`, a language model proposes the act over MCP: it is never made, whoever may change things alone and
    whatever the reason says, but becomes a change request. `by_request` makes what an approved request holds, and
    nothing without one.

    Raises InvalidInput when actor or reason is empty or too long.
    """

    actor: str
    reason: str
    environment: str = DEFAULT_ENVIRONMENT
    at: datetime | None = None
    roles: Roles = ADMIN_EVERYWHERE
    origin: Origin = Origin.OPERATOR
    stops: bool = False
    assistant: str = ""
    by_request: bool = False
    also: "Callable[[Change], None] | None" = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, remedy in (("actor", "name who acts"), ("reason", "give a reason for the audit trail")):
            value = getattr(self, name)
            if not _says_something(value):
                raise InvalidInput(name, f"is empty; {remedy}")
            if len(value) > MAX_TEXT or "\x00" in value:
                raise InvalidInput(name, f"must be at most {MAX_TEXT:,} characters, without null characters")
            check_letters(value, name)
        if _is_urgent(self.reason) and not any(map(str.isalnum, self.reason.strip()[len(EMERGENCY) - 1 :])):
            raise InvalidInput("reason", f"says {EMERGENCY.strip()} and no more; add what the emergency is")

    @property
    def is_emergency(self) -> bool:
        """Whether this passes without a second person, and is marked for it."""
        return not self.assistant and (self.stops or _is_urgent(self.reason))


def _says_something(text: str) -> bool:
    return any(unicodedata.category(letter)[0] in "LNPS" for letter in text)


def _is_urgent(reason: str) -> bool:
    return reason.strip().upper().startswith(EMERGENCY.strip())


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
    waiting: list[WantedChange] = field(default_factory=list)  # those that need a second person
    free: list[WantedChange] = field(default_factory=list)  # those that would, under another policy

    def record(self, action: Action, target: str, before: Side, after: Side) -> None:
        """Write the audit entry: `before` and `after` are states or JSON objects, or None for nothing.

        Raises Forbidden if the actor's roles do not allow this action, which undoes the change.
        """
        require(self.act, action)
        reason = self.act.reason.strip()
        wanted = WantedChange(action, target, _write(before), _write(after))
        if action in GUARDED and not _needs_second(self.connection, self.act, action):
            self.free.append(wanted)
        elif action in GUARDED:
            if self.act.is_emergency and action != Action.APPROVAL_POLICY:
                reason = reason if _is_urgent(reason) else f"{EMERGENCY}{reason}"
                security.warning("an emergency of %r in %s: %s", self.act.actor, self.act.environment, reason)
            else:
                self.waiting.append(wanted)
        self.entry_id = record_audit(
            self.connection,
            ts_ms=self.at_ms,
            environment=self.act.environment,
            actor=self.act.actor.strip(),
            action=action,
            target=target,
            reason=reason,
            before=wanted.before,
            after=wanted.after,
        )


def _write(state: Side) -> Mapping[str, Any] | None:
    return state if state is None or isinstance(state, Mapping) else state.to_audit()


@contextmanager
def changing(store: Store, act: Act) -> Iterator[Change]:
    """Open a unit of work: the changes on its connection and its audit entry are committed together, or not at all.

    Raises Forbidden if the actor may change nothing in the act's environment; `record` checks the action itself. Where
    a second person is required, raises ApprovalNeeded, with a change request, unless one was approved.
    """
    with _telling(act):
        check_may_change(act.roles, act.environment)
    try:
        with store.begin_in_turn() as connection:
            change = Change(connection, act, to_ms(act.at) if act.at else now_ms())
            yield change
            if change.waiting or act.assistant:
                found = _find_request(connection, act, change.waiting)
                mark_applied(connection, found, change.waiting, entry_id=change.entry_id)
            elif change.free and (approved := _find_approved(connection, act, change.free)) is not None:
                mark_applied(connection, approved, change.free, entry_id=change.entry_id)
            if act.also is not None:
                act.also(change)
    except _SecondPersonNeeded as needed:
        raise _ask(store, act, needed.changes) from None


def clear(store: Store, act: Act, *wanted: WantedChange) -> None:
    """Raise ApprovalNeeded unless changes may be made now; for work that starts before its change is opened."""
    try:
        with store.read() as connection, _telling(act):
            waiting = [each for each in wanted if _needs_second(connection, act, Action(each.action))]
            if waiting and not act.is_emergency:
                _find_request(connection, act, waiting)
    except _SecondPersonNeeded as needed:
        raise _ask(store, act, needed.changes) from None


class _SecondPersonNeeded(Exception):
    """These changes wait; the transaction is undone."""

    def __init__(self, changes: Sequence[WantedChange]) -> None:
        self.changes = changes


def _needs_second(connection: Connection, act: Act, action: Action) -> bool:
    if act.assistant or act.by_request:
        return True
    return _is_second_required(connection, act, action)


def _is_second_required(connection: Connection, act: Act, action: Action) -> bool:
    if act.origin is Origin.SERVER:
        return False
    policy = find_policy(connection, action, act.environment)
    place = EVERYWHERE if action in SHARED else act.environment
    alone = act.origin is Origin.PERSON and policy.lets_alone(act.actor, act.roles, place)
    return policy.required and not alone


def _find_request(connection: Connection, act: Act, changes: Sequence[WantedChange]) -> int:
    """Return the approved request for these changes. Raises Forbidden for somebody who is no verified person."""
    needs_person = any(_is_second_required(connection, act, Action(each.action)) for each in changes)
    if needs_person and act.origin is not Origin.PERSON:
        with _telling(act):
            raise Forbidden(
                f"a second person has to approve this in {act.environment}, and only who signed in can ask for it; in "
                f"an emergency, begin the reason with {EMERGENCY.strip()}"
            )
    if act.assistant:
        _check_worth(act, changes)
        raise _SecondPersonNeeded(changes)
    found = _find_approved(connection, act, changes)
    if found is None and act.by_request:
        raise Conflict("no approved request holds this change any more")
    if found is None:
        raise _SecondPersonNeeded(changes)
    return found


def _find_approved(connection: Connection, act: Act, changes: Sequence[WantedChange]) -> int | None:
    at_ms = to_ms(act.at) if act.at else now_ms()
    return find_approved(connection, changes, environment=act.environment, requester=act.actor.strip(), at_ms=at_ms)


def _check_worth(act: Act, changes: Sequence[WantedChange]) -> None:
    """Raise unless a proposal says why, without hurry, and would change what users get."""
    if _is_urgent(act.reason):
        raise InvalidInput("reason", f"begins with {EMERGENCY.strip()}; an assistant's proposal is no emergency")
    if not changes:
        raise InvalidInput("change", "would change nothing")
    if all(each.before == each.after for each in changes):
        raise InvalidInput("change", "would change nothing")


def _ask(store: Store, act: Act, changes: Sequence[WantedChange]) -> ApprovalNeeded:
    """Store the changes as a request of the actor."""
    with store.begin_in_turn() as connection:
        change = Change(connection, act, to_ms(act.at) if act.at else now_ms())
        request_id, is_new = add_request(
            connection, changes, environment=act.environment, requester=act.actor.strip(), reason=act.reason.strip(),
            at_ms=change.at_ms, assistant=act.assistant, origin=act.origin,
        )  # fmt: skip
        if is_new:
            listed = [{"action": str(each.action), "target": each.target} for each in changes]
            told = {"changes": listed, **({"assistant": act.assistant} if act.assistant else {})}
            change.record(
                Action.APPROVAL_PROPOSE if act.assistant else Action.APPROVAL_REQUEST, str(request_id), None, told
            )
    return ApprovalNeeded(request_id, act.environment)


def require(act: Act, action: Action) -> None:
    """Raise Forbidden unless the actor may do this; for work that starts before its change is opened."""
    with _telling(act):
        if act.assistant and action not in (*GUARDED, Action.APPROVAL_PROPOSE):
            raise Forbidden(f"{action} cannot be proposed; a person does it")
        check_allowed(act.roles, action, act.environment)


@contextmanager
def _telling(act: Act) -> Iterator[None]:
    """Log a refusal as a security event."""
    try:
        yield
    except Forbidden as error:
        security.warning("an act of %r was refused: %s", act.actor, error)
        raise
