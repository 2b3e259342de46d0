"""Shell: assembles the list of flags: each flag with its state in every environment, its use and its age."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.flags.schedule import OPEN, Schedule
from core.flags.store import Flag, list_flags
from core.flags.timetable import list_schedules
from core.flags.upkeep import Details, Use, describe_state, find_staleness, read_details
from core.log.exposures import list_usage
from quarterdeck.store import Store

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One flag of the environment that is looked at. `elsewhere` is its state in the others, "" where it is not."""

    flag: Flag
    details: Details
    elsewhere: tuple[tuple[str, str], ...]
    evaluations: int | None
    staleness: tuple[str, ...]
    schedule: Schedule | None

    def fits(
        self, *, search: str = "", tags: Sequence[str] = (), owner: str | None = None, stale: bool = False
    ) -> bool:
        """Whether the flag is one of those looked for: every word somewhere in its texts, every tag among its own."""
        texts = (self.flag.key, self.details.description, self.details.owner, *self.details.tags)
        found = all(any(word in text.casefold() for text in texts) for word in search.casefold().split())
        owned = owner is None or self.details.owner == owner
        return found and owned and set(tags) <= set(self.details.tags) and (bool(self.staleness) or not stale)


def list_board(store: Store, environment: str, *, environments: Sequence[str], now: datetime) -> tuple[BoardRow, ...]:
    """Return every flag of the environment, by key. Where no client reports evaluations their number is None."""
    usage = list_usage(store, environment, since=now - DAY)
    planned = {each.flag: each for each in list_schedules(store, environment=environment, states=OPEN)}
    others = {
        name: {flag.key: describe_state(flag.view) for flag in list_flags(store, name)}
        for name in environments
        if name != environment
    }
    rows = []
    for flag in list_flags(store, environment):
        used = usage.get(flag.key)
        use = Use(used.last_hour if used else None, is_reported=bool(usage))
        rows.append(
            BoardRow(
                flag,
                read_details(flag.view),
                tuple((name, states.get(flag.key, "")) for name, states in others.items()),
                (used.evaluations if used else 0) if usage else None,
                find_staleness(flag.view, updated=flag.updated, use=use, now=now),
                planned.get(flag.key),
            )
        )
    return tuple(rows)
