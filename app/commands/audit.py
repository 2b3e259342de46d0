"""The commands `audit …`: read, export and verify the audit trail, and restore an earlier state."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from app.commands.common import common, open_store, show
from core.audit.acts import Act
from core.audit.trail import (
    AuditFilter,
    get_audit_entry,
    get_head,
    list_audit,
    list_broken_audit_entries,
    list_denied_heads,
)
from core.config import Config
from quarterdeck.clock import to_ms

_FILE = click.Path(dir_okay=False, path_type=Path)


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
@click.argument("file", type=_FILE)
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
@click.option("--head", "heads", metavar="FILE|HASH", help="Heads that were kept elsewhere: a file of them, or a hash.")
@click.option("--key", type=_FILE, help="The key that signed them, public or private (default: QUARTERDECK_AUDIT_KEY).")
@common
def audit_verify(config: Config, *, heads: str | None, key: Path | None, as_json: bool) -> None:
    """Verify the hash chain: an entry changed or removed in the middle breaks it (exit code 1).

    With --head, also verify that every head is signed and still part of the trail: one is missing when the newest
    entries, or all, were removed or written anew after it was signed.

    Example: quarterdeck audit verify
    """
    from core.audit.heads import is_signed_by, read_heads, read_public_key

    store = open_store(config)
    broken = list_broken_audit_entries(store)
    kept = read_heads(_read_heads(heads)) if heads else ()
    signed = [head for head in kept if head.at]
    public = read_public_key(_read_key(config, key)) if signed else None
    forged = [head for head in signed if public is None or not is_signed_by(head, public)]
    denied = list_denied_heads(store, [head for head in kept if head not in forged])
    lines = [f"the chain is broken at entries {', '.join(map(str, broken))}"] if broken else []
    lines += [f"the head of {head.at} with {head.entries:,} entries is not signed by this key" for head in forged]
    lines += [f"the head {head.hash[:12]}… of {head.at or 'unknown time'} is not in the trail" for head in denied]
    whole = f"; {len(kept):,} heads are in it" if heads else ""
    told = {"broken": broken, "heads": len(kept), "unsigned": forged, "missing": denied}
    show(as_json, told, lines or [f"the chain is intact: no entry was changed or removed{whole}"])
    if lines:
        sys.exit(1)


@audit.command("head")
@common
def audit_head(config: Config, *, as_json: bool) -> None:
    """Print the head of the trail: the number of entries and the hash of the last one, signed if there is a key.

    Example: quarterdeck audit head
    """
    from core.audit.heads import read_private_key, sign_head, write_head

    head = get_head(open_store(config), now=datetime.now(UTC))
    if config.audit_key:
        head = sign_head(head, read_private_key(_read_key(config, None)))
    show(as_json, head, [write_head(head)])


@audit.command("keygen")
@click.argument("file", type=_FILE)
@common
def audit_keygen(_config: Config, *, file: Path, as_json: bool) -> None:
    """Make a key that signs heads: the private one in FILE, for QUARTERDECK_AUDIT_KEY, the public one in FILE.pub.

    Example: quarterdeck audit keygen audit-key.pem
    """
    from core.audit.heads import make_keys
    from core.errors import Conflict, SourceUnavailable

    public = file.with_name(f"{file.name}.pub")
    try:
        for path, pem in zip((file, public), make_keys(), strict=True):
            with path.open("xb") as out:
                path.chmod(0o600)
                out.write(pem)
    except FileExistsError as error:
        raise Conflict(f"{error.filename} already exists; choose another name") from error
    except OSError as error:
        raise SourceUnavailable(f"{file} cannot be written: {error.strerror}") from error
    show(as_json, {"private": str(file), "public": str(public)}, [f"keep {file} secret; {public} verifies its heads"])


def _read_heads(named: str) -> str:
    from core.errors import SourceUnavailable

    try:
        return Path(named).read_text(encoding="utf-8") if Path(named).exists() else named
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnavailable(f"{named} cannot be read: {error}") from error


def _read_key(config: Config, named: Path | None) -> bytes:
    from core.errors import InvalidInput, SourceUnavailable

    path = named or config.audit_key
    if path is None:
        raise InvalidInput("key", "say whose signatures these are: --key FILE, or set QUARTERDECK_AUDIT_KEY")
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceUnavailable(f"{path} cannot be read: {error.strerror}") from error
