"""The commands `tokens …`: who may use the HTTP API, and for what."""

from datetime import UTC, datetime
from typing import Any

import click

from app.commands.common import common, open_store, show
from core.access.credentials import LONGEST_DAYS, issue_token, revoke_token
from core.access.scopes import Token, TokenScope, read_scopes
from core.access.tokens import list_tokens
from core.audit.acts import Act
from core.config import Config


@click.group()
def tokens() -> None:
    """Manage access to the HTTP API; once there is a token, each request needs one."""


@tokens.command("list")
@common
def tokens_list(config: Config, *, as_json: bool) -> None:
    """List the tokens of all environments, without their secrets.

    Example: quarterdeck tokens list
    """
    now = datetime.now(UTC)
    found = [_describe(token, now) for token in list_tokens(open_store(config))]
    lines = [
        f"{t['name']:<20} {t['hint']}…  {t['state']:<8} {', '.join(t['scopes']):<24} {t['environment']:<12} "
        f"{', '.join(t['services']) or 'all services':<16} "
        f"{'until ' + t['expires'][:10] if t['expires'] else 'for good'}"
        for t in found
    ]
    show(as_json, found, lines or ["no tokens: on a loopback address the API is open to everybody on this machine"])


@tokens.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([str(scope) for scope in TokenScope]),
    help="What the token may do.",
)
@click.option(
    "--service",
    "services",
    multiple=True,
    metavar="NAME",
    help="What it sends belongs to this service (default: all services of the environment).",
)
@click.option("--expires", metavar="DAYS", type=click.IntRange(1, LONGEST_DAYS), help="Expires after this many days.")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def tokens_create(
    config: Config,
    *,
    name: str,
    scopes: tuple[str, ...],
    services: tuple[str, ...],
    expires: int | None,
    reason: str,
    as_json: bool,
) -> None:
    """Create a token and print its secret. The secret is not stored and shown only once.

    The token belongs to one environment, and with --service to these services: rows and scores that name another are
    refused, and those that name none get the token's.

    Example: quarterdeck tokens create search-service --scope evaluate --expires 90 --reason "OFREP for search"
    """
    act = Act(config.operator, reason, config.environment)
    secret, entry = issue_token(
        open_store(config, create=True), name, read_scopes(scopes), act, expires_days=expires, services=services
    )
    show(as_json, {"name": name, "token": secret, "entry": entry}, [secret])


@tokens.command("revoke")
@click.argument("name")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def tokens_revoke(config: Config, *, name: str, reason: str, as_json: bool) -> None:
    """Revoke a token; running servers refuse it within 2 seconds.

    Example: quarterdeck tokens revoke search-service --reason "leaked into a log"
    """
    entry = revoke_token(open_store(config), name, Act(config.operator, reason, config.environment))
    show(as_json, {"name": name, "entry": entry}, [f"{name} is revoked (audit entry {entry})"])


def _describe(token: Token, now: datetime) -> dict[str, Any]:
    return {
        "name": token.name, "hint": token.hint, "state": token.describe_state(now),
        "scopes": [str(scope) for scope in token.scopes], "environment": token.environment,
        "services": list(token.services),
        "created": token.created.isoformat(), "created_by": token.created_by,
        "expires": token.expires.isoformat() if token.expires else None,
    }  # fmt: skip
