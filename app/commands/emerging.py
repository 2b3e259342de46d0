"""The command `emerging`: topics that are new, before the mean score moves."""

from datetime import UTC, datetime

import click

from app.commands.common import common, find_scope, make_embedder, open_store, service_option, show
from core.config import Config
from core.safety.letters import show_text


@click.command()
@service_option
@common
def emerging(config: Config, *, service: str | None, as_json: bool) -> None:
    """List the topics that are new in the last two weeks, up to yesterday.

    Looks at the days that no running server has looked at yet; the first time, questions are embedded, which takes
    minutes. Each topic has the day since which it is new, how many questions came, and how many were expected.

    Example: quarterdeck emerging --service docs-chat
    """
    from core.coverage.emerging import describe_emerging
    from core.coverage.newcomers import look_for_emerging, report_emerging

    store = open_store(config)
    scope = find_scope(config, store, service)
    look_for_emerging(store, make_embedder(config, store), scope=scope, now=datetime.now(UTC))
    found = report_emerging(store, scope)
    lines = [f"new since {each.since}  {describe_emerging(each)}  {show_text(each.label)}" for each in found.topics]
    nothing = f"cannot tell: the look {found.problem}" if found.problem else f"no topic is new up to {found.until}"
    show(as_json, found, lines or [nothing])
