"""Gateway to the changes that other systems report, in the shared store. `outside.py` says what one is."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from core.causes.outside import EVERY_SERVICE, OutsideChange, OutsideKind
from core.intake.intake import KEYS_KEPT_MS, Ticket, claim_key, first_answer, forget_keys
from quarterdeck.clock import from_ms, to_ms
from quarterdeck.intake import DUPLICATE, TAKEN, Counted, store_counts
from quarterdeck.schema import outside_changes
from quarterdeck.scope import Scope
from quarterdeck.store import Store

SOURCE = "changes"
MOST_CHANGES = 20_000  # of an environment; beyond them the oldest go
_MOST_LISTED = 5_000


def store_changes(
    store: Store,
    changes: Sequence[OutsideChange],
    *,
    now_ms: int,
    counts: Mapping[Counted, tuple[int, str]] | None = None,
    ticket: Ticket | None = None,
    refused: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Store changes whose id is new in their environment and source; return the answer to whoever sent them.

    Ids that are missing are made. A request whose idempotency key is known gets the first answer and stores nothing;
    raises Conflict when the key came with another body. `counts` of refused changes are stored too; `refused` is what
    the answer says of them.
    """
    named = [each if each.external_id else replace(each, external_id=uuid.uuid4().hex) for each in changes]
    with store.begin() as connection:
        if ticket and (known := first_answer(connection, ticket)) is not None:
            return dict(known)
        new = [each for each in named if _add(connection, each, now_ms)]
        answer: dict[str, Any] = {"stored": len(new), "ids": [each.external_id for each in new]}
        if len(new) < len(named):
            answer["duplicates"] = len(named) - len(new)
        answer |= refused or {}
        for environment in {each.environment for each in new}:
            _drop_oldest(connection, environment)
        store_counts(connection, {**(counts or {}), **_count(named, new)})
        if ticket:
            forget_keys(connection, ticket.source, before_ms=now_ms - KEYS_KEPT_MS)
            claim_key(connection, ticket, answer, now_ms=now_ms)
    return answer


def list_outside(store: Store, scope: Scope, since: datetime) -> tuple[OutsideChange, ...]:
    """Return the changes since then of a service and of all services of its environment, the newest 5,000."""
    c = outside_changes.c
    query = select(outside_changes).where(c.environment == scope.environment, c.ts_ms >= to_ms(since))
    if scope.service:
        query = query.where(c.service.in_([scope.service, EVERY_SERVICE]))
    with store.read() as connection:
        rows = connection.execute(query.order_by(c.ts_ms.desc()).limit(_MOST_LISTED)).all()
    return tuple(
        OutsideChange(
            from_ms(row.ts_ms), OutsideKind(row.kind), row.title, row.environment, row.service, row.url,
            row.external_id, row.actor, row.source, row.reach,
        )
        for row in rows
    )  # fmt: skip


def _add(connection: Connection, change: OutsideChange, now_ms: int) -> bool:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {
        "environment": change.environment, "source": change.source, "external_id": change.external_id,
        "service": change.service, "ts_ms": to_ms(change.ts), "kind": str(change.kind), "title": change.title,
        "url": change.url, "actor": change.actor, "reach": change.reach, "received_ms": now_ms,
    }  # fmt: skip
    added = dialect.insert(outside_changes).on_conflict_do_nothing().returning(outside_changes.c.external_id)
    return connection.execute(added, row).first() is not None


def _drop_oldest(connection: Connection, environment: str) -> None:
    c = outside_changes.c
    here = c.environment == environment
    if (connection.scalar(select(func.count()).where(here)) or 0) > MOST_CHANGES:
        last = select(c.ts_ms).where(here).order_by(c.ts_ms.desc()).offset(MOST_CHANGES - 1).limit(1)
        connection.execute(delete(outside_changes).where(here, c.ts_ms < last.scalar_subquery()))


def _count(named: Sequence[OutsideChange], new: Sequence[OutsideChange]) -> dict[Counted, tuple[int, str]]:
    counts: dict[Counted, tuple[int, str]] = {}
    for change in named:
        name = Counted(Scope(change.environment), SOURCE, TAKEN if change in new else DUPLICATE)
        counts[name] = (counts.get(name, (0, ""))[0] + 1, "")
    return counts
