"""Shell that accepts a level of scores as the new normal, with its audit entry."""

from datetime import date

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import Family, get_setting, save_setting, setting_key
from core.drift.audited import AcceptedLevel
from quarterdeck.store import Store


def accept_level(store: Store, accepted_on: date | None, by: Act) -> int:
    """Take the level of scores from `accepted_on` on as the new normal: the drift reference restarts there.

    None takes back whatever was accepted.
    """
    name = setting_key(Family.ACCEPTED_LEVEL, by.environment)
    stored, version = get_setting(store, name)
    after = AcceptedLevel(accepted_on) if accepted_on else None
    with changing(store, by) as change:
        save_setting(change.connection, name, after.to_audit() if after else None, expected_version=version)
        change.record(Action.DRIFT_ACCEPT, "retrieval score", AcceptedLevel.read(stored), after)
    return change.entry_id
