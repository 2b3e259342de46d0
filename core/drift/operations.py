"""Shell: accepts a level of scores as the new normal, with its audit entry."""

from datetime import date

from core.audit.acts import Act, changing
from core.audit.settings import get_setting, save_setting
from core.drift.report import accepted_level_setting
from quarterdeck.store import Store


def accept_level(store: Store, accepted_on: date | None, by: Act) -> int:
    """Take the level of scores from `accepted_on` on as the new normal: the drift reference restarts there.

    None takes back whatever was accepted.
    """
    name = accepted_level_setting(by.environment)
    former, version = get_setting(store, name)
    after = {"accepted_on": accepted_on.isoformat()} if accepted_on else None
    with changing(store, by) as change:
        save_setting(change.connection, name, after, expected_version=version)
        change.record("drift.accept", "retrieval score", former, after)
    return change.entry_id
