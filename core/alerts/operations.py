"""Shell that saves and deletes alert rules, each change with its audit entry."""

from dataclasses import asdict
from typing import Any

from core.alerts.alerts import AlertRule
from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import Family, get_setting, save_setting, setting_key
from core.errors import NotFound
from quarterdeck.store import Store


def save_alert_rule(store: Store, rule: AlertRule, by: Act) -> int:
    """Add an alert rule or replace the one of its name. Its secret is stored and never shown or audited."""
    return _change_alert_rules(store, rule.name, rule, by)


def delete_alert_rule(store: Store, name: str, by: Act) -> int:
    """Remove an alert rule. Raises NotFound."""
    return _change_alert_rules(store, name, None, by)


def _change_alert_rules(store: Store, name: str, rule: AlertRule | None, by: Act) -> int:
    setting = setting_key(Family.ALERT_RULES, by.environment)
    stored, version = get_setting(store, setting)
    known = {each["name"]: each for each in stored or ()}
    before = known.pop(name, None)
    if rule is None and before is None:
        raise NotFound(f"alert rule: there is no rule {name!r} in {by.environment}")
    after = asdict(rule) if rule else None
    with changing(store, by) as change:
        save_setting(
            change.connection, setting, [*known.values(), *([after] if after else [])], expected_version=version
        )
        change.record(
            Action.ALERT_SAVE if rule else Action.ALERT_DELETE, name, _without_secret(before), _without_secret(after)
        )
    return change.entry_id


def _without_secret(rule: dict[str, Any] | None) -> dict[str, Any] | None:
    return {name: value for name, value in rule.items() if name != "secret"} if rule else None
