"""Rule: how large the effects of dated changes on daily means were, measured together, each with an interval.

Knows days as ordinals and no names; `entries.py` compares an effect with what was predicted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from core.drift.daily import (
    PRIOR_DEGREES,
    DailyHistory,
    Floats,
    NoiseLikelihood,
    normal_to_student,
    whiten,
)

BEFORE_DAYS = 56  # that a change is compared with
AFTER_DAYS = 14  # after which a change is measured for good
LEAST_DAYS = 3  # after a change, and before it
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class DatedStep:
    """When something changed: the ordinal of the day plus the part of it that had passed.

    `reach` is the share of users that it can have affected, 0 to 1; several steps in one group are stages of a change.
    """

    at: float
    reach: float = 1.0


class DaySums(NamedTuple):
    """The ordinal of a day, its number of questions with a value, and their sum."""

    ordinal: int
    asked: int
    total: float


@dataclass(frozen=True, slots=True)
class MeasuredEffect:
    """How much a daily mean changed with its 95% interval, from so many observed days before and after the change.

    Without days before, it is from users whom the change reached and others, on the same days.
    """

    size: float
    low: float
    high: float
    before: int
    after: int

    @property
    def half_width(self) -> float:
        """Half of the interval."""
        return (self.high - self.low) / 2


def group_inseparable(steps: Sequence[DatedStep], *, days: float = AFTER_DAYS) -> tuple[tuple[int, ...], ...]:
    """Return the indices of the steps in groups, by time: those whose measured days overlap by more than half.

    Two changes are told apart by the days on which only one of them was in effect. A group is a chain: each member is
    inseparable from the one before it.

    >>> group_inseparable([DatedStep(100.0), DatedStep(104.0), DatedStep(120.5)])
    ((0, 1), (2,))
    """
    groups: list[list[int]] = []
    for at in sorted(range(len(steps)), key=lambda each: steps[each].at):
        if groups and steps[at].at - steps[groups[-1][-1]].at < days / 2:
            groups[-1].append(at)
        else:
            groups.append([at])
    return tuple(map(tuple, groups))


def measure_effects(history: DailyHistory, groups: Sequence[Sequence[DatedStep]]) -> tuple[MeasuredEffect | None, ...]:
    """Return the effect of each group of steps on the mean, all fitted at once, so that they add up to the whole.

    A day's mean is a level + weekday effects + for each group its size times the share of the group's reach that was in
    effect that day + an autocorrelated wobble + sampling noise (`core.drift.daily`). The day of a change counts by the
    part of it that came after. Sizes are fitted by generalized least squares with the noise of the same days; the
    interval is Student's, with the days less the fitted numbers, and the weight of the priors, as degrees of freedom.
    None where a group has fewer than three observed days on either side, or its days do not differ from another's.

    Assumes that nothing else changed the level within these days: a season or an unrecorded change is taken for the
    effect. Source: Harvey, "Forecasting, Structural Time Series Models and the Kalman Filter", 1989, ch. 7
    (intervention analysis); Box and Tiao, JASA 70(349), 1975.
    """
    shapes = np.column_stack([_shape(history, steps) for steps in groups]) if groups else np.zeros((len(history), 0))
    before, after = (shapes < 0.5).sum(axis=0), (shapes >= 0.5).sum(axis=0)
    kept = [at for at in range(len(groups)) if min(before[at], after[at]) >= LEAST_DAYS]
    found: list[MeasuredEffect | None] = [None] * len(groups)
    if not kept:
        return tuple(found)
    sizes, errors, degrees = _fit(history, shapes, [int(np.argmax(shapes[:, at] >= 0.5)) for at in kept])
    deviate = normal_to_student(_Z95, degrees)
    for at in kept:
        half = deviate * float(errors[at])
        if math.isfinite(half) and half < 1.0:
            size = float(sizes[at])
            found[at] = MeasuredEffect(size, size - half, size + half, int(before[at]), int(after[at]))
    return tuple(found)


def measure_arm(touched: Sequence[DaySums], others: Sequence[DaySums], *, before: float) -> MeasuredEffect | None:
    """Return what a change for some of the users did to the mean of all, from both groups on the same days.

    `touched` and `others` are the days since the change of those whom it reached and of the rest. The effect is
    (share - `before`) times the mean of the daily differences, where share is that of the touched questions and
    `before` their share before the change. Days are weighted by n1 n2 / (n1 + n2); the interval is Student's over the
    days. Whatever else changed on these days is in both groups, so it is in neither the effect nor the interval.

    Assumes that chance decided who was reached, as it does with a rollout by user. None for fewer than three days.
    Source: Cochran, "Sampling Techniques", 3rd ed. 1977, ch. 5 (strata).
    """
    known = {day.ordinal: day for day in others if day.asked}
    pairs = [(day, known[day.ordinal]) for day in touched if day.asked and day.ordinal in known]
    if len(pairs) < LEAST_DAYS:
        return None
    n1, n2 = (np.array([float(pair[at].asked) for pair in pairs]) for at in (0, 1))
    differences = np.array([one.total / one.asked - other.total / other.asked for one, other in pairs])
    weights = n1 * n2 / (n1 + n2)
    weights /= weights.sum()
    mean = float(weights @ differences)
    days = len(pairs)
    error = math.sqrt(float((weights * (differences - mean)) ** 2 @ np.ones(days)) * days / (days - 1))
    share = float(n1.sum() / (n1.sum() + n2.sum())) - before
    half = abs(share) * normal_to_student(_Z95, days - 1) * error
    return MeasuredEffect(share * mean, share * mean - half, share * mean + half, 0, days)


def _shape(history: DailyHistory, steps: Sequence[DatedStep]) -> Floats:
    """Return the share of a group's reach that was in effect on each day, 0 to 1."""
    reach = np.array([max(step.reach, 1e-6) for step in steps])
    passed = np.clip(history.ordinal[:, None] + 1 - np.array([step.at for step in steps])[None], 0.0, 1.0)
    return np.asarray(passed @ (reach / reach.sum()))


def _fit(history: DailyHistory, shapes: Floats, starts: Sequence[int]) -> tuple[Floats, Floats, float]:
    """Return sizes, standard errors and degrees of freedom of all shapes."""
    unit = history.unit_at(len(history))
    noise = NoiseLikelihood(history, unit=unit, steps=starts).estimate(0, len(history))
    columns = np.column_stack([history.mean - history.mean[0], history.design, shapes])
    white = whiten(history, noise, columns)
    inverse = np.linalg.inv(white[:, 1:].T @ white[:, 1:] + np.diag(noise.with_steps(shapes.shape[1])))
    effects = inverse @ (white[:, 1:].T @ white[:, 0])
    errors = np.sqrt(np.diag(inverse))
    own = slice(-shapes.shape[1], None)
    return effects[own], errors[own], max(1.0, PRIOR_DEGREES + len(history) - 2 - shapes.shape[1])
