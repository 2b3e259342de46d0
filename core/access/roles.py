"""Shell: grants and revokes roles, and ends sign-ins. The grants are one setting of the store; changes are audited.

`core.audit.permissions` decides what a role allows; the entry points find out who somebody is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from core.access.sessions import end_sessions_of
from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.permissions import EVERYWHERE, Grant, Role, fold_name
from core.audit.settings import Family, get_setting, save_setting, setting_key
from core.errors import NotFound
from quarterdeck.store import Store

_SETTING = setting_key(Family.ROLES)


def list_grants(store: Store) -> tuple[Grant, ...]:
    """Return every grant, by name and environment."""
    return _read_grants(store)[0]


def grant_role(store: Store, grant: Grant, by: Act) -> int:
    """Grant somebody a role, replacing their present one in that environment; return the audit entry's id.

    Requires an admin of the grant's environment; for a role everywhere, an admin everywhere.
    """
    grants, version = _read_grants(store)
    former = _find(grants, grant)
    return _save(
        store, grant, replace(by, environment=grant.environment),
        kept=[each for each in grants if each != former], before=former, after=grant, version=version,
    )  # fmt: skip


def revoke_role(store: Store, who: str, environment: str, by: Act) -> int:
    """Revoke somebody's role in one environment, or everywhere (`*`). Raises NotFound."""
    grants, version = _read_grants(store)
    former = _find(grants, Grant(who, Role.VIEWER, environment))
    if former is None:
        raise NotFound(f"role: {who!r} has none in {environment!r}; to list all: quarterdeck roles list")
    return _save(
        store, former, replace(by, environment=environment),
        kept=[each for each in grants if each != former], before=former, after=None, version=version,
    )  # fmt: skip


def end_sign_ins(store: Store, who: str, by: Act) -> int:
    """End every session of a person on every server; they have to sign in again. Return the audit entry's id.

    Requires an admin everywhere. Raises InvalidInput for an invalid name.
    """
    Grant(who, Role.VIEWER)
    with changing(store, replace(by, environment=EVERYWHERE)) as change:
        end_sessions_of(change.connection, who, now_ms=change.at_ms)
        change.record(Action.SESSION_END, who, None, None)
    return change.entry_id


def _save(
    store: Store, about: Grant, by: Act, *, kept: list[Grant], before: Grant | None, after: Grant | None, version: int
) -> int:
    stored = [_to_row(each) for each in sorted([*kept, *([after] if after else [])], key=_order)]
    with changing(store, by) as change:
        save_setting(change.connection, _SETTING, stored, expected_version=version)
        former, new = (_describe(each) if each else None for each in (before, after))
        change.record(Action.ROLE_GRANT if after else Action.ROLE_REVOKE, about.who, former, new)
    return change.entry_id


def _read_grants(store: Store) -> tuple[tuple[Grant, ...], int]:
    stored, version = get_setting(store, _SETTING)
    return tuple(_from_row(row) for row in stored or ()), version


def _find(grants: Iterable[Grant], wanted: Grant) -> Grant | None:
    """Return the grant of the same person for the same environment."""
    same = (fold_name(wanted.who), wanted.environment)
    return next((each for each in grants if (fold_name(each.who), each.environment) == same), None)


def _order(grant: Grant) -> tuple[str, str]:
    return fold_name(grant.who), grant.environment


def _describe(grant: Grant) -> dict[str, str | bool]:
    """Return what the trail says of a grant; whether it includes reading questions only where it does not."""
    return {"role": str(grant.role)} | ({} if grant.questions else {"questions": False})


def _to_row(grant: Grant) -> dict[str, str | bool]:
    return {"who": grant.who, **_describe(grant), "environment": grant.environment}


def _from_row(row: Mapping[str, Any]) -> Grant:
    return Grant(row["who"], Role(row["role"]), row["environment"], bool(row.get("questions", True)))
