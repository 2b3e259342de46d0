"""Rule: on which embedding model's scale a change is measured, where a map joins the days of two models.

A prediction is on the scale of the model that answered when it was made. So a change of the model, and every change
before it, is measured on the former model's scale; later changes are measured on the present one's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.models import find_model_days, put_on_scale
from core.drift.scales import ModelMap
from core.ledger.effects import MeasuredEffect
from core.log.values import DailyScores

_NEAR_DAYS = 1  # between the swap and the first day on which the new model answered most
_ERROR_TO_HALF = 1.96 * 1.2533  # from the mean size of a normal error to half of its 95% interval


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A change of the embedding model that has a map, with the days of both models on either scale.

    `bridge` leads from the former model to the present one.
    """

    bridge: ModelMap
    changed_on: date
    former_days: tuple[DailyScores, ...]
    present_days: tuple[DailyScores, ...]

    def is_before(self, change: TimelineChange) -> bool:
        """Whether a change is measured on the former model's scale."""
        return change.ts.date() <= self.changed_on

    def is_itself(self, change: TimelineChange) -> bool:
        """Whether a change is the swap that brought the present model."""
        return change.kind is ChangeKind.INDEX and abs((change.ts.date() - self.changed_on).days) <= _NEAR_DAYS

    def widen(self, measured: MeasuredEffect) -> MeasuredEffect:
        """Return an effect across the change, its interval widened by the error of the map."""
        half = (measured.half_width**2 + (_ERROR_TO_HALF * self.bridge.error) ** 2) ** 0.5
        return replace(measured, low=measured.size - half, high=measured.size + half)

    def describe(self, change: TimelineChange) -> str:
        """Return on which scale a change was measured."""
        former, present = self.bridge.former, self.bridge.model
        own, other = (former, present) if self.is_before(change) else (present, former)
        return f"on the scale of {own}; scores of {other} are mapped, with an error of {self.bridge.error:.3f}"


def find_model_change(
    models: Mapping[str, Sequence[DailyScores]], maps: Sequence[ModelMap], *, today: date
) -> ModelChange | None:
    """Return the last change of the embedding model up to `today`; None without one, and where it has no map."""
    found = find_model_days(models, today=today, maps=maps)
    if found is None or found.bridge is None or found.changed_on is None:
        return None
    former_days = put_on_scale(models, found.former, maps)
    return ModelChange(found.bridge, found.changed_on, former_days, found.days)
