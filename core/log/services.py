"""Gateway to what is known of services: their settings, and since when each of them reports."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import select

from core.audit.settings import Family, SettingKey, get_setting, setting_key
from core.errors import InvalidInput
from quarterdeck.clock import to_ms
from quarterdeck.schema import DIMENSIONS, scopes, settings
from quarterdeck.scope import Scope
from quarterdeck.similarity import check_kind
from quarterdeck.store import Store

UTC_NAME = "UTC"
KEYS = frozenset({"dimensions", "zone", "trace_link", "score_kind", "keep_answers", "budget_usd"})  # in the stored JSON
NEW_FOR = timedelta(days=7)
MOST_DIMENSIONS = 20
_LONGEST_NAME, _LONGEST_LINK = 64, 500


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """The settings of a service, in all its environments. Raises InvalidInput, naming the field.

    - `dimensions`: the attributes that get rollups, besides the built-in dimensions.
    - `zone`: the time zone of its days, an IANA name.
    - `trace_link`: the address of a trace, with `{trace_id}` in it; "" for none.
    - `score_kind`: what its scores are where a row does not say it; "" is a cosine.
    - `keep_answers`: whether the answers in its traces are stored: they are text of users.
    - `budget_usd`: what its answers may cost a day, a line on the quality tab; None for none.
    """

    name: str
    dimensions: tuple[str, ...] = ()
    zone: str = UTC_NAME
    trace_link: str = ""
    score_kind: str = ""
    keep_answers: bool = False
    budget_usd: float | None = None
    version: int = 0

    def __post_init__(self) -> None:
        if len(self.dimensions) > MOST_DIMENSIONS:
            raise InvalidInput("dimensions", f"must be at most {MOST_DIMENSIONS}, not {len(self.dimensions)}")
        for name in self.dimensions:
            if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or name in DIMENSIONS:
                problem = f"must be attributes of 1 to {_LONGEST_NAME} printable characters, not {name[:80]!r}"
                raise InvalidInput("dimensions", problem)
        find_zone(self.zone)
        if self.trace_link and (
            "{trace_id}" not in self.trace_link
            or not self.trace_link.startswith(("https://", "http://"))
            or len(self.trace_link) > _LONGEST_LINK
        ):
            raise InvalidInput("trace_link", "must be an http or https address with {trace_id} in it")
        if self.score_kind:
            check_kind(self.score_kind)
        if self.budget_usd is not None and not 0 < self.budget_usd < math.inf:
            raise InvalidInput("budget_usd", f"must be more than 0 USD a day, not {self.budget_usd!r}")

    def to_audit(self) -> dict[str, Any]:
        """Return the settings as JSON knows them: those that were set."""
        told = {"dimensions": list(self.dimensions), "trace_link": self.trace_link, "score_kind": self.score_kind}
        zone = {} if self.zone == UTC_NAME else {"zone": self.zone}
        answers = {"keep_answers": True} if self.keep_answers else {}
        budget = {} if self.budget_usd is None else {"budget_usd": self.budget_usd}
        return {name: value for name, value in told.items() if value} | zone | answers | budget

    def link_to(self, trace_id: str) -> str:
        """Return the address of a trace; "" where the service has none. What is no plain character is escaped."""
        return self.trace_link.replace("{trace_id}", quote(trace_id, safe="")) if trace_id else ""


def service_key(name: str) -> SettingKey:
    """Return the name of the setting of a service."""
    return setting_key(Family.SERVICE, name)


def get_service(store: Store, name: str) -> ServiceSettings:
    """Return the settings of a service; the defaults where none was saved. Invalid ones count as not set."""
    stored, version = get_setting(store, service_key(name))
    told: dict[str, Any] = stored if isinstance(stored, dict) else {}
    named = told.get("dimensions")
    values: dict[str, Any] = {"dimensions": tuple(map(str, named)) if isinstance(named, list) else ()}
    values |= {field: told.get(field) or "" for field in ("trace_link", "score_kind")}
    values |= {"zone": told.get("zone") or UTC_NAME, "budget_usd": told.get("budget_usd")}
    kept: dict[str, Any] = {}
    for field, value in values.items():
        try:
            ServiceSettings(name, **{field: value})
        except (InvalidInput, AttributeError, TypeError):
            continue
        kept[field] = value
    return ServiceSettings(name, **kept, keep_answers=told.get("keep_answers") is True, version=version)


def find_zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name. Raises InvalidInput."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput("zone", f"must be the name of a time zone, like Europe/Berlin, not {name[:80]!r}") from error


def list_saved_names(store: Store) -> frozenset[str]:
    """Return the names of the services whose settings were saved."""
    named = select(settings.c.name).where(settings.c.name.startswith(Family.SERVICE, autoescape=True))
    with store.read() as connection:
        return frozenset(name.removeprefix(Family.SERVICE) for name in connection.scalars(named))


def list_new_scopes(store: Store, *, now: datetime) -> frozenset[Scope]:
    """Return the scopes that began to report in the last week, in a store where others have reported for longer."""
    since = to_ms(now - NEW_FOR)
    with store.read() as connection:
        c = scopes.c
        rows = connection.execute(select(c.environment, c.service, c.first_seen_ms)).all()
    new = frozenset(Scope(row.environment, row.service) for row in rows if row.first_seen_ms >= since)
    return new if len(new) < len(rows) else frozenset()
