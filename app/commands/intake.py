"""The command `intake`: what came in, what was refused, and why."""

from collections.abc import Mapping

import click

from app.commands.common import common, open_store, show
from core.config import Config
from core.intake.counts import IntakeCount, Refusals, list_counts, list_refusals
from quarterdeck.clock import from_ms
from quarterdeck.scope import Scope, make_scope


@click.command()
@click.option("--service", metavar="NAME", help="Count this service only.")
@common
def intake(config: Config, *, service: str | None, as_json: bool) -> None:
    """Show what each entry point took and refused, by reason. Covers all environments unless one is named.

    Example: quarterdeck intake --service answers --json
    """
    named = click.get_current_context().params.get("environment")
    scope = Scope(make_scope(named).environment if named else "", make_scope(None, service).service if service else "")
    store = open_store(config)
    counts = list_counts(store, scope)
    examples = [] if as_json else [_describe(each) for each in list_refusals(store, scope)]
    show(as_json, counts, [*map(_sum_up, counts), *examples] or ["nothing has come in yet"])


def _sum_up(count: IntakeCount) -> str:
    reasons, ignored = _list(count.reasons), _list(count.ignored)
    said = f"{count.source}: {count.taken:,} taken, {count.refused:,} refused" + (f" ({reasons})" if reasons else "")
    return said + (f"; requests ignored by design: {ignored}" if ignored else "")


def _list(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))


def _describe(refusals: Refusals) -> str:
    whose = f"{refusals.scope.environment}/{refusals.scope.service}"
    last = f"{from_ms(refusals.last_ms):%Y-%m-%d %H:%M} UTC"
    return f"  {refusals.source} {refusals.reason}, {whose}, last {last}: {refusals.example or 'no example'}"
