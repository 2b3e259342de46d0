"""Shell: decides about change requests, and which environments need a second person; each with its audit entry.

The one who approves is a verified person, and neither the one who asked nor the one who edited the request last. On a
deck without a sign-in, where everybody acts under one name, the operator decides about what an assistant proposed.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime

from core.approvals.requests import OPEN, ChangeRequest, save_decision
from core.audit.actions import Action
from core.audit.acts import Act, Change, changing
from core.audit.gate import (
    POLICIES,
    Origin,
    Policy,
    RequestState,
    WantedChange,
    digest_changes,
    dump_changes,
    find_policy,
)
from core.audit.permissions import check_allowed, fold_name, fold_person
from core.audit.settings import get_setting, save_setting
from core.errors import Conflict, Forbidden, InvalidInput
from quarterdeck.clock import to_ms
from quarterdeck.store import Store

NEEDS_SIGN_IN = (
    "A second person cannot be required without a sign-in: everybody who reaches this deck acts under one name. "
    "Configure a login (QUARTERDECK_OIDC_…) or a proxy (QUARTERDECK_PROXY_…)."
)


def read_policy(store: Store, environment: str) -> Policy:
    """Return who may change what users get in an environment."""
    stored, _ = get_setting(store, POLICIES)
    found = (stored or {}).get(environment)
    return Policy(bool(found["required"]), tuple(found["alone"])) if found else Policy()


def is_second_required(store: Store) -> bool:
    """Return whether some environment requires a second person."""
    return any(policy["required"] for policy in (get_setting(store, POLICIES).value or {}).values())


def set_policy(store: Store, policy: Policy, by: Act, *, has_sign_in: bool) -> int:
    """Require a second person in the act's environment, or not any more; return the audit entry's id.

    Where one is required already, this needs one too. Raises InvalidInput without a sign-in.
    """
    if policy.required and not has_sign_in:
        raise InvalidInput("approvals", NEEDS_SIGN_IN[0].lower() + NEEDS_SIGN_IN[1:])
    if not all(name.strip() for name in policy.alone):
        raise InvalidInput("alone", "holds an empty name")
    stored, version = get_setting(store, POLICIES)
    known = dict(stored or {})
    before = known.get(by.environment)
    after = {"required": policy.required, "alone": list(policy.alone)}
    with changing(store, by) as change:
        change.record(Action.APPROVAL_POLICY, by.environment, before, after)  # by the policy until now
        save_setting(change.connection, POLICIES, known | {by.environment: after}, expected_version=version)
    return change.entry_id


def approve_request(
    store: Store, request: ChangeRequest, by: Act, *, due: datetime | None = None, effect: str = "",
    has_sign_in: bool = True,
) -> int:  # fmt: skip
    """Approve a request as it was read, to be applied now or at `due`; return the audit entry's id.

    `effect` is the preview that the approver saw. Raises Forbidden for whoever may not, and Conflict if the request
    changed since it was read, or is not waiting.
    """
    _check_person(by, "approve", request, has_sign_in=has_sign_in)
    if by.origin is Origin.PERSON and is_own(request, by.actor):
        raise Forbidden(f"request {request.request_id} is your own; another person has to approve it")
    if request.origin is not Origin.PERSON and _is_second_required_for(store, request):
        raise Forbidden(
            f"a second person is required in {request.environment}, and nobody who signed in asked for request "
            f"{request.request_id}; ask for the change yourself"
        )
    for each in request.changes:
        check_allowed(by.roles, Action(each.action), request.environment)
    if due and due >= request.expires:
        raise InvalidInput("at", f"must be before the request expires on {request.expires:%d %b %Y, %H:%M} UTC")
    state = RequestState.SCHEDULED if due else RequestState.APPROVED
    with _deciding(store, request, by, (RequestState.WAITING,)) as change:
        due_ms = to_ms(due) if due else None
        values = {"state": state, "decided_by": by.actor.strip(), "note": by.reason.strip(), "effect": effect}
        save_decision(change.connection, request, due_ms=due_ms, **values)
        told = {"state": str(state), "requester": request.requester, "changes": request.describe(), "effect": effect}
        change.record(Action.APPROVAL_GRANT, str(request.request_id), _describe(request), told)
    return change.entry_id


def is_own(request: ChangeRequest, name: str) -> bool:
    """Whether somebody asked for a request or edited it last, so that another person has to approve it."""
    return fold_person(name) in {fold_person(request.requester), fold_person(request.editor)}


def may_decide_alone(request: ChangeRequest, *, has_sign_in: bool) -> bool:
    """Whether the operator of a deck without a sign-in decides about a request: an assistant's there."""
    return bool(request.assistant) and request.origin is Origin.OPERATOR and not has_sign_in


def reject_request(store: Store, request: ChangeRequest, by: Act, *, has_sign_in: bool = True) -> int:
    """Reject a request that waits, or was approved and not applied yet; return the audit entry's id."""
    _check_person(by, "reject", request, has_sign_in=has_sign_in)
    with _deciding(store, request, by, OPEN) as change:
        values = {"state": RequestState.REJECTED, "decided_by": by.actor.strip(), "note": by.reason.strip()}
        save_decision(change.connection, request, **values)
        told = {"state": str(RequestState.REJECTED)}
        change.record(Action.APPROVAL_REJECT, str(request.request_id), _describe(request), told)
    return change.entry_id


def withdraw_request(store: Store, request: ChangeRequest, by: Act, *, has_sign_in: bool = True) -> int:
    """Take back one's own request; return the audit entry's id."""
    _check_person(by, "withdraw", request, has_sign_in=has_sign_in)
    if fold_name(by.actor.strip()) != fold_name(request.requester):
        raise Forbidden(f"request {request.request_id} is of {request.requester}, who alone can withdraw it; reject it")
    with _deciding(store, request, by, OPEN) as change:
        save_decision(change.connection, request, state=RequestState.WITHDRAWN, note=by.reason.strip())
        told = {"state": str(RequestState.WITHDRAWN)}
        change.record(Action.APPROVAL_WITHDRAW, str(request.request_id), _describe(request), told)
    return change.entry_id


def amend_request(
    store: Store, request: ChangeRequest, changes: Iterable[WantedChange], by: Act, *, has_sign_in: bool = True
) -> int:
    """Replace what a request wants; an approval that it had is void. Return the audit entry's id."""
    _check_person(by, "edit", request, has_sign_in=has_sign_in)
    wanted = tuple(changes)
    if not wanted:
        raise InvalidInput("changes", "must be at least one; withdraw the request instead")
    for each in wanted:
        check_allowed(by.roles, Action(each.action), request.environment)
    with _deciding(store, request, by, OPEN) as change:
        values = {"changes": dump_changes(wanted), "digest": digest_changes(wanted), "editor": by.actor.strip()}
        save_decision(
            change.connection, request, state=RequestState.WAITING, decided_by="", due_ms=None, effect="", **values
        )
        told = {"state": str(RequestState.WAITING), "editor": by.actor.strip(), "was": str(request.state)}
        change.record(Action.APPROVAL_AMEND, str(request.request_id), _describe(request), told)
    return change.entry_id


def _deciding(
    store: Store, request: ChangeRequest, by: Act, states: tuple[RequestState, ...]
) -> AbstractContextManager[Change]:
    if by.environment != request.environment:
        raise InvalidInput(
            "environment", f"request {request.request_id} is of {request.environment}, the act of {by.environment}"
        )
    if request.state not in states:
        raise Conflict(f"request {request.request_id} is {request.state}; nothing was changed")
    return changing(store, by)


def _check_person(by: Act, verb: str, request: ChangeRequest, *, has_sign_in: bool) -> None:
    is_operator = by.origin is Origin.OPERATOR and not by.assistant
    if by.origin is not Origin.PERSON and not (is_operator and may_decide_alone(request, has_sign_in=has_sign_in)):
        raise Forbidden(f"only a verified person can {verb} a request: sign in, or use a token that you made signed in")


def _is_second_required_for(store: Store, request: ChangeRequest) -> bool:
    with store.read() as connection:
        return any(
            find_policy(connection, Action(each.action), request.environment).required for each in request.changes
        )


def _describe(request: ChangeRequest) -> dict[str, str]:
    return {"state": str(request.state), "version": str(request.version)}
