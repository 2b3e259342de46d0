"""Shell: adds environments, each with its audit entry."""

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.environments import check_environment, list_environments
from core.audit.settings import Family, get_setting, save_setting, setting_key
from core.errors import Conflict, InvalidInput
from quarterdeck.scope import fold_environment
from quarterdeck.store import Store


def add_environment(store: Store, name: str, by: Act) -> int:
    """Add an environment before it has any flag. Raises InvalidInput, and Conflict if it exists."""
    check_environment(name)
    if (meant := fold_environment(name)) != name.casefold():
        raise InvalidInput("environment", f"{name} is an alias of {meant}; see QUARTERDECK_ENVIRONMENT_ALIASES")
    if name in list_environments(store, by.environment):
        raise Conflict(f"environment {name!r} already exists")
    key = setting_key(Family.ENVIRONMENTS)
    added, version = get_setting(store, key)
    with changing(store, by) as change:
        save_setting(change.connection, key, sorted([*(added or ()), name]), expected_version=version)
        change.record(Action.ENVIRONMENT_ADD, name, None, {"name": name})
    return change.entry_id
