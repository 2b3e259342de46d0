"""Shell: applies approved change requests to flags, canaries and index aliases, and previews what they would do.

Whatever else was approved (prompts, experiments, schedules) is done again by who asked for it, and passes then.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from core.approvals.operations import amend_request
from core.approvals.people import find_lost_role
from core.approvals.requests import ChangeRequest, get_request, has_expired, list_requests, save_decision, save_expired
from core.audit.actions import Action, Subject, subject_of
from core.audit.acts import Act, Change, changing
from core.audit.gate import READY, Origin, RequestState, WantedChange
from core.errors import Conflict, Forbidden, InvalidInput, NotFound, QuarterdeckError
from core.flags.layer_store import get_holdout
from core.flags.layers import hold_out
from core.flags.operations import check_definition, check_plan_here, save_definition
from core.flags.preview import preview_change
from core.flags.store import Flag, delete_flag, list_flags
from core.indexes.audited import SwapState
from core.indexes.builds import find_probe
from core.indexes.operations import swap_index
from core.indexes.registry import list_indexes
from core.log.retrievals import list_scopes_of
from core.predictions.predictions import list_predictions
from core.rollouts.index_canaries import check_arms
from quarterdeck.clock import from_ms, to_ms
from quarterdeck.index_canaries import read_arms
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")
_APPLIED_HERE = (Subject.FLAG, Subject.CANARY)


def preview_request(store: Store, request: ChangeRequest, *, now: datetime) -> str:
    """Return in words what a request would change for users: "" for what cannot be predicted.

    There is a sentence per flag, and for an index what its probe found and what was predicted of its documents.
    """
    lines = []
    for each in request.changes:
        if each.action == Action.INDEX_SWAP:
            lines.append(_say_swap(store, request.environment, each))
        if subject_of(str(each.action)) in _APPLIED_HERE and each.before and each.after:
            impact, users = preview_change(store, request.environment, each.target, each.before, each.after, now=now)
            who = "made-up users (none are known)" if impact.are_made_up else f"{impact.asked:,} {users.source}"
            lines.append(f"{each.target}: {impact.share:.0%} of {who} get another answer.")
    return " ".join(lines)


def _say_swap(store: Store, environment: str, wanted: WantedChange) -> str:
    """Say what is known of the index that an alias would point to."""
    before, after = SwapState.read(wanted.before), SwapState.read(wanted.after)
    index = next((each for each in list_indexes(store) if after and each.name == after.index), None)
    if after is None or index is None:
        return f"{wanted.target}: its new index is gone."
    probe = find_probe(store, index.name)
    lines = [
        f"{wanted.target}: readers search {index.name} (corpus {index.corpus_version}, {index.chunks:,} chunks).",
        f"Its probe against {probe.live or 'nothing'} {probe.report.summary}." if probe else "It was never probed.",
    ]
    lines += [
        f"In {scope.service}, {found.lifted_share:.0%} of the low questions are predicted to reach "
        f"{found.threshold:g}, and the mean score to change by {found.lift:+.2f}."
        for scope in list_scopes_of(store, environment)
        for found in list_predictions(store, scope)
        if before and (found.target, found.live) == (index.corpus_version, before.index)
    ]
    return " ".join(lines)


def can_apply(request: ChangeRequest) -> bool:
    """Whether the server applies the request by itself once it is approved."""
    actions = [each.action for each in request.changes]
    is_swap = len(actions) == 1 and actions[0] == Action.INDEX_SWAP
    return is_swap or all(subject_of(str(action)) in _APPLIED_HERE for action in actions)


def list_editable(request: ChangeRequest) -> tuple[WantedChange, ...]:
    """Return those changes of a request whose flag's new definition a person may still edit."""
    return tuple(each for each in request.changes if _is_of_a_flag(each) and each.after is not None)


def edit_request(
    store: Store, request: ChangeRequest, target: str, definition: Mapping[str, Any], by: Act, *,
    has_sign_in: bool = True,
) -> int:  # fmt: skip
    """Replace the new definition of one of a request's flags; an approval that it had is void.

    Returns the audit entry's id. Raises NotFound for a flag that the request does not set, InvalidInput for a bad
    definition and for one that changes nothing, and what `amend_request` raises.
    """
    if target not in {each.target for each in list_editable(request)}:
        known = ", ".join(each.target for each in list_editable(request)) or "none"
        raise NotFound(f"flag: request {request.request_id} sets no flag {target[:80]!r}; it sets: {known}")
    check_plan_here(store, request.environment, target, check_definition(target, definition))
    wanted = hold_out(get_holdout(store, request.environment), target, definition)
    changes = tuple(
        replace(each, after=wanted) if each.target == target and _is_of_a_flag(each) else each
        for each in request.changes
    )
    if changes == request.changes:
        raise InvalidInput("definition", "is the same as before")
    return amend_request(store, request, changes, by, has_sign_in=has_sign_in)


def apply_request(store: Store, request: ChangeRequest, *, now: datetime) -> int:
    """Make the changes of an approved request, in the name of who asked; return the audit entry's id.

    Raises Conflict, and voids the request, if something that it changes is not as it was any more, or if who asked or
    who approved lost the role for it.
    """
    if get_request(store, request.request_id).version != request.version:
        raise Conflict(f"request {request.request_id} was changed meanwhile; reload and read it again")
    if request.state not in READY:
        raise Conflict(f"request {request.request_id} is {request.state}; nothing was changed")
    if not can_apply(request):
        raise InvalidInput("request", f"{request.describe()} is done by {request.requester}, who does it once more")
    made = "proposed by an assistant over MCP, " if request.assistant else ""
    reason = f"{request.reason} ({made}request {request.request_id}, approved by {request.decided_by})"[:2_000]
    by = Act(request.requester, reason, request.environment, at=now, origin=request.origin, by_request=True)
    try:
        _check_roles(store, request)
        return _apply(store, request, by)
    except (Conflict, Forbidden, NotFound) as error:
        _void(store, request, str(error))
        raise Conflict(f"request {request.request_id} is void: {error}") from None


def apply_due_requests(store: Store, *, now: datetime) -> tuple[str, ...]:
    """Apply every request that was approved for a time that has come; return a line each."""
    lines = []
    if has_expired(store, at_ms=to_ms(now)):
        with store.begin() as connection:
            save_expired(connection, at_ms=to_ms(now))
    for request in list_requests(store, states=(RequestState.SCHEDULED,)):
        if request.due is not None and request.due <= now and can_apply(request):
            try:
                entry = apply_request(store, request, now=now)
                lines.append(f"request {request.request_id} was applied (audit entry {entry})")
            except QuarterdeckError as error:
                logger.warning("request %d: %s", request.request_id, error)
    return tuple(lines)


def _apply(store: Store, request: ChangeRequest, by: Act) -> int:
    first = request.changes[0]
    if first.action == Action.INDEX_SWAP:
        before, after = SwapState.read(first.before), SwapState.read(first.after)
        if after is None:
            raise InvalidInput("request", "names no index")
        expected = before.index if before else None
        return swap_index(
            store, first.target, after.index, by, expected=expected, probe=after.probe, rollback=after.is_rollback
        )
    known = {flag.key: flag for flag in list_flags(store, request.environment)}
    with changing(store, by) as change:
        for each in request.changes:
            empty = Flag(request.environment, each.target, {}, 0, from_ms(change.at_ms), by.actor)
            flag = known.get(each.target, empty)
            if (flag.definition or None) != (each.before or None):
                raise Conflict(f"{each.target} was changed since")
            if each.after is None:
                delete_flag(change.connection, flag)
            else:
                _check_indexes(change, each)
                save_definition(change, flag, each.after)
            change.record(_ACTIONS[str(each.action)], each.target, each.before, each.after)
    return change.entry_id


def _check_roles(store: Store, request: ChangeRequest) -> None:
    """Raise Conflict if somebody lost the role that they had when they asked or approved."""
    actions = [Action(each.action) for each in request.changes]
    for name, done in ((request.requester, Action.APPROVAL_REQUEST), (request.decided_by, Action.APPROVAL_GRANT)):
        is_person = request.origin is Origin.PERSON
        if lost := find_lost_role(
            store, name, [done, *actions], request.environment, since=request.created, is_person=is_person
        ):
            raise Conflict(lost)


def _check_indexes(change: Change, wanted: WantedChange) -> None:
    """Raise NotFound or Conflict if an index canary would search an index that is gone, or beside a moved alias."""
    arms = read_arms(wanted.target, wanted.after)
    if arms and wanted.action == Action.CANARY_PROMOTE:
        check_arms(change, arms)


def _is_of_a_flag(change: WantedChange) -> bool:
    return subject_of(str(change.action)) in _APPLIED_HERE


_ACTIONS = {str(action): action for action in Action if subject_of(str(action)) in _APPLIED_HERE}


def _void(store: Store, request: ChangeRequest, why: str) -> None:
    """Note that an approved request fits no longer; an observation, not a decision."""
    found = get_request(store, request.request_id)
    if found.state in READY:
        with store.begin() as connection:
            save_decision(connection, found, state=RequestState.VOID, note=why[:2_000])
