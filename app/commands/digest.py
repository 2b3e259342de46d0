"""The command `digest`: what happened to a service, in sentences, as a file of several formats."""

from datetime import UTC, datetime

import click

from app.commands.common import common, find_scope, open_judged_store, service_option, settle_days
from core.config import Config
from core.safety.letters import show_text


@click.command()
@click.option("--since", default="7d", show_default=True, metavar="DAYS|DATE", help="From when on, up to yesterday.")
@click.option(
    "--format", "file_format", default="text", show_default=True,
    type=click.Choice(["text", "markdown", "html", "json", "eml", "pdf"]),
    help="How it is written; eml is an e-mail, pdf needs Debian's Chromium.",
)  # fmt: skip
@click.option(
    "--without-questions", is_flag=True, help="Name topics by their ids, so that nothing shows what users asked."
)
@service_option
@common
def digest(
    config: Config, *, since: str, file_format: str, without_questions: bool, service: str | None, as_json: bool
) -> None:
    """Print what fell or rose and why, what was decided and shipped, effects, new topics and spending.

    Links begin with QUARTERDECK_PUBLIC_URL; without it they are relative, and an e-mail has none.

    Example: quarterdeck digest --since 7d --format html > digest.html
    """
    from app.digests import read_digest, write_digest
    from core.digest.periods import read_since
    from core.digest.printing import print_pdf

    store, now = open_judged_store(config), datetime.now(UTC)
    scope = find_scope(config, store, service)
    period = read_since(since, today=settle_days(store, scope))
    found = read_digest(config, store, scope=scope, period=period, now=now, readable=not without_questions)
    if file_format == "pdf" and not as_json:
        click.echo(print_pdf(show_text(write_digest(found, "html", config, at=now))), nl=False)
        return
    click.echo(show_text(write_digest(found, "json" if as_json else file_format, config, at=now)), nl=False)
