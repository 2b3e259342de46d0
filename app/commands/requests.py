"""The commands `requests …`: changes that wait for a second person, and which environments need one."""

from datetime import UTC, datetime
from typing import BinaryIO

import click

from app.commands.common import common, open_store, show
from core.approvals.requests import ChangeRequest
from core.audit.acts import Act
from core.audit.gate import RequestState
from core.config import Config
from core.errors import Conflict, InvalidInput
from quarterdeck.store import Store

_reason_option = click.option("--reason", required=True, help="Why: it goes into the audit trail.")
_token_option = click.option(
    "--token", envvar="QUARTERDECK_TOKEN", metavar="SECRET",
    help="Your token with the scope admin, made on a page after signing in; it says who you are.",
)  # fmt: skip


@click.group()
def requests() -> None:
    """List changes that wait for a second person, and decide about them."""


@requests.command("list")
@click.option("--all", "every", is_flag=True, help="Include those that are over.")
@common
def requests_list(config: Config, *, every: bool, as_json: bool) -> None:
    """List the change requests of the environment.

    Example: quarterdeck requests list
    """
    from core.approvals.operations import read_policy
    from core.approvals.requests import OPEN, list_requests

    store = open_store(config)
    found = list_requests(store, config.environment, states=tuple(RequestState) if every else OPEN)
    needed = read_policy(store, config.environment).required
    nothing = "nothing waits" + ("" if needed else f"; changes in {config.environment} need no second person")
    show(as_json, found, [_line(each) for each in found] or [nothing])


@requests.command("show")
@click.argument("request_id", type=int)
@common
def requests_show(config: Config, *, request_id: int, as_json: bool) -> None:
    """Show what a request would change: the difference, and its effect on recent users.

    Example: quarterdeck requests show 12
    """
    from core.approvals.requests import get_request
    from core.approved import preview_request
    from core.audit.jsondiff import diff_states

    store = open_store(config)
    found = get_request(store, request_id)
    lines = [_line(found), f"      reason: {found.reason}"]
    for each in found.changes:
        lines += [f"      {line}" for line in (each.target, *diff_states(each.before, each.after).splitlines())]
    if effect := found.effect or preview_request(store, found, now=datetime.now(UTC)):
        lines.append(f"      {effect}")
    show(as_json, found, lines)


@requests.command("approve")
@click.argument("request_id", type=int)
@click.option(
    "--version", type=int, required=True, help="The request's version that you read, as `requests show` says."
)
@click.option("--at", "due", metavar="TIME", help="When to apply it, in ISO 8601; UTC without a zone (default: now).")
@_reason_option
@_token_option
@common
def requests_approve(
    config: Config, *, request_id: int, version: int, due: str | None, reason: str, token: str | None, as_json: bool
) -> None:
    """Approve a request of another person. Changes of flags, canaries and index aliases are made at once.

    Example: quarterdeck requests approve 12 --version 1 --reason "looked at the preview"
    """
    from core.approvals.operations import approve_request
    from core.approvals.requests import get_request
    from core.approved import apply_request, can_apply, preview_request

    store, now = open_store(config), datetime.now(UTC)
    found = get_request(store, request_id)
    if found.version != version:
        raise Conflict(f"request {request_id} has version {found.version}; read it again: requests show {request_id}")
    effect = preview_request(store, found, now=now)
    entry = approve_request(
        store, found, _identify(config, store, found, reason, token), due=_read_time(due) if due else None,
        effect=effect, has_sign_in=not config.access.is_local,
    )  # fmt: skip
    said = f"request {request_id} is approved (audit entry {entry})"
    if not due and can_apply(found):
        entry = apply_request(store, get_request(store, request_id), now=now)
        said = f"request {request_id} is approved and applied (audit entry {entry})"
    elif not can_apply(found):
        said += f"; {found.requester} does it once more, and it passes"
    show(as_json, {"entry": entry}, [said])


@requests.command("reject")
@click.argument("request_id", type=int)
@_reason_option
@_token_option
@common
def requests_reject(config: Config, *, request_id: int, reason: str, token: str | None, as_json: bool) -> None:
    """Reject a request, also one that was approved and not applied yet.

    Example: quarterdeck requests reject 12 --reason "too wide for a Friday"
    """
    from core.approvals.operations import reject_request
    from core.approvals.requests import get_request

    store = open_store(config)
    found = get_request(store, request_id)
    by = _identify(config, store, found, reason, token)
    entry = reject_request(store, found, by, has_sign_in=not config.access.is_local)
    show(as_json, {"entry": entry}, [f"request {request_id} is rejected (audit entry {entry})"])


@requests.command("withdraw")
@click.argument("request_id", type=int)
@_reason_option
@_token_option
@common
def requests_withdraw(config: Config, *, request_id: int, reason: str, token: str | None, as_json: bool) -> None:
    """Take back a request of your own.

    Example: quarterdeck requests withdraw 12 --reason "not needed any more"
    """
    from core.approvals.operations import withdraw_request
    from core.approvals.requests import get_request

    store = open_store(config)
    found = get_request(store, request_id)
    by = _identify(config, store, found, reason, token)
    entry = withdraw_request(store, found, by, has_sign_in=not config.access.is_local)
    show(as_json, {"entry": entry}, [f"request {request_id} is withdrawn (audit entry {entry})"])


@requests.command("amend")
@click.argument("request_id", type=int)
@click.option("--definition", "file", required=True, type=click.File("rb"), help="The flag's new definition, as JSON.")
@click.option("--flag", "key", metavar="KEY", help="Which flag of the request (default: its only one).")
@_reason_option
@_token_option
@common
def requests_amend(
    config: Config, *, request_id: int, file: BinaryIO, key: str | None, reason: str, token: str | None, as_json: bool
) -> None:
    """Change what a request would make of a flag. An approval that it had is void, and you cannot approve it.

    Example: quarterdeck requests amend 12 --definition new_prompt_v3.json --reason "10% first"
    """
    from core.approvals.requests import get_request
    from core.approved import edit_request, list_editable
    from core.flags.edits import parse_definition

    store = open_store(config)
    found = get_request(store, request_id)
    known = [each.target for each in list_editable(found)]
    if key is None and len(known) != 1:
        raise InvalidInput("flag", f"the request sets {', '.join(known) or 'no flag'}; name one with --flag")
    target = key or known[0]
    definition = parse_definition(target, file.read().decode("utf-8-sig", "replace"))
    by = _identify(config, store, found, reason, token)
    entry = edit_request(store, found, target, definition, by, has_sign_in=not config.access.is_local)
    show(as_json, {"entry": entry}, [f"request {request_id} is amended and waits again (audit entry {entry})"])


@requests.command("require")
@click.option("--off", is_flag=True, help="Require no second person any more.")
@click.option("--alone", multiple=True, metavar="NAME", help="Who needs nobody else; `admins` for all admins.")
@_reason_option
@_token_option
@common
def requests_require(
    config: Config, *, off: bool, alone: tuple[str, ...], reason: str, token: str | None, as_json: bool
) -> None:
    """Require a second person for changes of what users get in the environment. Needs a sign-in.

    Example: quarterdeck requests require --environment production --alone admins --reason "policy 4"
    """
    from core.approvals.operations import set_policy
    from core.approvals.people import act_by_secret
    from core.audit.gate import Policy

    store = open_store(config, create=True)
    by = (
        act_by_secret(store, token, reason, config.environment, now=datetime.now(UTC))
        if token
        else Act(config.operator, reason, config.environment)
    )
    entry = set_policy(store, Policy(not off, alone), by, has_sign_in=not config.access.is_local)
    said = "need no second person any more" if off else "need a second person"
    show(as_json, {"entry": entry}, [f"changes in {config.environment} {said} (audit entry {entry})"])


def _identify(config: Config, store: Store, request: ChangeRequest, reason: str, token: str | None) -> Act:
    from core.approvals.operations import may_decide_alone
    from core.approvals.people import act_by_secret

    if not token and may_decide_alone(request, has_sign_in=not config.access.is_local):
        return Act(config.operator, reason, request.environment)
    if not token:
        raise InvalidInput("token", "say who you are: set QUARTERDECK_TOKEN to a token that you made after signing in")
    return act_by_secret(store, token, reason, request.environment, now=datetime.now(UTC))


def _line(request: ChangeRequest) -> str:
    decided = f" by {request.decided_by}" if request.decided_by else ""
    due = f" for {request.due:%d %b %Y, %H:%M} UTC" if request.due else ""
    return (
        f"{request.request_id:>4}  {request.state}{decided}{due}  {request.describe()}, "
        f"asked by {request.say_requester()}, version {request.version}, until {request.expires:%d %b %Y}"
    )


def _read_time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput("at", f"give a time like 2026-03-01T09:00, not {text!r}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
