"""The command `mcp`: the tools for language models over stdin and stdout, for a program on this machine."""

import importlib.util
import os

import click

from app.commands.common import common
from core.config import Config
from core.errors import SourceUnavailable


@click.command("mcp")
@common
def mcp(config: Config, *, as_json: bool) -> None:  # noqa: ARG001 - it speaks JSON in any case
    """Serve read-only tools for language models (MCP) over stdin and stdout.

    It answers the program that started it, with the rights of whoever may read the store here. The tools are those of
    /mcp: they read what the HTTP API reads, and change nothing.

    Example: quarterdeck mcp --environment production
    """
    if importlib.util.find_spec("mcp") is None:
        raise SourceUnavailable("mcp: the SDK is not installed; pip install 'quarterdeck-deck[mcp]'")
    os.environ |= {"QUARTERDECK_DATABASE_URL": config.database_url, "QUARTERDECK_ENVIRONMENT": config.environment}
    from app.http.tools import make_server
    from app.http.v1.callers import make_operator

    operator = make_operator(config)
    make_server(lambda _context: operator).run("stdio")
