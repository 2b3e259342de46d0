"""Rule: the entries of the ledger: what a change was predicted to do, what it did, and how the two compare.

`effects.py` measures, `report.py` gathers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from core.errors import InvalidInput
from core.ledger.effects import MeasuredEffect
from core.wording.counts import count_of
from core.wording.scores import say_interval, say_size

SCORE, LOW_SHARE, EMPTY_SHARE = "score", "low_share", "empty_share"
METRICS = (SCORE, LOW_SHARE, EMPTY_SHARE)
_LOWER_IS_BETTER = {LOW_SHARE, EMPTY_SHARE}
_MOST = 1.0  # every metric is between 0 and 1, so no effect is larger


class EntryStatus(StrEnum):
    """How a change's measured effect compares with its prediction."""

    AS_PREDICTED = "as predicted"
    BETTER = "better"
    WORSE = "worse"
    TOO_EARLY = "too early"
    CANNOT_TELL = "cannot tell"
    NOT_PREDICTED = "not predicted"


TOLD = (EntryStatus.AS_PREDICTED, EntryStatus.BETTER, EntryStatus.WORSE)  # those that are a verdict


@dataclass(frozen=True, slots=True)
class EffectPrediction:
    """The predicted change of a metric's daily mean, and the interval that was promised to hold it.

    Raises InvalidInput unless -1 <= low <= value <= high <= 1.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not -_MOST <= self.low <= self.value <= self.high <= _MOST:
            raise InvalidInput("effect", "must lie between low and high, and all three between -1 and 1")

    @property
    def telling(self) -> float:
        """The widest half interval of a measurement that can confirm this prediction."""
        return max(abs(self.value), self.high - self.low) / 2

    def to_audit(self) -> dict[str, Any]:
        """Return the prediction as JSON knows it."""
        return {name: round(value, 5) for name, value in asdict(self).items()}

    @classmethod
    def read(cls, told: Any) -> "EffectPrediction | None":
        """Return the prediction that `to_audit` wrote; None for anything else."""
        if not isinstance(told, Mapping) or not all(isinstance(told.get(name), int | float) for name in _FIELDS):
            return None
        return cls(*(float(told[name]) for name in _FIELDS))


_FIELDS = ("value", "low", "high")


def judge_effect(
    measured: MeasuredEffect | None, predicted: EffectPrediction | None, *, is_over: bool, metric: str = SCORE
) -> EntryStatus:
    """Return how an effect compares with its prediction; `is_over` says that no more days will be waited for.

    Better or worse: the 95% interval lies outside of the predicted one. As predicted: the two overlap, and the measured
    one is at most half as wide to each side as the predicted effect or its interval, so that it could have differed.
    """
    if predicted is None:
        return EntryStatus.NOT_PREDICTED
    if measured is not None:
        if measured.low > predicted.high or measured.high < predicted.low:
            is_higher = measured.low > predicted.high
            return EntryStatus.BETTER if is_higher != (metric in _LOWER_IS_BETTER) else EntryStatus.WORSE
        if measured.half_width <= predicted.telling:
            return EntryStatus.AS_PREDICTED
    return EntryStatus.CANNOT_TELL if is_over else EntryStatus.TOO_EARLY


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One change of the timeline with its predicted and its measured effect on one metric.

    `change_id` names it: the audit entry's number, or the kind, target and time of a change that another system
    reported. `is_afterwards` says that the prediction was made after the change. `together` are the summaries of the
    changes that it cannot be told apart from: the measured effect is that of all of them. `predicted_in` is the audit
    entry of the prediction, `superseded` are those that it replaced. `is_over`: no later day changes the effect.
    `scale` says on which embedding model's scale it was measured, where the model changed; "" where it did not.
    """

    change_id: str
    at: datetime
    kind: str
    target: str
    summary: str
    actor: str
    metric: str
    predicted: EffectPrediction | None
    measured: MeasuredEffect | None
    status: EntryStatus
    why: str = ""
    is_afterwards: bool = False
    together: tuple[str, ...] = ()
    predicted_in: int | None = None
    superseded: tuple[int, ...] = ()
    entry_id: int | None = None
    is_over: bool = False
    scale: str = ""

    @property
    def remark(self) -> str:
        """Why there is no verdict, and on which scale the effect was measured; "" where there is nothing to say."""
        return "; ".join(filter(None, (self.why, self.scale)))


@dataclass(frozen=True, slots=True)
class Calibration:
    """How good the predictions were that were made in time and could be measured.

    `inside` counts those as predicted, `mean_error` is the mean of |predicted - measured|, None without any.
    """

    predicted: int
    measured: int
    inside: int
    mean_error: float | None
    never_predicted: int
    afterwards: int


def calibrate(entries: Iterable[LedgerEntry]) -> Calibration:
    """Return the calibration over the entries of a ledger."""
    listed = list(entries)
    made = [entry for entry in listed if entry.predicted is not None and not entry.is_afterwards]
    told = [entry for entry in made if entry.status in TOLD]
    errors = [abs(entry.predicted.value - entry.measured.size) for entry in told if entry.predicted and entry.measured]
    return Calibration(
        len(made),
        len(told),
        sum(entry.status is EntryStatus.AS_PREDICTED for entry in told),
        sum(errors) / len(errors) if errors else None,
        sum(entry.predicted is None for entry in listed),
        sum(entry.is_afterwards for entry in listed),
    )


def describe_effect(found: EffectPrediction | MeasuredEffect | None) -> str:
    """Return an effect with its interval; "" for none."""
    if found is None:
        return ""
    size = found.value if isinstance(found, EffectPrediction) else found.size
    return say_interval(size, found.low, found.high)


def describe_entry(entry: LedgerEntry) -> str:
    """Return in words what a change was predicted to do, what it did, and how they compare."""
    predicted = f"predicted {describe_effect(entry.predicted)}" if entry.predicted else "never predicted"
    late = " afterwards" if entry.is_afterwards else ""
    measured = f"measured {describe_effect(entry.measured)}" if entry.measured else "not measured"
    verdict = f": {entry.status}" if entry.predicted else ""
    why = f" ({entry.remark})" if entry.remark else ""
    return f"{entry.metric} {predicted}{late}, {measured}{verdict}{why}"


def describe_calibration(found: Calibration) -> str:
    """Return the calibration in one sentence."""
    never = f"{count_of(found.never_predicted, 'change')} never predicted"
    if not found.measured:
        waiting = (
            f"{count_of(found.predicted, 'prediction')}, none measured yet" if found.predicted else "No prediction"
        )
        return f"{waiting}; {never}."
    holds = "holds" if found.inside == 1 else "hold"
    return (
        f"Of {count_of(found.measured, 'measured prediction')}, {found.inside} {holds}; the mean error is "
        f"{say_size(found.mean_error or 0.0)}. {never[0].upper()}{never[1:]}."
    )
