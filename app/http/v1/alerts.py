"""Alert rules: webhooks that are called when the verdict of a service reaches a status."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import Path
from pydantic import Field

from app.http.backends import get_store
from app.http.v1.callers import From
from app.http.v1.changes import ChangeAnswer, Make
from app.http.v1.models import Answered, Environment, Limit, Page, Position, Reason, Reasoned, cut_page
from app.http.v1.routing import make_router
from core.alerts.alerts import MOST_URL, AlertRule
from core.alerts.delivery import list_alert_rules
from core.alerts.operations import delete_alert_rule, save_alert_rule
from core.drift.verdict import DriftStatus

router = make_router("alerts")


class AlertAnswer(Answered):
    """An alert rule. Its secret is never shown, and of its address only the server: a path is often a secret too."""

    name: str
    url: str
    from_status: DriftStatus
    service: str = Field(description="Empty for every service of the environment.")


class AlertChange(Reasoned):
    """A rule under its name. The secret signs what is sent."""

    url: str = Field(min_length=1, max_length=MOST_URL)
    secret: str = Field(min_length=16, max_length=200)
    from_status: Literal[DriftStatus.WATCH, DriftStatus.DRIFTING] = DriftStatus.DRIFTING
    service: str = Field("", max_length=128)
    environment: str | None = Field(None, max_length=64)


RuleName = Annotated[str, Path(min_length=1, max_length=100)]


@router.get("/v1/alerts", name="list_alert_rules")
def list_rules(
    caller: From, environment: Environment = None, limit: Limit = 50, cursor: Position = None
) -> Page[AlertAnswer]:
    """Return the alert rules of an environment."""
    named = caller.find_environment(environment)
    items, following = cut_page(list_alert_rules(get_store(), named), cursor, limit)
    return Page[AlertAnswer](items=tuple(map(_describe, items)), next=following)


def _describe(rule: AlertRule) -> AlertAnswer:
    parts = urlsplit(rule.url)
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"
    return AlertAnswer(name=rule.name, url=where, from_status=rule.from_status, service=rule.service)


@router.put("/v1/alerts/{name}", name="save_alert_rule")
def put_rule(name: RuleName, body: AlertChange, make: Make) -> ChangeAnswer:
    """Save an alert rule, replacing one of that name. The token needs the scope `admin`."""
    environment = make.caller.find_environment(body.environment)
    rule = AlertRule(name, body.url, body.secret, DriftStatus(body.from_status), body.service)
    return make.make(body.reason, environment, lambda act: save_alert_rule(get_store(), rule, act))


@router.delete("/v1/alerts/{name}", name="delete_alert_rule")
def delete_rule(name: RuleName, make: Make, reason: Reason, environment: Environment = None) -> ChangeAnswer:
    """Delete an alert rule. The token needs the scope `admin`."""
    named = make.caller.find_environment(environment)
    return make.make(reason, named, lambda act: delete_alert_rule(get_store(), name, act))
