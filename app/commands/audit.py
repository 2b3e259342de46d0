"""The commands `audit …`: read, export and verify the audit trail, and restore an earlier state."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from app.commands.common import common, open_store, show
from core.audit.acts import Act
from core.audit.trail import AuditFilter, get_audit_entry, list_audit, list_broken_audit_entries
from core.config import Config
from quarterdeck.clock import to_ms


@click.group()
def audit() -> None:
    """Read, export and verify the audit trail, and restore an earlier state."""


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that select entries."""
    for option in (
        click.option("--who", "actor", help="Changes by this actor."),
        click.option("--what", "action", help="Changes of this kind, like flag.update."),
        click.option("--on", "target", help="Changes of this flag, index or prompt."),
        click.option("--where", "environment_of", help="Changes in this environment (default: all)."),
        click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="From this day on (UTC)."),
    ):
        command = option(command)
    return command


def _filter(
    *, actor: str | None, action: str | None, target: str | None, environment_of: str | None, since: datetime | None
) -> AuditFilter:
    since_ms = to_ms(since.replace(tzinfo=UTC)) if since else None
    return AuditFilter(target, action, actor, environment_of, since_ms)


@audit.command("list")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 100_000), help="How many changes to list."
)
@_chosen
@common
def audit_list(config: Config, *, limit: int, as_json: bool, **chosen: Any) -> None:
    """List the newest changes.

    Example: quarterdeck audit list --limit 5 --on use_hyde
    """
    entries = list_audit(open_store(config), _filter(**chosen), limit=limit)
    show(
        as_json,
        entries,
        [
            f"{e.entry_id:>6}  {e.ts:%Y-%m-%d %H:%M}  {e.actor:<12} {e.action:<14} {e.target}: {e.reason}"
            for e in entries
        ],
    )


@audit.command("show")
@click.argument("entry_id", type=click.IntRange(1, 2**63 - 1))
@common
def audit_show(config: Config, *, entry_id: int, as_json: bool) -> None:
    """Show one change: who, why, and what differs.

    Example: quarterdeck audit show 17
    """
    from core.audit.jsondiff import diff_states

    entry = get_audit_entry(open_store(config), entry_id)
    lines = [
        f"{entry.action} of {entry.target} in {entry.environment}",
        f"{entry.actor}, {entry.ts:%Y-%m-%d %H:%M:%S} UTC: {entry.reason}",
        diff_states(entry.before, entry.after) or "no difference",
    ]
    show(as_json, entry, lines)


@audit.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_chosen
@common
def audit_export(config: Config, *, file: Path, as_json: bool, **chosen: Any) -> None:
    """Write all matching changes to FILE as CSV, or as JSON if its name ends in .json, with both states and the hashes.

    Example: quarterdeck audit export audit.csv --since 2026-01-01
    """
    from core.audit.files import write_csv, write_json
    from core.errors import SourceUnavailable

    entries = list_audit(open_store(config), _filter(**chosen), limit=None)
    try:
        with file.open("w", encoding="utf-8", newline="") as out:
            out.write((write_json if file.suffix == ".json" else write_csv)(entries))
    except OSError as error:
        raise SourceUnavailable(f"{file} cannot be written: {error.strerror}") from error
    show(as_json, {"file": str(file), "entries": len(entries)}, [f"{len(entries):,} entries are in {file}"])


@audit.command("revert")
@click.argument("entry_id", type=click.IntRange(1, 2**63 - 1))
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def audit_revert(config: Config, *, entry_id: int, reason: str, as_json: bool) -> None:
    """Restore the state before a change, even if there were changes since.

    Example: quarterdeck audit revert 17 --reason "it was a mistake"
    """
    from core.reverts import revert

    entry = revert(open_store(config), entry_id, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"the state before entry {entry_id} is restored (audit entry {entry})"])


@audit.command("verify")
@common
def audit_verify(config: Config, *, as_json: bool) -> None:
    """Verify the hash chain: a changed or removed entry breaks it (exit code 1).

    Example: quarterdeck audit verify
    """
    broken = list_broken_audit_entries(open_store(config))
    said = (
        f"the chain is broken at entries {', '.join(map(str, broken))}"
        if broken
        else "the chain is intact: no entry was changed or removed"
    )
    show(as_json, {"broken": broken}, [said])
    if broken:
        sys.exit(1)
