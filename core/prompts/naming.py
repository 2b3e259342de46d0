"""Shell: keeps for each MLflow experiment under which names its runs keep their figures, with an audit entry."""

from collections.abc import Mapping

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import Family, get_setting, list_settings, save_setting, setting_key
from core.errors import InvalidInput, SourceUnavailable
from core.tracking.conventions import USUAL, RunNames
from quarterdeck.store import Store


def list_naming(store: Store) -> Mapping[str, RunNames]:
    """Return the names of every experiment that has some. Raises SourceUnavailable."""
    kept = [setting.value for setting in list_settings(store, Family.RUN_NAMES) if setting.value]
    return {str(each["experiment"]): RunNames.read(each) for each in kept}


def read_naming(database_url: str) -> Mapping[str, RunNames]:
    """Return the names of every experiment; none where there is no store yet, since MLflow can be read without one."""
    store = Store(database_url)
    try:
        return list_naming(store)
    except SourceUnavailable:
        return {}
    finally:
        store.close()


def save_names(store: Store, experiment: str, names: RunNames, by: Act) -> int:
    """Save under which names an experiment's runs keep their figures; return the audit entry's id.

    Raises InvalidInput if nothing changes, Forbidden, and Conflict if somebody else was faster.
    """
    if not experiment.strip():
        raise InvalidInput("experiment", "is empty; choose an MLflow experiment")
    key = setting_key(Family.RUN_NAMES, experiment)
    kept, version = get_setting(store, key)
    former = RunNames.read(kept)
    if names == former:
        raise InvalidInput("names", "are as they were")
    with changing(store, by) as change:
        value = {"experiment": experiment, **names.to_audit()} if names != USUAL else None
        save_setting(change.connection, key, value, expected_version=version)
        change.record(Action.PROMPT_MAP, experiment, former, names)
    return change.entry_id
