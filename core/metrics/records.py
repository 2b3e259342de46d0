"""Gateway to the metrics that people define: each is a setting of its environment, with a version of its own."""

from sqlalchemy import Connection

from core.audit.settings import Family, get_setting, list_settings, save_setting, setting_key
from core.metrics.definition import MetricDefinition, read_metric, write_metric
from quarterdeck.store import Store


def list_own_metrics(store: Store, environment: str) -> tuple[MetricDefinition, ...]:
    """Return the metrics that were defined in an environment, by name."""
    kept = [setting.value for setting in list_settings(store, Family.METRIC, environment)]
    return tuple(sorted((read_metric(each) for each in kept if each), key=lambda metric: metric.name.casefold()))


def get_own_metric(store: Store, environment: str, name: str) -> tuple[MetricDefinition | None, int]:
    """Return one metric, None where there is none, and the version that the next writer has to expect."""
    kept, version = get_setting(store, setting_key(Family.METRIC, environment, name.strip().casefold()))
    return (read_metric(kept) if kept else None), version


def save_own_metric(
    connection: Connection, environment: str, name: str, metric: MetricDefinition | None, *, expected_version: int
) -> None:
    """Save a metric, or None in its place. Raises Conflict if somebody else was faster."""
    key = setting_key(Family.METRIC, environment, name.strip().casefold())
    save_setting(connection, key, write_metric(metric) if metric else None, expected_version=expected_version)
