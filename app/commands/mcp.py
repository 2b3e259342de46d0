"""The command `mcp`: the tools for language models over stdin and stdout, for a program on this machine."""

import importlib.util
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from app.commands.common import common
from core.config import Config
from core.errors import Forbidden, InvalidInput, SourceUnavailable

if TYPE_CHECKING:
    from app.http.v1.callers import Caller


@click.command("mcp")
@click.option("--propose", is_flag=True, help="Offer the tools that propose changes too; a person approves each.")
@click.option(
    "--token", envvar="QUARTERDECK_TOKEN", metavar="SECRET",
    help="With --propose, a token with the scopes read and propose: the assistant proposes for whoever made it.",
)  # fmt: skip
@common
def mcp(config: Config, *, propose: bool, token: str | None, as_json: bool) -> None:  # noqa: ARG001 - it speaks JSON
    """Serve the tools for language models (MCP) over stdin and stdout.

    It answers the program that started it, with the rights of whoever may read the store here. The tools are those of
    /mcp: they read what the HTTP API reads, and change nothing. With --propose, there are tools that make change
    requests, and what users asked is not shown; where people sign in, that takes a token.

    Example: quarterdeck mcp --environment production
    """
    if importlib.util.find_spec("mcp") is None:
        raise SourceUnavailable("mcp: the SDK is not installed; pip install 'quarterdeck-deck[mcp]'")
    os.environ |= {"QUARTERDECK_DATABASE_URL": config.database_url, "QUARTERDECK_ENVIRONMENT": config.environment}
    from app.http.tools import make_server
    from app.http.v1.callers import make_operator

    if propose and not token and not config.access.is_local:
        raise InvalidInput(
            "token", "say for whom it proposes: set QUARTERDECK_TOKEN to a token that you made signed in"
        )

    def find_caller(_context: object) -> "Caller":
        return _identify(token) if propose and token else make_operator(config, proposes=propose)

    find_caller(None)  # a wrong token is told at once
    make_server(find_caller, proposes=propose).run("stdio")


def _identify(secret: str) -> "Caller":
    """Return whom a token stands for now: it may be revoked, or expire, between two calls. Raises Forbidden."""
    from app.http.backends import get_store
    from app.http.v1.callers import make_caller
    from core.access.scopes import TokenScope, decide_access, hash_secret
    from core.access.tokens import find_by_digest

    token, now = find_by_digest(get_store(), hash_secret(secret)), datetime.now(UTC)
    for scope in (TokenScope.READ, TokenScope.PROPOSE):
        if denial := decide_access(token, scope, given=True, now=now):
            raise Forbidden(denial.reason)
    assert token is not None  # or it was refused
    return make_caller(token)
