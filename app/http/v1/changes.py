"""How a change under /v1 is made: the same operations as on the pages, and a repeated request changes nothing twice.

The idempotency key of a request is stored in the transaction of its change, with the number of the audit entry, from
which the answer is made every time.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from app.http.backends import get_store
from app.http.records import MAX_KEY_CHARACTERS, read_key
from app.http.v1.callers import Caller, get_caller
from app.http.v1.models import Answered
from core.audit.acts import Act, Change
from core.audit.trail import get_audit_entry
from core.errors import Conflict, QuarterdeckError
from core.intake.intake import KEYS_KEPT_MS, Ticket, claim_key, first_answer, forget_keys

FAMILY = "api"


class ChangeAnswer(Answered):
    """A change that was made: its audit entry."""

    audit_entry: int
    at: datetime
    environment: str
    actor: str
    action: str
    target: str


class Changing:
    """Makes the change that a request asks for, under the name and the roles of its caller."""

    def __init__(
        self,
        request: Request,
        caller: Annotated[Caller, Depends(get_caller)],
        idempotency_key: Annotated[
            str | None,
            Header(
                min_length=1,
                max_length=MAX_KEY_CHARACTERS,
                description="A repeated one of the same token gets the first answer and changes nothing, for two days.",
            ),
        ] = None,
    ) -> None:
        self.caller = caller
        self._ticket = _make_ticket(request, caller) if idempotency_key is not None else None

    def make(self, reason: str, environment: str, change: Callable[[Act], Any]) -> ChangeAnswer:
        """Call `change` with the act, unless the request was answered before; return what the trail says of it.

        Raises Conflict, also for a key that was used with another request.
        """
        if (known := self._find_known()) is not None:
            return _describe(known)
        receipt = _Receipt(self._ticket)
        try:
            change(replace(self.caller.make_act(reason, environment), also=receipt))
        except QuarterdeckError:
            if (known := self._find_known()) is None:  # a request with the same key that was faster is no conflict
                raise
            return _describe(known)
        return _describe(receipt.entry_id)

    def _find_known(self) -> int | None:
        if self._ticket is None:
            return None
        with get_store().read() as connection:
            answer = first_answer(connection, self._ticket)
        return None if answer is None else int(answer["audit_entry"])


class _Receipt:
    """Keeps the first audit entry of a change, and stores the idempotency key with it."""

    def __init__(self, ticket: Ticket | None) -> None:
        self._ticket = ticket
        self.entry_id = 0

    def __call__(self, change: Change) -> None:
        if self.entry_id or not change.entry_id:
            return
        if self._ticket is not None:
            forget_keys(change.connection, self._ticket.source, before_ms=change.at_ms - KEYS_KEPT_MS)
            answer = {"audit_entry": change.entry_id}
            if not claim_key(change.connection, self._ticket, answer, now_ms=change.at_ms):
                raise Conflict("Idempotency-Key: another request with this key was faster")
        self.entry_id = change.entry_id


Make = Annotated[Changing, Depends()]


def _make_ticket(request: Request, caller: Caller) -> Ticket | None:
    key = read_key(request)
    if key is None:
        return None
    said = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + request.state.body
    return Ticket(f"{FAMILY}:{caller.digest[:16]}", key, hashlib.sha256(said).hexdigest())


def _describe(entry_id: int) -> ChangeAnswer:
    entry = get_audit_entry(get_store(), entry_id)
    return ChangeAnswer(
        audit_entry=entry.entry_id, at=entry.ts, environment=entry.environment, actor=entry.actor,
        action=str(entry.action), target=entry.target,
    )  # fmt: skip
