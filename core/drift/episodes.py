"""Rule: every drop and outage that a log of daily scores has had, as the verdicts of its days called them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from itertools import pairwise

from core.drift.detector import Detector
from core.drift.detectors import DETECTOR
from core.drift.models import find_model_days
from core.drift.outage import list_outages
from core.drift.scales import ModelMap
from core.drift.verdict import as_history
from core.log.values import DailyScores


class EpisodeKind(StrEnum):
    """A drop of the level of scores, or searches that find nothing or come back without a score."""

    DROP = "drop"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True)
class DatedEpisode:
    """A drop or an outage: when it began, when it was called, when its end was noticed, and how far the level fell."""

    kind: EpisodeKind
    changed_on: date
    called_on: date
    ended_on: date | None
    fall: float | None  # in points of the score, negative; None for an outage


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Days of one reference. Calls count from `first` on; what is open at the end is over on `until`."""

    days: tuple[DailyScores, ...]
    first: date
    until: date | None


def list_episodes(
    days: Sequence[DailyScores],
    *,
    models: Mapping[str, Sequence[DailyScores]],
    today: date,
    longest_gap: int,
    accepted_on: date | None = None,
    maps: Sequence[ModelMap] = (),
    pending: Collection[date] = (),
    detector: Detector = DETECTOR,
) -> tuple[DatedEpisode, ...]:
    """Return every episode up to the end of `today`, in the order of its call.

    The same as asking for the verdict at the end of each day, since a detector uses no later day. A further drop inside
    an open one is an entry of its own. The reference starts anew after a gap of more than `longest_gap` days, with
    another embedding model, and on `accepted_on`: what is open then is over.
    """
    known = [day for day in days if day.day <= today]
    found: list[DatedEpisode] = []
    for part in _split_at_gaps(known, longest_gap=longest_gap, accepted_on=accepted_on):
        for stretch in _split_by_model(part, models, maps):
            found += _list_drops(stretch, detector, pending)
        found += _list_outages(part)
    return tuple(sorted(found, key=lambda each: (each.called_on, each.changed_on, each.kind)))


def _split_at_gaps(days: Sequence[DailyScores], *, longest_gap: int, accepted_on: date | None) -> list[_Stretch]:
    starts = [at for at, (a, b) in enumerate(pairwise(days), 1) if (b.day - a.day).days - 1 > longest_gap]
    if accepted_on is not None:
        starts += [at for at, day in enumerate(days) if at and day.day >= accepted_on][:1]
    edges = [0, *sorted(set(starts)), len(days)]
    return [
        _Stretch(tuple(days[low:high]), days[low].day, days[high].day if high < len(days) else None)
        for low, high in pairwise(edges)
        if low < high
    ]


def _split_by_model(
    part: _Stretch, models: Mapping[str, Sequence[DailyScores]], maps: Sequence[ModelMap]
) -> list[_Stretch]:
    """The days of each model that answered most, from the first one on; all days where one model is used."""
    first, last = part.days[0].day, part.days[-1].day
    within = {name: [day for day in days if first <= day.day <= last] for name, days in models.items()}
    found: list[_Stretch] = []
    until = part.until
    while True:
        used = find_model_days({name: days for name, days in within.items() if days}, today=last, maps=maps)
        if used is not None and used.bridge is not None:
            return [_Stretch(used.days, first, until), *found]
        if used is None or used.changed_on is None:
            days = used.days if used else tuple(day for day in part.days if day.day <= last)
            return [_Stretch(days, first, until), *found]
        found.insert(0, _Stretch(used.days, used.changed_on, until))
        until, last = used.changed_on, used.changed_on - timedelta(days=1)


def _list_drops(stretch: _Stretch, detector: Detector, pending: Collection[date]) -> list[DatedEpisode]:
    known = [day for day in stretch.days if day.count and day.day not in pending]
    if not known:
        return []
    seen = detector.replay(as_history(known))
    found = []
    for each in seen.episodes:
        fall = each.fall if each.fall is not None else seen.fall.size if seen.fall and not each.is_over else None
        ended = known[each.ended].day if each.ended is not None else stretch.until
        found.append(
            DatedEpisode(EpisodeKind.DROP, known[each.changed].day, known[each.called].day, ended, fall),
        )
    return [each for each in found if each.called_on >= stretch.first]


def _list_outages(part: _Stretch) -> list[DatedEpisode]:
    return [
        DatedEpisode(EpisodeKind.OUTAGE, since, called, ended or part.until, None)
        for since, called, ended in list_outages(part.days)
    ]
