"""Gateway to the store's schema over time: upgrades a store of an earlier release to this one, with Alembic.

The migrations live here, with the deck; the client package makes new stores and refuses old ones. An upgrade is one
transaction: a server that is killed in the middle of it leaves the former store, and of two servers one upgrades.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from core.errors import Conflict
from quarterdeck.schema import REVISION
from quarterdeck.store import Store
from quarterdeck.triggers import make_triggers

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).with_name("migrations")


@dataclass(frozen=True, slots=True)
class Migration:
    """A store's revisions before and after; equal if there was nothing to do."""

    before: str
    after: str

    @property
    def was_needed(self) -> bool:
        """Whether anything was migrated."""
        return self.before != self.after


def migrate(store: Store) -> Migration:
    """Migrate a store with its data to this release's schema. A store that does not exist yet is left alone.

    Raises Conflict if a newer release made it, SourceUnavailable if it cannot be read.
    """
    if store.find_revision() in (REVISION, None):
        return Migration(REVISION, REVISION)
    with store.begin_schema() as (connection, revision):
        if revision in (REVISION, None):
            return Migration(REVISION, REVISION)  # another server did it first
        if revision not in list_revisions():
            raise Conflict(store.describe_foreign(revision))
        _upgrade(connection)
        make_triggers(connection)
    return Migration(revision, REVISION)


def list_revisions() -> tuple[str, ...]:
    """Return every known revision, oldest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_configure())
    return tuple(script.revision for script in reversed(list(scripts.walk_revisions())))


def _upgrade(connection: Connection) -> None:
    from alembic import command

    config = _configure()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _configure() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
