"""Rule: why users are not split as they should be: who was in two arms, and where and since when the split is wrong.

`core.arms.sequential.compare_shares` decides whether it is wrong at all.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Protocol

from core.arms.sequential import MISMATCH_P, compare_shares
from core.rollouts.experiment_design import Design

MANY_CROSSED = 0.01  # share of users in two arms above which it is a reason by itself
_LOST = 0.05  # difference of the shares of lost users that is worth naming
_FEW = 50  # users of a service or a day; with fewer, nothing is said of it


class ReportedExposure(Protocol):
    """The fields of an exposed user that are read here."""

    @property
    def targeting_key(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def first_seen(self) -> datetime: ...
    @property
    def service(self) -> str: ...


def count_crossed(
    exposures: Iterable[ReportedExposure], design: Design, *, drawn_since: datetime, until: datetime
) -> int:
    """Return how many users were exposed to more than one arm since they were drawn; they count in none."""
    arms: dict[str, set[str]] = defaultdict(set)
    for each in exposures:
        if drawn_since <= each.first_seen < until and each.variant in design.arms:
            arms[each.targeting_key].add(each.variant)
    return sum(len(found) > 1 for found in arms.values())


def explain_mismatch(
    design: Design, users: Sequence[ReportedExposure], logged: Mapping[str, int], *, crossed: int, p: float | None
) -> tuple[str, ...]:
    """Return likely reasons, the best supported first; empty where the split is right and few users crossed.

    `users` are those who count, once each, `logged` the users found in the log by arm, `p` the p-value of the split.
    """
    noted = Counter(each.variant for each in users)
    is_wrong = p is not None and p < MISMATCH_P
    found = _say_crossed(crossed, len(users))
    if is_wrong:
        weights = dict(zip(design.arms, design.shares, strict=True))
        if is_split_wrong(noted, weights):
            found += _say_silent(noted, weights) or [*_say_services(users, weights), *_say_days(users, weights)]
            found = found or [_USUAL]
        else:
            found += [_say_lost(noted, logged)]
    return tuple(found)


_USUAL = (
    "Every service and day shows it alike: an arm that fails or redirects before its users are recorded, bots that "
    "only one arm lets in, or a share that was changed outside of the deck."
)


def is_split_wrong(counts: Mapping[str, int], weights: Mapping[str, float]) -> bool:
    """Whether the counts are surely not a draw by these weights."""
    p = compare_shares(counts, weights) if sum(counts.values()) else None
    return p is not None and p < MISMATCH_P


def _say_crossed(crossed: int, counted: int) -> list[str]:
    share = crossed / (crossed + counted) if crossed else 0.0
    if share < MANY_CROSSED:
        return []
    return [
        f"{crossed:,} users ({share:.1%}) were in two arms and count in neither: the id that the flag is evaluated for "
        "changes between requests, or services use different ids for one user."
    ]


def _say_silent(noted: Mapping[str, int], weights: Mapping[str, float]) -> list[str]:
    silent = [arm for arm in weights if not noted.get(arm)]
    if not silent:
        return []
    return [f"No user of {silent[0]} is recorded: its code asks for another flag, or never reports the exposure."]


def _say_services(users: Sequence[ReportedExposure], weights: Mapping[str, float]) -> list[str]:
    """Name the services in which the split is wrong, where it is right in others."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for each in users:
        counts[each.service][each.variant] += 1
    known = {service: found for service, found in counts.items() if found.total() >= _FEW}
    wrong = [service for service, found in known.items() if is_split_wrong(found, weights)]
    if not wrong or len(wrong) == len(known):
        return []
    worst = max(wrong, key=lambda service: known[service].total())
    return [
        f"Only in the service {worst}: {_say_counts(known[worst], weights)}. Elsewhere the split is right, so look at "
        f"how {worst} finds the user's id and when it reports."
    ]


def _say_days(users: Sequence[ReportedExposure], weights: Mapping[str, float]) -> list[str]:
    """Name the day since which the split is wrong, where it was right before."""
    counts: dict[date, Counter[str]] = defaultdict(Counter)
    for each in users:
        counts[each.first_seen.date()][each.variant] += 1
    days = sorted(day for day, found in counts.items() if found.total() >= _FEW)
    wrong = [day for day in days if is_split_wrong(counts[day], weights)]
    if not wrong or wrong[0] == days[0]:
        return []
    return [f"Since {wrong[0].day} {wrong[0]:%b}, and not before: see what was changed or deployed on that day (UTC)."]


def _say_lost(noted: Mapping[str, int], logged: Mapping[str, int]) -> str:
    """Exposures are split right, so users are lost on the way to the log."""
    lost = {arm: 1 - logged.get(arm, 0) / count for arm, count in noted.items() if count}
    usual = "retrievals without a session id, errors that are not logged, or a cache that answers for an arm"
    if not lost or max(lost.values()) - min(lost.values()) < _LOST:
        return f"Exposures are split as they should be; users are lost on the way to the log: {usual}."
    worst, best = max(lost, key=lambda arm: lost[arm]), min(lost, key=lambda arm: lost[arm])
    return (
        f"Exposures are split as they should be, but {lost[worst]:.0%} of the exposed users of {worst} are not in the "
        f"log, against {max(0.0, lost[best]):.0%} of {best}: {usual}."
    )


def _say_counts(counts: Counter[str], weights: Mapping[str, float]) -> str:
    total = counts.total()
    arm = max(weights, key=lambda arm: weights[arm] - counts[arm] / total)
    return f"{counts[arm] / total:.1%} of its {total:,} users are on {arm}, {weights[arm]:.1%} are expected"
