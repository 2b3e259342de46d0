"""Shell: shows what a change of a flag would do to recent users, before it is saved."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from core.errors import SourceUnavailable
from core.flags.impact import Impact, measure_impact
from core.flags.sentences import list_attributes
from core.log.exposures import list_exposures
from core.log.retrievals import list_recent_attributes, list_recent_users
from quarterdeck.clock import to_ms
from quarterdeck.scope import Scope, fold_environment
from quarterdeck.store import Store

RECENT_DAYS = 7


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the retrieval log says about the attributes that rules ask for, by user, and why it says nothing, if so."""

    names: tuple[str, ...] = ()
    contexts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problem: str = ""

    def count_known(self, name: str, users: Iterable[str]) -> int:
        """For how many of these users an attribute is known."""
        return sum(name in self.contexts.get(user, ()) for user in users)


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


def find_knowledge(store: Store, environment: str, names: Sequence[str], *, now: datetime) -> Knowledge:
    """Return what the log knows of these attributes of the users of the last week, from its newest rows."""
    if not names:
        return Knowledge()
    since = to_ms(now - timedelta(days=RECENT_DAYS))
    try:
        scope = Scope(fold_environment(environment), "")
        return Knowledge(tuple(names), list_recent_attributes(store, names, since_ms=since, scope=scope))
    except SourceUnavailable as error:
        return Knowledge(tuple(names), problem=str(error))


def describe_knowledge(known: Knowledge, users: Sequence[str]) -> tuple[str, ...]:
    """Return what the count can say about rules on attributes, and what it cannot, one sentence for each attribute."""
    lines = []
    for name in known.names:
        count = known.count_known(name, users)
        if not count:
            lines.append(f"{name} is not in the retrieval log: the count takes it for missing.")
        elif count < len(users):
            lines.append(f"{name} is known for {count:,} of {len(users):,}; the count takes it for missing elsewhere.")
        else:
            lines.append(f"{name} is known for all of them.")
    if known.names:
        lines.append("Services may ask with other values than they log.")
    return tuple(lines)


def preview_change(
    store: Store, environment: str, key: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, *,
    now: datetime,
) -> tuple[Impact, Users]:  # fmt: skip
    """Return for how many recent users the answer would change, and these users."""
    users = find_recent_users(store, environment, key, now=now)
    known = find_knowledge(store, environment, list_attributes(before, after), now=now)
    return measure_impact(key, before, after, users.ids, known.contexts), users
