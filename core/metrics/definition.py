"""Rule: what a metric is: where its numbers come from, which statistic of them counts, and which way is better.

Built-in metrics (`builtin.py`) and those that people define (`records.py`) have this one form.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, TypeVar

from core.errors import InvalidInput
from quarterdeck.retrieval import STATES

MAX_METRIC_NAME = 60
MAX_OF = 128
MAX_UNIT = 20
ERROR = "error"  # a question without a similarity, whatever its state
STATE_NAMES = (*STATES, ERROR)
QUESTIONS, VALUES, USERS = "questions", "values", "users"  # denominators of a ratio besides the names of events
_FORBIDDEN = ",=:"  # separate names in a canary's plan and in commands


class MetricSource(StrEnum):
    """Where the numbers come from. `of` names the score, the event or the state."""

    SIMILARITY = "similarity"
    SCORE = "score"
    EVENT = "event"
    LATENCY = "latency"
    COST = "cost"
    TOKENS = "tokens"
    STATE = "state"


class Statistic(StrEnum):
    """What is made of the numbers."""

    MEAN = "mean"
    RATIO = "ratio"
    SHARE = "share"
    PERCENTILE = "percentile"


NAMED = frozenset({MetricSource.SCORE, MetricSource.EVENT, MetricSource.STATE})
_Word = TypeVar("_Word", MetricSource, Statistic)
_UNITS = {MetricSource.LATENCY: "ms", MetricSource.COST: "USD", MetricSource.TOKENS: "tokens"}


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """A metric. Raises InvalidInput, naming the field.

    - mean: of users' means; each user's value is the mean over the user's numbers.
    - share (0 to 1): of a user's numbers that are `at_least` so much; of a user's questions in a state; for an event,
      of the users who had it (with a value of `at_least` so much).
    - ratio: the sum of all numbers, divided by the number of questions, of values, of users or of other events (`per`).
    - percentile: of all numbers, whoever they belong to.

    An event without a value counts 1. `margin` is how much worse an arm may be: in the metric's unit, or as a share of
    the stable arm's figure if `is_relative`. `unit` is needed only for scores and events; the others have their own.
    """

    name: str
    source: MetricSource
    statistic: Statistic
    of: str = ""
    is_higher_better: bool = True
    margin: float = 0.05
    is_relative: bool = False
    per: str = ""
    at_least: float | None = None
    percentile: float = 95.0
    unit: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_source(self)
        _check_statistic(self)
        if not math.isfinite(self.margin) or self.margin <= 0:
            raise InvalidInput("margin", f"must be a number above 0, not {self.margin!r}")
        if (self.is_relative or self.statistic is Statistic.SHARE) and self.margin > 1:
            raise InvalidInput("margin", f"must be at most 1, because it is a share, not {self.margin:g}")
        if len(self.unit) > MAX_UNIT or not self.unit.isprintable():
            raise InvalidInput("unit", f"must be at most {MAX_UNIT} printable characters")

    def __str__(self) -> str:
        return self.name

    @property
    def is_share(self) -> bool:
        """Whether its values are shares from 0 to 1."""
        return self.statistic is Statistic.SHARE

    @property
    def shown_unit(self) -> str:
        """The unit as it is shown: "%", "ms", "USD per question", or "" for a plain number."""
        if self.is_share:
            return "%"
        unit = self.unit or _UNITS.get(self.source, "")
        if self.statistic is not Statistic.RATIO:
            return unit
        per = {QUESTIONS: "question", VALUES: "value", USERS: "user"}.get(self.per, self.per)
        return f"{unit or self.of or self.source} per {per}"

    @property
    def definition(self) -> str:
        """What it is in words, such as "95th percentile of latency" or "share of users with the event resolved"."""
        return _say_definition(self)


@dataclass(frozen=True, slots=True)
class MetricDay:
    """A metric on one day: its value in its own unit (shares 0 to 1), and how much is behind it.

    `count` is the number of questions, numbers, or (for a ratio, a share of an event) of what it is divided by.
    """

    day: date
    count: float
    value: float


def define_metric(
    name: str, source: str, statistic: str, *, of: str = "", better: str = "", margin: float | None = None,
    relative: bool | None = None, per: str = "", at_least: float | None = None, percentile: float = 95.0,
    unit: str = "",
) -> MetricDefinition:  # fmt: skip
    """Return a metric from words, as people give them. Raises InvalidInput, naming the field.

    What is left out is as usual: less is better for latency, cost, tokens and states, more for all else. Margins are
    0.15 of the stable arm's figure for latency, cost and tokens, else 0.02 for shares and 0.05 for other numbers.
    """
    found = _read_word(MetricSource, "source", source)
    made = _read_word(Statistic, "statistic", statistic)
    if better not in ("", "up", "down"):
        raise InvalidInput("better", f"must be up or down, not {better[:40]!r}")
    is_load = found in _UNITS and made is not Statistic.SHARE
    is_relative = is_load if relative is None else relative
    usual = 0.15 if is_relative else 0.02 if made is Statistic.SHARE else 0.05
    is_up = better == "up" if better else found not in (*_UNITS, MetricSource.STATE)
    defined = MetricDefinition(
        name.strip(), found, made, of.strip(), is_up, usual if margin is None else margin, is_relative, per.strip(),
        at_least, percentile, unit.strip(),
    )  # fmt: skip
    check_margin(defined, defined.margin)
    return defined


def check_margin(metric: MetricDefinition, amount: float) -> None:
    """Raise InvalidInput for a margin that no arm can exceed, however bad it is: it would never fire."""
    shown = f"{metric.name}={amount:g}"
    if metric.is_relative:
        if amount > 1 or (amount == 1 and metric.is_higher_better):
            said = f"{shown} would be {amount:.0%} of the stable figure and could never fire; give less, such as 0.15"
            raise InvalidInput("margin", said)
    elif amount >= 1 and (metric.is_share or metric.source is MetricSource.SIMILARITY):
        allowed = f"{100 * amount:g} points" if metric.is_share else f"{amount:g}"
        said = f"{shown} allows {allowed} where values go from 0 to 1, and could never fire; give less, such as 0.02"
        raise InvalidInput("margin", said)


def _read_word(kind: type[_Word], field: str, text: str) -> _Word:
    try:
        return kind(text.strip().lower())
    except ValueError:
        raise InvalidInput(field, f"must be one of {', '.join(kind)}, not {text[:40]!r}") from None


def write_metric(metric: MetricDefinition) -> dict[str, Any]:
    """Return a metric as JSON values, without what is as usual."""
    kept: dict[str, Any] = {
        "name": metric.name, "source": str(metric.source), "statistic": str(metric.statistic),
        "better": "up" if metric.is_higher_better else "down", "margin": metric.margin,
    }  # fmt: skip
    for field in ("of", "is_relative", "per", "unit"):
        if getattr(metric, field):
            kept[field] = getattr(metric, field)
    if metric.at_least is not None:
        kept["at_least"] = metric.at_least
    if metric.statistic is Statistic.PERCENTILE:
        kept["percentile"] = metric.percentile
    return kept


def read_metric(kept: Mapping[str, Any]) -> MetricDefinition:
    """Return the metric that `write_metric` wrote."""
    optional = {name: kept[name] for name in ("of", "is_relative", "per", "unit", "at_least", "percentile")
                if name in kept}  # fmt: skip
    return MetricDefinition(
        kept["name"], MetricSource(kept["source"]), Statistic(kept["statistic"]), margin=float(kept["margin"]),
        is_higher_better=kept["better"] == "up", **optional,
    )  # fmt: skip


def say_metric_value(metric: MetricDefinition, value: float, *, finer: int = 0) -> str:
    """Format a figure of a metric for display, with its unit and so many decimals more than usual.

    >>> from core.metrics.builtin import find_builtin
    >>> say_metric_value(find_builtin("latency p95"), 1412.3), say_metric_value(find_builtin("empty share"), 0.0123)
    ('1,412 ms', '1.2%')
    """
    if metric.is_share:
        return f"{value:.{1 + finer}%}"
    unit = metric.shown_unit
    if unit.startswith("USD"):
        return f"${value:,.{4 + finer}f}{unit.removeprefix('USD')}"
    digits = (0 if unit == "ms" else _decimals_of(value)) + finer
    return f"{value:,.{digits}f} {unit}".strip()


def say_metric_amount(metric: MetricDefinition, amount: float) -> str:
    """Format a difference for display, without a sign.

    >>> from core.metrics.builtin import find_builtin
    >>> say_metric_amount(find_builtin("empty share"), -0.0123)
    '1.2 points'
    """
    if metric.is_share:
        return f"{100 * abs(amount):.1f} points"
    is_small_money = metric.shown_unit.startswith("USD") and abs(amount) < 0.001
    return say_metric_value(metric, abs(amount), finer=2 if is_small_money else 0)


def _decimals_of(value: float) -> int:
    """So many that three digits are shown, from 0 to 4."""
    return 4 if value == 0 or not math.isfinite(value) else min(4, max(0, 2 - math.floor(math.log10(abs(value)))))


def _check_name(name: str) -> None:
    plain = name == name.strip() and name.isprintable() and not any(letter in name for letter in _FORBIDDEN)
    if not 0 < len(name) <= MAX_METRIC_NAME or not plain:
        raise InvalidInput("name", f"must be 1 to {MAX_METRIC_NAME} printable characters without commas, = or colons")


def _check_source(metric: MetricDefinition) -> None:
    of = metric.of
    if metric.source not in NAMED:
        if of:
            raise InvalidInput("of", f"{metric.source} has no names; leave it out")
        return
    if not 0 < len(of) <= MAX_OF or not of.isprintable():
        raise InvalidInput("of", f"name the {metric.source}: 1 to {MAX_OF} printable characters")
    if metric.source is MetricSource.STATE and of not in STATE_NAMES:
        raise InvalidInput("of", f"must be one of {', '.join(STATE_NAMES)}, not {of[:40]!r}")


def _check_statistic(metric: MetricDefinition) -> None:
    statistic, source = metric.statistic, metric.source
    if source is MetricSource.STATE and statistic is not Statistic.SHARE:
        raise InvalidInput("statistic", f"must be share for a state, not {statistic}")
    if (statistic is Statistic.RATIO) != bool(metric.per):
        raise InvalidInput("per", "give what a ratio is divided by: questions, values, users or the name of an event"
                           if not metric.per else f"is for ratios only, not for a {statistic}")  # fmt: skip
    if len(metric.per) > MAX_OF or not metric.per.isprintable():
        raise InvalidInput("per", f"must be at most {MAX_OF} printable characters")
    if statistic is Statistic.PERCENTILE and not 1 <= metric.percentile <= 99:
        raise InvalidInput("percentile", f"must be 1 to 99, not {metric.percentile:g}")
    if metric.at_least is not None and (statistic is not Statistic.SHARE or source is MetricSource.STATE):
        raise InvalidInput("at_least", "is for shares of numbers only")
    if metric.at_least is not None and not math.isfinite(metric.at_least):
        raise InvalidInput("at_least", "must be a finite number")
    if statistic is Statistic.SHARE and metric.at_least is None and source not in (
        MetricSource.STATE, MetricSource.EVENT,
    ):  # fmt: skip
        raise InvalidInput("at_least", "give the number from which on a value counts, such as 0.5")


def _say_definition(metric: MetricDefinition) -> str:
    named = f"the {metric.source} {metric.of}" if metric.of else str(metric.source)
    if metric.statistic is Statistic.PERCENTILE:
        return f"{_ordinal(metric.percentile)} percentile of {named}"
    if metric.statistic is Statistic.RATIO:
        return f"{named} per {metric.shown_unit.rpartition(' per ')[2]}"
    if metric.statistic is Statistic.MEAN:
        return f"mean of {named} over users"
    bound = "" if metric.at_least is None else f" of at least {metric.at_least:g}"
    if metric.source is MetricSource.EVENT:
        return f"share of users with {named}{bound}"
    if metric.source is MetricSource.STATE:
        return (
            "share of questions without a score" if metric.of == ERROR else f"share of questions that are {metric.of}"
        )
    return f"share of values of {named}{bound}"


def _ordinal(number: float) -> str:
    whole = int(number)
    if whole != number:
        return f"{number:g}th"
    ending = "th" if 10 <= whole % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(whole % 10, "th")
    return f"{whole}{ending}"
