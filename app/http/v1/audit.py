"""The audit trail: who changed what, when and why, whether its chain of hashes is intact, and reverting a change."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import Field

from app.http.backends import get_store
from app.http.v1.callers import Caller, From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import Answered, Environment, Limit, Page, Position, Reasoned, Untrusted, read_position
from app.http.v1.routing import make_router
from core.audit.permissions import list_readable
from core.audit.trail import (
    AuditEntry,
    AuditFilter,
    count_audit,
    get_audit_entry,
    hide_labels,
    list_audit,
    list_broken_audit_entries,
)
from core.errors import InvalidInput, NotFound
from core.reverts import revert
from quarterdeck.clock import to_ms

router = make_router("audit")
Text = Annotated[str | None, Query(min_length=1, max_length=300)]


class EntryAnswer(Answered):
    """One change: who, when, why, and the stored state before and after it (null: there was or is nothing)."""

    entry_id: int
    ts: datetime
    environment: str
    actor: Untrusted[str]
    action: str
    target: Untrusted[str]
    reason: Untrusted[str]
    before: Untrusted[dict[str, Any] | None]
    after: Untrusted[dict[str, Any] | None]
    previous_hash: str
    hash: str


class ChainAnswer(Answered):
    """Whether the chain of hashes is intact: `broken` are the entries at which it breaks, at most 100 of them."""

    entries: int = Field(description="Those that the token may read.")
    is_intact: bool
    broken: tuple[int, ...]


class RevertChange(Reasoned):
    """Restores the state before an entry, unless the thing was changed since the entry `seen`."""

    seen: int = Field(ge=1, le=2**53, description="The newest entry about the same thing that you saw.")


EntryId = Annotated[int, Path(ge=1, le=2**53, examples=[1])]


@router.get("/v1/audit", name="list_audit_entries")
def list_entries(
    caller: From,
    environment: Environment = None,
    actor: Text = None,
    action: Text = None,
    target: Text = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: Limit = 50,
    cursor: Position = None,
) -> Page[EntryAnswer]:
    """Return the entries that the token may read, newest first, `since` a time and before `until`, with a time zone."""
    caller.check_shared()
    wanted = AuditFilter(
        target=target, action=action, actor=actor, environment=environment, since_ms=_read_time("since", since),
        until_ms=_read_time("until", until), among=list_readable(caller.roles),
        before_id=read_position(cursor) if cursor is not None else None,
    )  # fmt: skip
    found = list_audit(get_store(), wanted, limit=limit + 1)
    following = str(found[limit - 1].entry_id) if len(found) > limit else None
    shown = hide_labels(found[:limit], caller.roles)
    return Page[EntryAnswer](items=tuple(map(EntryAnswer.model_validate, shown)), next=following)


@router.get("/v1/audit/chain", name="check_audit_chain")
def check_chain(caller: From) -> ChainAnswer:
    """Say whether the chain of hashes is intact. It reads the whole trail."""
    caller.check_shared()
    broken = list_broken_audit_entries(get_store())
    entries = count_audit(get_store(), AuditFilter(among=list_readable(caller.roles)))
    return ChainAnswer(entries=entries, is_intact=not broken, broken=broken[:100])


@router.get("/v1/audit/{entry_id}", name="get_audit_entry")
def get_entry(caller: From, entry_id: EntryId) -> EntryAnswer:
    """Return one entry."""
    return EntryAnswer.model_validate(hide_labels((_find(caller, entry_id),), caller.roles)[0])


@router.post("/v1/audit/{entry_id}/revert", name="revert_audit_entry")
def revert_entry(entry_id: EntryId, body: RevertChange, make: Make) -> ChangeAnswer:
    """Restore the state before an entry, by a change with an entry of its own."""
    entry = _find(make.caller, entry_id)
    return make.make(body.reason, entry.environment, lambda act: revert(get_store(), entry_id, act, seen=body.seen))


def _find(caller: Caller, entry_id: int) -> AuditEntry:
    """Return an entry. One that the caller may not read is not there for them."""
    caller.check_shared()
    entry, readable = get_audit_entry(get_store(), entry_id), list_readable(caller.roles)
    if readable is not None and entry.environment not in readable:
        raise NotFound(f"audit entry: there is no entry {entry_id}")
    return entry


def _read_time(name: str, given: datetime | None) -> int | None:
    if given is None:
        return None
    if given.tzinfo is None or not 2000 <= given.year <= 2100:
        raise InvalidInput(name, "must be a time of this century with a time zone, like 2026-11-29T09:00:00Z")
    return to_ms(given)
