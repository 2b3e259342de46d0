"""The commands `audit …`: read and verify the audit trail."""

import sys

import click

from app.commands.common import common, open_store, show
from core.config import Config
from core.control import list_audit, list_broken_audit_entries


@click.group()
def audit() -> None:
    """Read and verify the audit trail."""


@audit.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100_000))
@common
def audit_list(config: Config, *, limit: int, as_json: bool) -> None:
    """List the newest changes.

    Example: quarterdeck audit list --limit 5
    """
    entries = list_audit(open_store(config), limit=limit)
    show(
        as_json,
        entries,
        [f"{e.ts:%Y-%m-%d %H:%M}  {e.actor:<12} {e.action:<14} {e.target}: {e.reason}" for e in entries],
    )


@audit.command("verify")
@common
def audit_verify(config: Config, *, as_json: bool) -> None:
    """Check the chain of hashes: a changed or removed entry breaks it (exit code 1).

    Example: quarterdeck audit verify
    """
    broken = list_broken_audit_entries(open_store(config))
    said = (
        f"the chain is broken at entries {', '.join(map(str, broken))}"
        if broken
        else "every entry is as it was written"
    )
    show(as_json, {"broken": broken}, [said])
    if broken:
        sys.exit(1)
