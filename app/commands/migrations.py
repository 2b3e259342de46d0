"""The command `migrate`: upgrade the shared store to this release. `serve` and `demo` do it automatically."""

import click

from app.commands.common import common, open_store, show
from core.config import Config


@click.command()
@common
def migrate(config: Config, *, as_json: bool) -> None:
    """Upgrade a shared store of an earlier release to this one, with its data.

    Example: quarterdeck migrate
    """
    from core.log.dimensions import declare_dimensions
    from core.store.backfill import backfill, backfill_log, find_progress
    from core.store.migrator import migrate as migrate_store

    store = open_store(config)
    done = migrate_store(store)
    if find_progress(store).share < 1:
        backfill(store, lambda progress: click.echo(f"rows of earlier releases: {progress.share:.0%}", err=True))
    declare_dimensions(store)
    backfill_log(store)
    said = f"migrated from schema revision {done.before} to {done.after}" if done.was_needed else "nothing to do"
    show(as_json, done, [said])
