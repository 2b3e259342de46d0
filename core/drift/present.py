"""Rule: one scale for the scores of a scope, also in the days around a change of its embedding model.

`scales.py` has the map between two models; here former scores are carried to the model that answers now.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from core.drift.models import find_model_days
from core.drift.scales import ModelMap, find_map, map_days
from core.log.values import DailyScores
from quarterdeck.schema import OTHER


@dataclass(frozen=True, slots=True)
class PresentScale:
    """The scale of one embedding model, and the maps that lead to it from others; without maps nothing is carried."""

    model: str = ""
    maps: tuple[ModelMap, ...] = ()

    def list_bounds(self, below: float | None) -> dict[str, float | None]:
        """Return what a bound on this scale is on the scale of each other model, by its name."""
        return {each.former: None if below is None else each.invert().apply(below) for each in self.maps}

    def carry(self, model: str | None, score: float) -> float:
        """Return a model's score on this scale; one of a model that has no map stays."""
        bridge = next((each for each in self.maps if each.former == model), None)
        return bridge.apply(score) if bridge else score


RAW = PresentScale()


@dataclass(frozen=True, slots=True)
class LowScores:
    """Below which a question scores low: `below` on the `scale` of the embedding model that answers now."""

    below: float
    scale: PresentScale = RAW

    @property
    def bounds(self) -> tuple[tuple[str, float], ...]:
        """The same on the scales of other models that have a map, as pairs of model and bound."""
        bounds = self.scale.list_bounds(self.below)
        return tuple((name, bound) for name, bound in bounds.items() if bound is not None)

    def of(self, model: str | None) -> float:
        """Return the bound for scores of a model."""
        return dict(self.bounds).get(model or "", self.below)

    def holds(self, model: str | None, score: float | None) -> bool:
        """Whether a model's score is low."""
        return score is not None and score < self.of(model)


def make_scale(maps: Iterable[ModelMap], model: str) -> PresentScale:
    """Return the scale of a model with every map that leads to it, also one that was learned the other way."""
    known = tuple(maps)
    others = sorted({name for each in known for name in (each.former, each.model)} - {model})
    return PresentScale(model, tuple(found for other in others if (found := find_map(known, other, model))))


def find_scale(models: Mapping[str, Sequence[DailyScores]], maps: Sequence[ModelMap], *, today: date) -> PresentScale:
    """Return the scale of the model that answers most at the end of `today`, as the drift verdict takes it."""
    found = find_model_days(models, today=today, maps=maps)
    if found:
        return make_scale(maps, found.model)
    asked = {name: sum(day.count for day in days if day.day <= today) for name, days in models.items()}
    named = [name for name, count in asked.items() if count and name not in ("", OTHER)]
    return make_scale(maps, max(named, key=lambda name: (asked[name], name))) if named else RAW


def carry_days(
    days: Sequence[DailyScores], models: Mapping[str, Sequence[DailyScores]], scale: PresentScale
) -> tuple[DailyScores, ...]:
    """Return days in which the scores of other models are on this scale; `models` has each model's days."""
    moved = {day.day: day for day in days}
    for bridge in scale.maps:
        for own in models.get(bridge.former, ()):
            if own.count and own.day in moved:
                (mapped,) = map_days([own], bridge)
                moved[own.day] = _exchange(moved[own.day], own, mapped)
    return tuple(moved[day.day] for day in days)


def _exchange(day: DailyScores, part: DailyScores, mapped: DailyScores) -> DailyScores:
    """Return a day with the scores of a part of it on another scale."""
    if not day.count:
        return day
    bins = zip(day.histogram, part.histogram, mapped.histogram, strict=True)
    share = min(1.0, part.count / day.count)
    capped = None if day.capped is None else day.capped + share * (mapped.mean - part.mean)
    return replace(
        day,
        total=day.total + mapped.total - part.total,
        total_squares=day.total_squares + mapped.total_squares - part.total_squares,
        bins=tuple(max(0, whole - before + after) for whole, before, after in bins),
        capped=capped,
    )
