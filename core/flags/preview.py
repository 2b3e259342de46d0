"""Shell: shows what a change of a flag would do to recent users, before it is saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from core.errors import SourceUnavailable
from core.flags.impact import Impact, measure_impact
from core.log.exposures import list_exposures
from core.log.retrievals import list_recent_users
from quarterdeck.clock import to_ms
from quarterdeck.scope import Scope, fold_environment
from quarterdeck.store import Store

RECENT_DAYS = 7


@dataclass(frozen=True, slots=True)
class Users:
    """The users for a preview: the ids of recent users, their source, and why none could be read, if so."""

    ids: tuple[str, ...] = ()
    source: str = ""
    problem: str = ""


def find_recent_users(store: Store, environment: str, flag: str, *, now: datetime) -> Users:
    """Return the users of the last week: those of the retrieval log, else the users of the flag's experiment."""
    since = now - timedelta(days=RECENT_DAYS)
    try:
        if ids := list_recent_users(store, since_ms=to_ms(since), scope=Scope(fold_environment(environment), "")):
            return Users(ids, f"users of the last {RECENT_DAYS} days")
        exposed = sorted({noted.targeting_key for noted in list_exposures(store, environment, flag)})
    except SourceUnavailable as error:  # flags must stay changeable while the log is unavailable
        return Users(problem=str(error))
    return Users(tuple(exposed), "users of its experiment") if exposed else Users()


def preview_change(
    store: Store, environment: str, key: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, *,
    now: datetime,
) -> tuple[Impact, Users]:  # fmt: skip
    """Return for how many recent users the answer would change, and these users."""
    users = find_recent_users(store, environment, key, now=now)
    return measure_impact(key, before, after, users.ids), users
