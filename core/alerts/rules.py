"""Rule: alert rules: what is watched, from where on it alerts, and whom it tells. Reads those of earlier releases."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from core.alerts.metrics import MEAN_SCORE, AlertMetric, ValueSource, find_metric
from core.errors import InvalidInput

MOST_DAYS = 30
LONGEST_NAME = 100
DRIFT_ALARMS_A_YEAR = 0.5  # docs/figures.md#drift: about one false call in two years
CHANGE_ALARMS_A_YEAR = 1.0  # docs/figures.md#alerts: any other metric by its verdict
CANARY_ALARMS_A_STEP = 0.05


class AlertKind(StrEnum):
    """How a rule judges: by the sequential verdict of its metric, or by a plain limit."""

    VERDICT = "verdict"
    THRESHOLD = "threshold"


class Level(StrEnum):
    """How bad a reading is."""

    OK = "ok"
    WARNING = "warning"
    ALERT = "alert"


class WithoutData(StrEnum):
    """What a rule does once its metric has had no value for `no_data_days`: keep its state, alert, or call it fine."""

    KEEP = "keep"
    ALERT = "alert"
    OK = "ok"


class LimitSide(StrEnum):
    """On which side of its limits a value is bad."""

    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class AlertRule:
    """A rule over one metric of `service`, or of every service of its environment if that is "".

    By verdict it alerts from `from_level` on: WARNING includes *watch*. By threshold it has a limit for a warning, an
    alert or both, which the value of `for_days` days in a row has to pass. Days are whole; with `counts_today` the
    present one counts as soon as it has 50 questions. `channels` are told, by their names.

    Raises InvalidInput, naming the field.
    """

    name: str
    metric: str = MEAN_SCORE
    kind: AlertKind = AlertKind.VERDICT
    service: str = ""
    side: LimitSide = LimitSide.BELOW
    warning: float | None = None
    alert: float | None = None
    from_level: Level = Level.ALERT
    for_days: int = 1
    no_data: WithoutData = WithoutData.KEEP
    no_data_days: int = 1
    counts_today: bool = False
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("name", self.name)
        watched = find_metric(self.metric)
        for field, value in (("for_days", self.for_days), ("no_data_days", self.no_data_days)):
            if not 1 <= value <= MOST_DAYS:
                raise InvalidInput(field, f"must be 1 to {MOST_DAYS}, not {value}")
        if watched.is_shared and self.service:
            raise InvalidInput("service", f"must be empty: {watched.name} is about a whole environment")
        if self.from_level is Level.OK:
            raise InvalidInput("from_level", "must be warning or alert")
        if self.kind is AlertKind.VERDICT:
            self._check_verdict(watched)
        else:
            self._check_limits()

    @property
    def watched(self) -> AlertMetric:
        """The metric."""
        return find_metric(self.metric)

    def judge(self, value: float) -> Level:
        """Return how bad one value is under the limits."""
        for limit, level in ((self.alert, Level.ALERT), (self.warning, Level.WARNING)):
            if limit is not None and (value > limit if self.side is LimitSide.ABOVE else value < limit):
                return level
        return Level.OK

    def to_json(self) -> dict[str, Any]:
        """Return the rule as JSON keeps it."""
        return {
            "name": self.name, "metric": self.metric, "kind": str(self.kind), "service": self.service,
            "side": str(self.side), "warning": self.warning, "alert": self.alert, "from_level": str(self.from_level),
            "for_days": self.for_days, "no_data": str(self.no_data), "no_data_days": self.no_data_days,
            "counts_today": self.counts_today, "channels": list(self.channels),
        }  # fmt: skip

    def _check_verdict(self, watched: AlertMetric) -> None:
        if not watched.has_verdict:
            raise InvalidInput("kind", f"{watched.name} has no value by day, so no sequential verdict; use a threshold")
        for field, given in (("warning", self.warning is not None), ("alert", self.alert is not None),
                             ("for_days", self.for_days > 1), ("counts_today", self.counts_today)):  # fmt: skip
            if given:
                raise InvalidInput(field, "belongs to a threshold; a verdict has no limits and weighs the days itself")

    def _check_limits(self) -> None:
        limits = [limit for limit in (self.warning, self.alert) if limit is not None]
        if not limits:
            raise InvalidInput("alert", "a threshold needs a limit: for a warning, an alert or both")
        if not all(math.isfinite(limit) for limit in limits):
            raise InvalidInput("alert", "a limit must be a finite number")
        if self.warning is not None and self.alert is not None and self.judge(self.warning) is Level.ALERT:
            raise InvalidInput("warning", f"must be reached before the alert at {self.alert:g}, not {self.warning:g}")
        if self.watched.source is ValueSource.NOW and (self.for_days > 1 or self.counts_today):
            raise InvalidInput("for_days", f"must be 1: {self.metric} has one value now, and none of former days")


def check_name(field: str, name: str) -> None:
    """Raise InvalidInput unless this can be the name of a rule or a channel."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidInput(field, f"must be 1 to {LONGEST_NAME} printable characters")


def read_rule(told: Mapping[str, Any]) -> AlertRule:
    """Return the rule that `to_json` wrote. Raises InvalidInput for one that this release does not understand."""
    try:
        return AlertRule(
            name=str(told["name"]), metric=str(told["metric"]), kind=AlertKind(told["kind"]),
            service=str(told["service"]), side=LimitSide(told["side"]), warning=told["warning"], alert=told["alert"],
            from_level=Level(told["from_level"]), for_days=int(told["for_days"]),
            no_data=WithoutData(told["no_data"]), no_data_days=int(told["no_data_days"]),
            counts_today=bool(told["counts_today"]), channels=tuple(map(str, told["channels"])),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("rule", f"cannot be read ({type(error).__name__}: {error}); save it again") from error


def convert_rule(told: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a rule of release 0.1 as one by verdict, and its webhook as a channel of the same name."""
    rule = AlertRule(
        str(told["name"]),
        service=str(told.get("service", "")),
        from_level=Level.WARNING if told.get("from_status") == "watch" else Level.ALERT,
        channels=(str(told["name"]),),
    )
    channel = {"name": rule.name, "kind": "webhook", "address": told["url"], "secret": told["secret"]}
    return rule.to_json(), channel


def say_condition(rule: AlertRule) -> str:
    """Return what a rule watches for, as a phrase.

    >>> say_condition(AlertRule("a", "failed_share", AlertKind.THRESHOLD, side=LimitSide.ABOVE, alert=0.05, for_days=2))
    'Share that failed above 5.0% for 2 days'
    """
    if rule.kind is AlertKind.VERDICT:
        return f"{rule.watched.title} by its verdict, from {'watch' if rule.from_level is Level.WARNING else 'alert'}"
    limits = [f"{rule.watched.say(rule.alert)}" if rule.alert is not None else ""]
    if rule.warning is not None:
        limits.append(f"{rule.watched.say(rule.warning)} (warning)")
    days = f" for {rule.for_days} days" if rule.for_days > 1 else ""
    return f"{rule.watched.title} {rule.side} {', '.join(filter(None, limits))}{days}"
