"""Rule: an experiment's design: which variants are compared on which metrics, checked field by field before it starts.

`experiment.py` decides what follows from how the arms do.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from core.arms.arms import ComparedMetric, Metric
from core.arms.comparisons import Margin, is_higher_better, is_relative
from core.errors import InvalidInput
from core.flags.canary_plan import check_services
from core.flags.definition import FlagDefinition, set_metadata
from core.metrics.definition import MetricDefinition, read_metric, write_metric
from quarterdeck.definitions import experiment_variants, read_shares

MAX_NAME = 100
LONGEST_RUN = timedelta(days=365)
USUAL_RUN = timedelta(days=7)  # a whole week, because users differ by weekday
_MOST_ARMS = 10
_CONTROLS = ("control", "off", "blue")


class Direction(StrEnum):
    """Which direction of a metric is better."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Design:
    """What is compared: the arms (control first) with their shares of users, and the metric that decides.

    `effect` is the smallest worthwhile difference, in the metric's unit (for latency and cost: as a share of the
    control's mean). A guardrail is how much worse another metric may get. `further` metrics are only shown.
    `services` are those whose rows are compared; none means all. Own metrics are kept with their definition.
    """

    name: str
    flag: str
    arms: tuple[str, ...]
    shares: tuple[float, ...]
    metric: ComparedMetric
    direction: Direction
    effect: float
    guardrails: tuple[Margin, ...]
    min_run: timedelta
    services: tuple[str, ...] = ()
    further: tuple[MetricDefinition, ...] = ()

    @property
    def own_metrics(self) -> tuple[MetricDefinition, ...]:
        """Its metrics that are not among those of Metric."""
        named = (self.metric, *(each.metric for each in self.guardrails), *self.further)
        return tuple(dict.fromkeys(each for each in named if isinstance(each, MetricDefinition)))

    @property
    def control(self) -> str:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def treatments(self) -> tuple[str, ...]:
        """The other arms."""
        return self.arms[1:]


def plan_experiment(
    key: str, definition: FlagDefinition, *, name: str, metric: ComparedMetric, effect: float, control: str = "",
    direction: Direction | None = None, guardrails: Iterable[Margin] = (), min_run: timedelta = USUAL_RUN,
    services: Iterable[str] = (), further: Iterable[ComparedMetric] = (),
) -> Design:  # fmt: skip
    """Return the design of an experiment on this flag. Raises InvalidInput, naming the field.

    Users must be assigned by chance alone: a rule that serves a compared variant would make the arms differ from the
    start.
    """
    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise InvalidInput("name", f"must be 1 to {MAX_NAME} printable characters, without spaces at the ends")
    shares = _read_arms(key, definition)
    first = control or find_control(shares, definition)
    if not first:
        raise InvalidInput("control", f"name the control: one of {', '.join(shares)}")
    if first not in shares:
        raise InvalidInput("control", f"{first!r} gets no users; the arms are: {', '.join(shares)}")
    if not math.isfinite(effect) or effect <= 0:
        raise InvalidInput("effect", f"must be a number above 0, not {effect!r}")
    if not timedelta(0) <= min_run <= LONGEST_RUN:
        raise InvalidInput("min_run", f"must be 0 to {LONGEST_RUN.days} days")
    arms = (first, *(arm for arm in shares if arm != first))
    usual = Direction.UP if is_higher_better(metric) else Direction.DOWN
    return Design(
        name, key, arms, tuple(shares[arm] for arm in arms), metric, direction or usual, float(effect),
        _check_guardrails(tuple(guardrails), metric), min_run, check_services(services),
        tuple(dict.fromkeys(each for each in further if isinstance(each, MetricDefinition))),
    )  # fmt: skip


def list_arms(definition: FlagDefinition) -> tuple[str, ...]:
    """Return the variants that an experiment on this flag would compare; () if it cannot have one."""
    try:
        return tuple(_read_arms("", definition))
    except InvalidInput:
        return ()


def find_control(arms: Iterable[str], definition: FlagDefinition) -> str:
    """Return the arm whose name suggests that it is the control, or ""."""
    known = set(arms)
    return str(next((name for name in (*_CONTROLS, definition.default_variant) if name in known), ""))


def note_users(definition: Mapping[str, Any], noted: Any) -> dict[str, Any]:
    """Return the flag with `experiment` in its metadata, so that clients record exposures; None removes it."""
    return set_metadata(definition, {"experiment": noted} | ({"exposure": None} if noted is None else {}))


def parse_metric(text: str, known: Iterable[MetricDefinition] = ()) -> ComparedMetric:
    """Return the metric with this name: one of Metric, or one of the `known` others. Raises InvalidInput."""
    names = {str(metric): metric for metric in Metric} | {metric.name.lower(): metric for metric in Metric}
    wanted = text.strip().lower()
    found: ComparedMetric | None = names.get(wanted.replace("-", " "))
    others = [metric for metric in known if metric.name.lower() not in names]
    found = found or next((metric for metric in others if metric.name.casefold() == text.strip().casefold()), None)
    if found is None:
        listed = ", ".join((*names, *(metric.name for metric in others)))
        raise InvalidInput("metric", f"there is no metric {text[:60]!r}; there are: {listed}")
    return found


def parse_guardrail(text: str, known: Iterable[MetricDefinition] = ()) -> Margin:
    """Return the guardrail written as `latency=0.15`; an own metric has a margin of its own. Raises InvalidInput."""
    name, sign, amount = text.partition("=")
    metric = parse_metric(name, known)
    if not sign and isinstance(metric, MetricDefinition):
        return Margin(metric, metric.margin)
    try:
        return Margin(metric, float(amount))
    except ValueError:
        raise InvalidInput("guardrail", f"write it as latency=0.15, not {text[:40]!r}") from None


def write_design(design: Design) -> dict[str, Any]:
    """Return the design as JSON values."""
    own = [write_metric(each) for each in design.own_metrics]
    return {
        "name": design.name, "flag": design.flag, "arms": dict(zip(design.arms, design.shares, strict=True)),
        "control": design.control, "metric": str(design.metric), "direction": str(design.direction),
        "effect": design.effect, "guardrails": {str(each.metric): each.amount for each in design.guardrails},
        "min_run_s": design.min_run.total_seconds(), **({"services": list(design.services)} if design.services else {}),
        **({"further": [str(each) for each in design.further]} if design.further else {}),
        **({"own_metrics": own} if own else {}),
    }  # fmt: skip


def read_design(kept: Mapping[str, Any]) -> Design:
    """Return the design that `write_design` wrote."""
    arms = (kept["control"], *(arm for arm in kept["arms"] if arm != kept["control"]))
    own = {each["name"]: read_metric(each) for each in kept.get("own_metrics", ())}

    def named(name: str) -> ComparedMetric:
        return own[name] if name in own else Metric(name)

    return Design(
        kept["name"], kept["flag"], arms, tuple(kept["arms"][arm] for arm in arms), named(kept["metric"]),
        Direction(kept["direction"]), kept["effect"],
        tuple(Margin(named(metric), amount) for metric, amount in kept["guardrails"].items()),
        timedelta(seconds=kept["min_run_s"]), tuple(kept.get("services", ())),
        tuple(own[name] for name in kept.get("further", ())),
    )  # fmt: skip


def _read_arms(key: str, definition: FlagDefinition) -> dict[str, float]:
    """Return the compared variants, each with its share of the users who get one of them."""
    if not definition.is_on:
        raise InvalidInput("flag", f"{key} is switched off, so nobody gets a variant; switch it on first")
    if definition.plan:
        raise InvalidInput("flag", f"{key} is a canary with a plan, which moves users between the variants")
    noted = experiment_variants(note_users(definition.raw, "planned"))
    shares = {arm: share for arm, share in read_shares(definition.raw).items() if share and arm in noted}
    if not 2 <= len(shares) <= _MOST_ARMS:
        said = f"{len(shares)} of its variants get users" if len(shares) != 1 else "every user gets the same variant"
        raise InvalidInput("flag", f"{key} cannot have an experiment: {said}; it needs 2 to {_MOST_ARMS}")
    if definition.rules is None or any(rule.serve in shares for rule in definition.rules):
        raise InvalidInput("flag", f"rules of {key} serve some users a fixed variant; remove them first")
    if (definition.bucket_by or "targetingKey") != "targetingKey":
        raise InvalidInput("flag", f"{key} is not bucketed by user, so users are not independent")
    whole = math.fsum(shares.values())
    return {arm: share / whole for arm, share in shares.items()}


def _check_guardrails(guardrails: tuple[Margin, ...], metric: ComparedMetric) -> tuple[Margin, ...]:
    metrics = [each.metric for each in guardrails]
    if metric in metrics:
        raise InvalidInput("guardrail", f"{metric} already decides, so it cannot be a guardrail")
    for each in guardrails:
        if metrics.count(each.metric) > 1:
            raise InvalidInput("guardrail", f"{each.metric} is listed twice")
        is_free = isinstance(each.metric, MetricDefinition) and not (each.metric.is_share or each.metric.is_relative)
        if not math.isfinite(each.amount) or each.amount <= 0 or (each.amount > 1 and not is_free):
            unit = "a share of the control's mean" if is_relative(each.metric) else "its unit"
            most = "" if is_free else " and at most 1"
            raise InvalidInput("guardrail", f"{each.metric}: give a number above 0{most}, in {unit}")
    return guardrails
