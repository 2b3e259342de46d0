"""The command `doctor`: checks everything that the deck depends on, and says what to do about each problem."""

import sys
from datetime import UTC, datetime

import click

from app.commands.common import common, show
from core.config import Config


@click.command()
@click.option("--quick", is_flag=True, help="Skip loading the embedding model.")
@common
def doctor(config: Config, *, quick: bool, as_json: bool) -> None:
    """Check every connection, version and permission, and say what to do (exit code 1 when something fails).

    Example: quarterdeck doctor --quick
    """
    from core.doctor import State, examine

    findings = []
    for each in examine(config, now=datetime.now(UTC), quick=quick):
        findings.append(each)
        if not as_json:
            click.echo(f"{each.state:<5} {each.name}: {each.found}")
            if each.remedy:
                click.echo(f"      -> {each.remedy}")
    if as_json:
        show(True, findings, [])
    if any(each.state is State.FAIL for each in findings):
        sys.exit(1)
