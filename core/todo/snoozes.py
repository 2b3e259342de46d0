"""Gateway to what was put off: lines of the to-do list of a scope, each until the end of a day."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection

from core.audit.settings import Family, SettingKey, get_setting, save_setting, scope_key
from quarterdeck.scope import Scope
from quarterdeck.store import Store

LONGEST_KEY = 300
MOST_KEPT = 200


@dataclass(frozen=True, slots=True)
class Snooze:
    """How long a line is put off, as the audit trail keeps it."""

    until: date

    def to_audit(self) -> dict[str, Any]:
        """Return the day as JSON knows it."""
        return {"until": self.until.isoformat()}

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "Snooze | None":
        """Return what `to_audit` wrote; None where nothing was put off."""
        return cls(date.fromisoformat(told["until"])) if told and told.get("until") else None


def read_snoozes(store: Store, scope: Scope) -> tuple[dict[str, date], int]:
    """Return until when each line of a scope is put off, by its key, and the version that the next writer expects."""
    stored, version = get_setting(store, _key(scope))
    return {key: date.fromisoformat(until) for key, until in (stored or {}).items()}, version


def save_snoozes(connection: Connection, scope: Scope, snoozes: Mapping[str, date], *, expected_version: int) -> None:
    """Save until when lines are put off; the latest 200 are kept. Raises Conflict if somebody else was faster."""
    latest = sorted(snoozes.items(), key=lambda each: each[1], reverse=True)[:MOST_KEPT]
    value = {key: until.isoformat() for key, until in latest}
    save_setting(connection, _key(scope), value, expected_version=expected_version)


def _key(scope: Scope) -> SettingKey:
    return scope_key(Family.SNOOZE, scope)
