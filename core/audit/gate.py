"""Gateway to the second person: which changes wait for one, and the change requests that somebody approved.

`acts.changing` asks it before each commit. What is done with requests is for `core/approvals`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from core.audit.actions import Action
from core.audit.permissions import SHARED, Role, Roles, fold_name
from core.audit.settings import Family, setting_key
from core.errors import Conflict
from quarterdeck.schema import change_requests, settings
from quarterdeck.scope import fold_environment

EMERGENCY = "EMERGENCY: "
ADMINS = "admins"
LASTS_MS = 7 * 86_400_000  # a request that nobody decided, or nobody applied
MOST_PROPOSALS = 20  # of one assistant that wait at once
MOST_PROPOSALS_A_DAY = 60
_DAY_MS = 86_400_000
POLICIES = setting_key(Family.APPROVALS)

# What needs a second person where one is required: whatever decides what users get, and the requirement itself.
GUARDED = frozenset(
    {
        Action.FLAG_CREATE, Action.FLAG_UPDATE, Action.FLAG_DELETE, Action.CANARY_PROMOTE, Action.CANARY_ROLLBACK,
        Action.EXPERIMENT_START, Action.EXPERIMENT_STOP, Action.EXPERIMENT_DECIDE, Action.HOLDOUT_START,
        Action.HOLDOUT_END, Action.SCHEDULE_CREATE,
        Action.SCHEDULE_RESUME, Action.INDEX_SWAP, Action.PROMPT_PROMOTE, Action.PROMPT_ROLLBACK,
        Action.APPROVAL_POLICY, Action.METRIC_ADD, Action.METRIC_REMOVE,
    }
)  # fmt: skip

# What differs each time that the same thing is done: it is no part of what was approved.
_VARYING = {
    Action.SCHEDULE_CREATE: ("schedule", "due"),  # `begins` says when, and is approved
    Action.SCHEDULE_RESUME: ("due",),
    Action.PROMPT_PROMOTE: ("release", "run_id"),
    Action.PROMPT_ROLLBACK: ("release", "run_id"),
    Action.INDEX_SWAP: ("probe",),
}


class Origin(StrEnum):
    """Who is behind an act: a person who signed in, whoever uses this machine, or the server by itself."""

    PERSON = "person"
    OPERATOR = "operator"
    SERVER = "server"


class RequestState(StrEnum):
    """What became of a change request."""

    WAITING = "waiting"
    APPROVED = "approved"
    SCHEDULED = "scheduled"
    APPLIED = "applied"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    VOID = "void"


READY = (RequestState.APPROVED, RequestState.SCHEDULED)


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may change what users get in an environment: everybody with the role, or only with a second person.

    `alone` are the names who need none; `admins` stands for all admins of the environment.
    """

    required: bool = False
    alone: tuple[str, ...] = ()

    def lets_alone(self, actor: str, roles: Roles, environment: str) -> bool:
        """Whether this person needs nobody else."""
        names = {fold_name(name) for name in self.alone} - {ADMINS}  # somebody may be called that
        return fold_name(actor) in names or (ADMINS in self.alone and roles.role_in(environment) is Role.ADMIN)


@dataclass(frozen=True, slots=True)
class WantedChange:
    """One change that waits: what would be done, to what, and the states before and after it."""

    action: Action | str
    target: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


def read_policies(connection: Connection) -> dict[str, Policy]:
    """Return the policy of each environment that has one."""
    stored = connection.scalar(select(settings.c.value).where(settings.c.name == POLICIES))
    found: dict[str, Any] = json.loads(stored) or {} if stored else {}
    return {name: Policy(bool(each["required"]), tuple(each["alone"])) for name, each in found.items()}


def find_policy(connection: Connection, action: Action, environment: str) -> Policy:
    """Return the policy for an action. What all environments share needs a second person if one of them does.

    Only whom each of those environments lets change alone may do it alone. Every spelling of an environment counts.
    """
    own = fold_environment(environment)
    required = [
        set(policy.alone)
        for name, policy in read_policies(connection).items()
        if policy.required and (action in SHARED or fold_environment(name) == own)
    ]
    return Policy(required=True, alone=tuple(sorted(set.intersection(*required)))) if required else Policy()


def digest_changes(changes: Sequence[WantedChange]) -> str:
    """Return what identifies the changes: equal whenever the same ones are tried from the same states."""
    told = [[str(each.action), each.target, _keep(each, each.before), _keep(each, each.after)] for each in changes]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def find_approved(
    connection: Connection, changes: Sequence[WantedChange], *, environment: str, requester: str, at_ms: int
) -> int | None:
    """Return the approved request of this person for exactly these changes, if it is due and not over."""
    c = change_requests.c
    query = select(c.id, c.requester, c.due_ms).where(
        c.environment == environment, c.digest == digest_changes(changes), c.state.in_(READY), c.expires_ms > at_ms
    )
    found = connection.execute(query.order_by(c.id)).all()
    own = (row for row in found if fold_name(row.requester) == fold_name(requester) and (row.due_ms or 0) <= at_ms)
    return next((int(row.id) for row in own), None)


def find_naming(connection: Connection, index: str, *, at_ms: int) -> int | None:
    """Return an open request that lets users search an index: nothing else may take its name until it is decided."""
    c, quoted = change_requests.c, json.dumps(index, ensure_ascii=False)
    is_open = c.state.in_((RequestState.WAITING, *READY)), c.expires_ms > at_ms
    found = connection.execute(select(c.id, c.changes).where(*is_open).order_by(c.id))
    lives = tuple(json.dumps(str(action)) for action in (Action.INDEX_SWAP, Action.CANARY_PROMOTE))
    wanted = (row.id for row in found if quoted in row.changes and any(each in row.changes for each in lives))
    return next((int(each) for each in wanted), None)


def mark_applied(connection: Connection, request_id: int, changes: Sequence[WantedChange], *, entry_id: int) -> None:
    """Use up the approved request for these changes. Raises Conflict when somebody was faster: it counts once."""
    c = change_requests.c
    wanted = update(change_requests).where(c.id == request_id, c.digest == digest_changes(changes), c.state.in_(READY))
    done = connection.execute(wanted.values(state=RequestState.APPLIED, entry_id=entry_id, version=c.version + 1))
    if done.rowcount != 1:
        raise Conflict(f"request {request_id} was applied or withdrawn meanwhile")


def add_request(
    connection: Connection,
    changes: Sequence[WantedChange],
    *,
    environment: str,
    requester: str,
    reason: str,
    at_ms: int,
    assistant: str = "",
    origin: Origin = Origin.PERSON,
) -> tuple[int, bool]:
    """Return the request of this person for these changes, and whether it is new: an open one is not made twice.

    With `assistant`, it is a proposal. Raises Conflict when that assistant has as many as it may have.
    """
    digest, c = digest_changes(changes), change_requests.c
    is_open = (
        c.state == RequestState.WAITING, c.expires_ms > at_ms, c.environment == environment, c.digest == digest,
        c.assistant == assistant,
    )  # fmt: skip
    for row in connection.execute(select(c.id, c.requester).where(*is_open)):
        if fold_name(row.requester) == fold_name(requester):
            return int(row.id), False
    if assistant:
        _check_number(connection, assistant, at_ms=at_ms)
    values = {
        "environment": environment, "changes": dump_changes(changes), "digest": digest, "reason": reason,
        "requester": requester, "editor": requester, "state": RequestState.WAITING, "version": 1, "decided_by": "",
        "note": "", "effect": "", "created_ms": at_ms, "expires_ms": at_ms + LASTS_MS, "assistant": assistant,
        "origin": origin,
    }  # fmt: skip
    made = connection.execute(insert(change_requests).values(values).returning(c.id))
    return int(made.scalar_one()), True


def _check_number(connection: Connection, assistant: str, *, at_ms: int) -> None:
    """Raise Conflict when an assistant may propose nothing more for now."""
    c = change_requests.c
    count = select(func.count()).select_from(change_requests).where(c.assistant == assistant)
    waiting = connection.scalar(count.where(c.state == RequestState.WAITING, c.expires_ms > at_ms)) or 0
    if waiting >= MOST_PROPOSALS:
        raise Conflict(f"{waiting} proposals of {assistant} wait already; a person has to decide about some first")
    if (connection.scalar(count.where(c.created_ms > at_ms - _DAY_MS)) or 0) >= MOST_PROPOSALS_A_DAY:
        raise Conflict(f"{assistant} made {MOST_PROPOSALS_A_DAY} proposals within a day, which is the limit")


def dump_changes(changes: Sequence[WantedChange]) -> str:
    """Return changes as they are stored."""
    told = [
        {"action": str(each.action), "target": each.target, "before": each.before, "after": each.after}
        for each in changes
    ]
    return json.dumps(told, ensure_ascii=False)


def _keep(change: WantedChange, side: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    varying = _VARYING.get(Action(change.action), ())
    return None if side is None else {name: value for name, value in side.items() if name not in varying}
