"""Gateway to the settings: named values in the store, each with the version that the next writer has to expect.

Every name is made by `setting_key`, so no two facts can share one. Writing functions take the open transaction of
`core.audit.acts.changing`, so no change lands without its audit entry.
"""

import hashlib
import json
import uuid
from enum import StrEnum
from typing import Any, NamedTuple, NewType

from sqlalchemy import Connection, Table, insert, select, update

from core.errors import Conflict, InvalidInput
from quarterdeck.news import tell_news
from quarterdeck.schema import settings
from quarterdeck.scope import DEFAULT_SERVICE, Scope
from quarterdeck.snapshot import STATE_VERSION
from quarterdeck.store import Store

SettingKey = NewType("SettingKey", str)


class Family(StrEnum):
    """Which facts are kept as settings: how the names of each family begin in the stores that there are."""

    ROLES = "roles"
    APPROVALS = "approvals"
    ENVIRONMENTS = "environments"
    ACCEPTED_LEVEL = "accepted_level:"
    ALERTS = "alerts:"
    ALERT_STATE = "alert_state:"
    ALERT_QUEUE = "alert_queue:"
    ALERT_RULES = "alert_rules:"  # these two of release 0.1: read until the first change
    ALERT_TOLD = "alert_told:"
    DEPLOYMENT = "deployment:"
    EXPERIMENT = "experiment:"
    HOLDOUT = "holdout:"
    LAYER = "layer:"
    PREDICTION = "prediction:"
    PROBE = "probe:"
    PROMOTION = "promotion:"
    REPLAY = "replay:"
    RUN_NAMES = "run_names:"
    TOPIC_SUMMARY = "topic_summary:"
    PREDICTION_OF = "prediction_of:"  # of other scopes than the first one
    SERVICE = "service:"
    SNOOZE = "snooze:"
    TOPIC_ISSUE = "topic_issue:"
    VIEWS = "views:"
    METRIC = "metric:"
    IMPORTED_FILE = "import."
    IMPORTED_TRACES = "mlflow."
    BACKFILL = "backfill:"
    DIGEST_SENT = "digest_sent:"
    EMERGING = "emerging:"
    MODEL_MAP = "model_map:"


MAX_KEY = 256  # what the column of the names holds
_LONGEST_SCOPE = 100
_SAID = {  # what the last part of a name is, for whoever gave one that is too long
    Family.ACCEPTED_LEVEL: "environment",
    Family.ALERTS: "environment",
    Family.ALERT_STATE: "alert rule",
    Family.ALERT_QUEUE: "channel",
    Family.ALERT_RULES: "environment",
    Family.ALERT_TOLD: "alert rule",
    Family.DEPLOYMENT: "service",
    Family.EXPERIMENT: "experiment",
    Family.HOLDOUT: "environment",
    Family.LAYER: "layer",
    Family.PREDICTION: "corpus version",
    Family.PREDICTION_OF: "corpus version",
    Family.SERVICE: "service",
    Family.PROBE: "index",
    Family.PROMOTION: "prompt",
    Family.REPLAY: "candidate",
    Family.VIEWS: "environment",
    Family.RUN_NAMES: "experiment",
    Family.TOPIC_SUMMARY: "topic",
    Family.TOPIC_ISSUE: "topic",
    Family.SNOOZE: "service",
    Family.DIGEST_SENT: "service",
    Family.METRIC: "metric",
}


def setting_key(family: Family, *parts: str) -> SettingKey:
    """Return the name of a setting: all parts but the last are environments.

    Raises InvalidInput where two facts would share a name: for one that would have to be cut, and for an environment
    with a colon.
    """
    if any(":" in part for part in parts[:-1]):
        raise InvalidInput("environment", f"must not hold a colon, as {parts[0][:80]!r} does")
    key = f"{family}{':'.join(parts)}"
    if len(key) > MAX_KEY:
        longest = MAX_KEY - len(key) + len(parts[-1])
        problem = f"must be at most {max(0, longest)} characters to be kept, not {len(parts[-1])}"
        raise InvalidInput(_SAID.get(family, str(family)), problem)
    return SettingKey(key)


def scope_key(family: Family, scope: Scope, *parts: str) -> SettingKey:
    """Return the name of a setting of a scope. That of the service `default` is the one of its environment.

    Names that are too long are shortened and end in a digest. Raises InvalidInput as `setting_key` does.
    """
    return setting_key(family, name_scope(scope), *parts)


def name_scope(scope: Scope) -> str:
    """Return a name of a scope without colons, different for every scope.

    >>> name_scope(Scope("production", "default")), name_scope(Scope("staging", "answers"))
    ('production', 'staging@answers')
    """
    environment, service = (
        name.replace("%", "%25").replace(":", "%3A").replace("@", "%40") for name in (scope.environment, scope.service)
    )
    name = environment if scope.service == DEFAULT_SERVICE else f"{environment}@{service}"
    if len(name) <= _LONGEST_SCOPE:
        return name
    return f"{name[:_LONGEST_SCOPE]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class Setting(NamedTuple):
    """A named fact, and the version that the next writer has to expect."""

    value: Any
    version: int


def get_setting(store: Store, name: SettingKey) -> Setting:
    """Return a setting; None with version 0 when it was never set."""
    with store.read() as connection:
        row = connection.execute(select(settings.c.value, settings.c.version).where(settings.c.name == name)).first()
    return Setting(json.loads(row.value), row.version) if row else Setting(None, 0)


def list_settings(store: Store, family: Family, environment: str | None = None) -> tuple[Setting, ...]:
    """Return the settings of a family, of one environment where the family has them, in the order of their names."""
    wanted = settings.c.name.startswith(f"{family}{environment}:" if environment else family, autoescape=True)
    with store.read() as connection:
        query = select(settings.c.value, settings.c.version).where(wanted).order_by(settings.c.name)
        return tuple(Setting(json.loads(row.value), row.version) for row in connection.execute(query))


def save_versioned(
    connection: Connection, table: Table, identity: dict[str, Any], values: dict[str, Any], *, expected_version: int
) -> None:
    """Insert (expected version 0) or update a row with optimistic locking. Raises Conflict; overwrites nothing."""
    same = [table.c[name] == value for name, value in identity.items()]
    found = connection.scalar(select(table.c.version).where(*same)) or 0
    if found != expected_version:
        name = next(reversed(identity.values()))
        raise Conflict(
            f"{name!r} is at version {found}, you changed version {expected_version}: somebody else was faster. "
            "Nothing was overwritten; reload to see their change."
        )
    if found:
        connection.execute(update(table).where(*same).values(**values, version=found + 1))
    else:
        connection.execute(insert(table).values(**identity, **values, version=1))


def save_setting(connection: Connection, name: SettingKey, value: Any, *, expected_version: int) -> None:
    """Save a setting with optimistic locking. Raises Conflict if somebody else changed it first."""
    save_versioned(
        connection, settings, {"name": name}, {"value": json.dumps(value)}, expected_version=expected_version
    )


def move_state_version(connection: Connection) -> None:
    """Signal to every client that flags or aliases changed."""
    counter = settings.c.name == STATE_VERSION
    if connection.execute(update(settings).where(counter).values(version=settings.c.version + 1)).rowcount == 0:
        mark = json.dumps(uuid.uuid4().hex)  # distinguishes this store's versions from those of a replacement
        connection.execute(insert(settings).values(name=STATE_VERSION, value=mark, version=1))
    tell_news(connection)
