"""Shell: accepts a level of scores as the new normal, with its audit entry."""

from datetime import date

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import Family, get_setting, save_setting, scope_key
from core.drift.audited import AcceptedLevel, name_level
from core.drift.scales import ModelMap
from quarterdeck.scope import DEFAULT_SERVICE, Scope, fold_environment
from quarterdeck.store import Store


def save_model_map(store: Store, found: ModelMap, by: Act, *, service: str = DEFAULT_SERVICE) -> int:
    """Keep the map between two embedding models of a service: its drift reference goes on across that change.

    The environment is that of the act. A map between the same two models is replaced. Raises Conflict.
    """
    name = scope_key(Family.MODEL_MAP, Scope(fold_environment(by.environment), service))
    stored, version = get_setting(store, name)
    same = {found.former, found.model}
    known = [ModelMap.read(each) for each in stored or ()]
    kept = [each for each in known if {each.former, each.model} != same]
    before = next((each for each in known if {each.former, each.model} == same), None)
    with changing(store, by) as change:
        save_setting(change.connection, name, [each.to_audit() for each in (*kept, found)], expected_version=version)
        change.record(Action.DRIFT_MAP, name_level(service), before, found)
    return change.entry_id


def accept_level(store: Store, accepted_on: date | None, by: Act, *, service: str = DEFAULT_SERVICE) -> int:
    """Accept the level of a service's scores since `accepted_on` as normal: the drift reference restarts there.

    The environment is that of the act. None withdraws the acceptance.
    """
    name = scope_key(Family.ACCEPTED_LEVEL, Scope(fold_environment(by.environment), service))
    stored, version = get_setting(store, name)
    after = AcceptedLevel(accepted_on) if accepted_on else None
    with changing(store, by) as change:
        save_setting(change.connection, name, after.to_audit() if after else None, expected_version=version)
        change.record(Action.DRIFT_ACCEPT, name_level(service), AcceptedLevel.read(stored), after)
    return change.entry_id
