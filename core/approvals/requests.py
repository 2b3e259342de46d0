"""Gateway to change requests: what waits for a second person, who asked, who decided, and until when it counts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, update

from core.audit.actions import read_action
from core.audit.gate import READY, Origin, RequestState, WantedChange
from core.errors import Conflict, NotFound
from quarterdeck.clock import from_ms, now_ms
from quarterdeck.schema import change_requests
from quarterdeck.store import Store

OPEN = (RequestState.WAITING, *READY)


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """Changes that need a second person.

    The states before them are those that have to be there when they are applied. `editor` changed the request last.
    `due` is when it is applied, None for at once; `entry_id` is the audit entry that did so, 0 for none. `assistant` is
    who proposed it over MCP in the requester's name, "" for none; `origin` says whether the requester had signed in.
    """

    request_id: int
    environment: str
    changes: tuple[WantedChange, ...]
    reason: str
    requester: str
    editor: str
    state: RequestState
    version: int
    decided_by: str
    note: str
    effect: str
    created: datetime
    expires: datetime
    due: datetime | None
    entry_id: int
    assistant: str = ""
    origin: Origin = Origin.PERSON

    def say_requester(self) -> str:
        """Return who asked, like "ada" or "an assistant over MCP (token:night, for ada)"."""
        if not self.assistant:
            return self.requester
        served = "" if self.assistant == self.requester else f", for {self.requester}"
        return f"an assistant over MCP ({self.assistant}{served})"

    def describe(self) -> str:
        """Return what is to be done, like "flag.update use_hyde"."""
        return ", ".join(f"{each.action} {each.target}" for each in self.changes)


def get_request(store: Store, request_id: int) -> ChangeRequest:
    """Return one request. Raises NotFound."""
    with store.read() as connection:
        row = connection.execute(select(change_requests).where(change_requests.c.id == request_id)).mappings().first()
    if row is None:
        raise NotFound(f"request: there is no request {request_id}")
    return _read(row)


def list_requests(
    store: Store, environment: str | None = None, *, states: Sequence[RequestState] = OPEN, limit: int = 200
) -> tuple[ChangeRequest, ...]:
    """Return the requests of an environment, or of all, in these states; newest first."""
    stored = set(states) | (set(OPEN) if RequestState.EXPIRED in states else set())  # expiry is not stored
    query = select(change_requests).order_by(change_requests.c.id.desc()).limit(limit)
    query = query.where(change_requests.c.state.in_(sorted(map(str, stored))))
    if not {*states} - {*OPEN}:
        query = query.where(change_requests.c.expires_ms > now_ms())
    if environment is not None:
        query = query.where(change_requests.c.environment == environment)
    with store.read() as connection:
        found = tuple(_read(row) for row in connection.execute(query).mappings())
    return tuple(each for each in found if each.state in states)


def save_decision(connection: Connection, request: ChangeRequest, **values: Any) -> None:
    """Change a request as it was read. Raises Conflict if somebody changed it since."""
    same = (change_requests.c.id == request.request_id, change_requests.c.version == request.version)
    done = connection.execute(update(change_requests).where(*same).values(version=request.version + 1, **values))
    if done.rowcount != 1:
        raise Conflict(f"request {request.request_id} was changed meanwhile; reload and read it again")


def has_expired(store: Store, *, at_ms: int) -> bool:
    """Return whether requests expired of which that is not kept yet."""
    query = select(change_requests.c.id).where(*_is_over(at_ms)).limit(1)
    with store.read() as connection:
        return connection.scalar(query) is not None


def save_expired(connection: Connection, *, at_ms: int) -> None:
    """Keep that requests expired, so that a clock that is set back revives none."""
    values = {"state": RequestState.EXPIRED, "version": change_requests.c.version + 1}
    connection.execute(update(change_requests).where(*_is_over(at_ms)).values(values))


def _is_over(at_ms: int) -> tuple[ColumnElement[bool], ...]:
    return change_requests.c.state.in_(OPEN), change_requests.c.expires_ms <= at_ms


def _read(row: Any) -> ChangeRequest:
    changes = tuple(
        WantedChange(read_action(each["action"]), each["target"], each["before"], each["after"])
        for each in json.loads(row["changes"])
    )
    state = RequestState(row["state"])
    if state in OPEN and row["expires_ms"] <= now_ms():
        state = RequestState.EXPIRED
    return ChangeRequest(
        row["id"], row["environment"], changes, row["reason"], row["requester"], row["editor"], state, row["version"],
        row["decided_by"], row["note"], row["effect"], from_ms(row["created_ms"]), from_ms(row["expires_ms"]),
        from_ms(row["due_ms"]) if row["due_ms"] is not None else None, row["entry_id"] or 0, row["assistant"],
        Origin(row["origin"]),
    )  # fmt: skip
