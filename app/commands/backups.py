"""The commands `backup` and `restore`: the shared store to one file and back."""

from datetime import UTC, datetime
from pathlib import Path

import click

from app.commands.common import common, open_store, show
from core.audit.acts import Act
from core.config import Config


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@common
def backup(config: Config, *, file: Path, as_json: bool) -> None:
    """Back up the store to FILE while it is in use, and verify the copy.

    Example: quarterdeck backup /srv/backups/deck-$(date +%F).zip
    """
    from core.store.backups import write_backup

    made = write_backup(open_store(config), file, now=datetime.now(UTC))
    lines = [f"{sum(made.rows.values()):,} rows of {len(made.rows)} tables are in {file}, verified"]
    if config.log_url != config.database_url:
        lines.append(
            "The retrieval log is in another database and not included: back it up with that database's tools."
        )
    show(as_json, made, lines)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only verify FILE.")
@click.option("--replace", is_flag=True, help="Replace a store that is not empty.")
@click.option(
    "--reason", default="restored from the command line", show_default=True, help="Why: it goes into the audit trail."
)
@common
def restore(config: Config, *, file: Path, check: bool, replace: bool, reason: str, as_json: bool) -> None:
    """Restore the store from FILE. First stop everything that has the store open.

    Example: quarterdeck restore /srv/backups/deck-2026-11-25.zip --reason "the disk failed"
    """
    from core.store.backups import restore_backup, verify_backup
    from core.store.operations import record_restore

    if check:
        found = verify_backup(file)
        show(as_json, found, [f"{file} is intact: {sum(found.rows.values()):,} rows, written {found.created}"])
        return
    act = Act(config.operator, reason, config.environment)
    found, former = restore_backup(file, config.database_url, replace=replace, now=datetime.now(UTC))
    entry = record_restore(open_store(config), found.created, act)
    lines = [f"The store is as it was at {found.created} (audit entry {entry})."]
    show(as_json, {"backup": found, "former": str(former or "")}, lines + ([f"Before: {former}"] if former else []))
