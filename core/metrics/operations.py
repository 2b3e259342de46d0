"""Shell: defines and removes metrics of an environment, with an audit entry."""

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.errors import Conflict, InvalidInput, NotFound
from core.metrics.builtin import BUILT_IN
from core.metrics.definition import MetricDefinition, write_metric
from core.metrics.records import get_own_metric, list_own_metrics, save_own_metric
from quarterdeck.store import Store

MOST_METRICS = 100  # of one environment
# Commands and plans take these for built-in metrics, also with dashes.
_TAKEN = {each.name for each in BUILT_IN} | {"errors"}


def add_metric(store: Store, metric: MetricDefinition, by: Act) -> int:
    """Define a metric in the act's environment. Returns the audit entry's id.

    Raises Conflict if the name is taken, and InvalidInput for the name of a built-in metric or one metric too many.
    """
    if metric.name.casefold().replace("-", " ") in _TAKEN:
        raise InvalidInput("name", f"{metric.name!r} is a built-in metric; choose another name")
    known, version = get_own_metric(store, by.environment, metric.name)
    if known is not None:
        raise Conflict(f"a metric named {known.name!r} already exists in {by.environment}; remove it first")
    if len(list_own_metrics(store, by.environment)) >= MOST_METRICS:
        raise InvalidInput("name", f"an environment has at most {MOST_METRICS} metrics; remove one first")
    with changing(store, by) as change:
        save_own_metric(change.connection, by.environment, metric.name, metric, expected_version=version)
        change.record(Action.METRIC_ADD, metric.name, None, write_metric(metric))
    return change.entry_id


def remove_metric(store: Store, name: str, by: Act) -> int:
    """Remove a metric of the act's environment. Returns the audit entry's id. Raises NotFound, listing the others.

    Experiments keep the definition that they started with. A canary that names it waits until its plan changes.
    """
    known, version = get_own_metric(store, by.environment, name)
    if known is None:
        names = ", ".join(each.name for each in list_own_metrics(store, by.environment)) or "none"
        raise NotFound(f"metric: no own metric {name[:60]!r} in {by.environment}; there are: {names}")
    with changing(store, by) as change:
        save_own_metric(change.connection, by.environment, name, None, expected_version=version)
        change.record(Action.METRIC_REMOVE, known.name, write_metric(known), None)
    return change.entry_id
