"""Rule: recognizes that a service changed its embedding model: scores on another scale are no drift."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from core.drift.scales import ModelMap, add_days, find_map, map_days
from core.log.values import DailyScores
from quarterdeck.schema import OTHER

SETTLED_SHARE = 0.95  # of a day's questions with a model: from then on the former one no longer matters
KEPT_SHARE = 1 / 3  # of a day's questions: a model that answers more is kept, so that two halves do not take turns
LEAST_SHARE = 0.01  # of the questions: a model that answers fewer was tried, not used
SAID_FOR_DAYS = 30


@dataclass(frozen=True, slots=True)
class ModelDays:
    """The days of the model that answers most now, where several were used.

    `former` did until `changed_on`, the first day on which it answered at most a third; "" if the present one always
    did. `settled_on` is the day since which nearly all questions are the present one's, None if that has not come yet.
    """

    model: str
    days: tuple[DailyScores, ...]
    former: str
    former_days: tuple[DailyScores, ...]
    changed_on: date | None
    settled_on: date | None
    bridge: ModelMap | None = None  # by which the former model's scores are among `days`, on the present scale

    def describe(self, today: date) -> str:
        """Return the change in words, with both scales, for the first month; "" without one."""
        if self.changed_on is None or (today - self.changed_on).days > SAID_FOR_DAYS:
            return ""
        if self.bridge is not None:
            return (
                f"The embedding model changed from {self.former} to {self.model} on {self.changed_on.day} "
                f"{self.changed_on:%b %Y}. Earlier scores are shown on the scale of {self.model}, by "
                f"{self.bridge.pairs:,} questions asked under both: the reference goes on. The map misses the mean by "
                f"{self.bridge.error:.3f}."
            )
        before = [day for day in self.former_days if day.day < self.changed_on]
        after = [day for day in self.days if self.changed_on <= day.day <= today]
        return (
            f"The embedding model changed from {self.former} to {self.model} on {self.changed_on.day} "
            f"{self.changed_on:%b %Y}. Their scores are on different scales (mean {_mean(before)} with {self.former}, "
            f"{_mean(after)} with {self.model}), so this is no drift: the reference starts anew with {self.model}."
        )


def find_model_days(
    models: Mapping[str, Sequence[DailyScores]], *, today: date, maps: Sequence[ModelMap] = ()
) -> ModelDays | None:
    """Return the days of the present model at the end of `today`; None where only one was ever used.

    With a map from a former model to the present one, or back, its days are among them, on the present scale. Questions
    without a model count for nothing here, nor do models with under 1% of the questions and no map.
    """
    named = {
        name: [day for day in days if day.day <= today] for name, days in models.items() if name not in ("", OTHER)
    }
    asked = {name: sum(day.count for day in days) for name, days in named.items()}
    used = {name for name, count in asked.items() if count >= LEAST_SHARE * sum(asked.values()) and count}
    mapped_names = {name for each in maps for name in (each.former, each.model)}
    used |= {name for name, count in asked.items() if count and name in mapped_names}
    by_day: dict[date, dict[str, int]] = {}
    for name in used:
        for day in named[name]:
            by_day.setdefault(day.day, {})[name] = day.count
    if len(used) < 2:
        return None
    model = former = ""
    changed_on: date | None = None
    for at, counts in sorted(by_day.items()):
        if counts.get(model, 0) > KEPT_SHARE * sum(counts.values()):
            continue
        most = max(counts, key=lambda name: (counts[name], name))
        if model and most != model:
            former, changed_on = model, at
        model = most
    settled_on: date | None = None
    for at, counts in sorted(by_day.items()):
        is_settled = counts.get(model, 0) >= SETTLED_SHARE * sum(counts.values())
        settled_on = (settled_on or at) if is_settled else None
    days = put_on_scale({name: named[name] for name in used}, model, maps)
    former_days = tuple(named.get(former, ()))
    return ModelDays(model, days, former, former_days, changed_on, settled_on, find_map(maps, former, model))


def put_on_scale(
    models: Mapping[str, Sequence[DailyScores]], model: str, maps: Sequence[ModelMap]
) -> tuple[DailyScores, ...]:
    """Return the days of a model, and on its scale those of every other model that has a map to it, or back."""
    bridges = {name: find_map(maps, name, model) for name in models if name != model}
    mapped = [map_days(models[name], bridge) for name, bridge in bridges.items() if bridge]
    return add_days(models.get(model, ()), *mapped)


def bridge_values(
    values: Mapping[str, Sequence[DailyScores]], models: ModelDays | None
) -> dict[str, tuple[DailyScores, ...]]:
    """Return the days of segments on the present scale, without those on which both models answered.

    Without a change of the model that has a map, the days are returned as they are.
    """
    if models is None or models.bridge is None or models.changed_on is None:
        return {value: tuple(days) for value, days in values.items()}
    known = {day.day for day in models.former_days}
    settled = models.settled_on or date.max
    found = {}
    for value, days in values.items():
        before = [day for day in days if day.day < models.changed_on and day.day in known]
        found[value] = (*map_days(before, models.bridge), *(day for day in days if day.day >= settled))
    return found


def _mean(days: Sequence[DailyScores]) -> str:
    count = sum(day.count for day in days)
    return f"{sum(day.total for day in days) / count:.2f}" if count else "unknown"
