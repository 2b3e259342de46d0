"""Shell that adds environments, each with its audit entry."""

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.environments import check_environment, list_environments
from core.audit.settings import Family, get_setting, save_setting, setting_key
from core.errors import Conflict
from quarterdeck.store import Store


def add_environment(store: Store, name: str, by: Act) -> int:
    """Make an environment known before it holds any flag. Raises InvalidInput, and Conflict when there is one."""
    check_environment(name)
    if name in list_environments(store, by.environment):
        raise Conflict(f"environment {name!r} is there already")
    key = setting_key(Family.ENVIRONMENTS)
    added, version = get_setting(store, key)
    with changing(store, by) as change:
        save_setting(change.connection, key, sorted([*(added or ()), name]), expected_version=version)
        change.record(Action.ENVIRONMENT_ADD, name, None, {"name": name})
    return change.entry_id
