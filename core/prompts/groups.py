"""Rule: which of many runs to judge together: those over the same cases, one of each version.

Values in, choice out. A run over cases of its own, or a version without a table of cases, spoils nothing.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass

ALIKE = 0.9  # of the cases of two runs together, the share that both have
OVERLAP = 0.5  # of the smaller run's cases, when no two runs are alike
FEWEST_SHARED = 6


@dataclass(frozen=True, slots=True)
class Group:
    """The runs to judge together, one of each version, and the cases that all of them share, sorted."""

    run_ids: tuple[str, ...]
    shared: tuple[str, ...]


def choose_group(
    versions: Sequence[Sequence[str]], cases: Mapping[str, Set[str]], *, production: int | None = None
) -> Group:
    """Return the largest group of versions whose runs share their cases.

    `versions` are the ids of each version's runs, newest first; `cases` the cases of each run that has some. Of equal
    groups the one with the version in `production` (its position) counts, then the one with the newest run, in the
    order of `versions`. Each version takes part with its newest run that fits. Runs are alike when they share at least
    90% of their cases; when no two are, half of the smaller run's cases and at least 6 are enough.
    """
    best: tuple[tuple[int, bool, int, int], tuple[str, ...]] | None = None
    for is_fit in (_are_alike, _overlap):
        for at, runs in enumerate(versions):
            for seed in runs:
                if cases.get(seed):
                    members = _gather(seed, versions, cases, is_fit)
                    has_live = production is not None and bool(set(versions[production]) & set(members))
                    rank = (len(members), has_live, -at, -runs.index(seed))
                    if best is None or rank > best[0]:
                        best = rank, members
        if best is None or len(best[1]) > 1:
            break
    if best is None:
        return Group((), ())
    shared = set.intersection(*(set(cases[run_id]) for run_id in best[1]))
    return Group(best[1], tuple(sorted(shared)))


def choose_same(
    runs: Sequence[str], cases: Mapping[str, Set[str]], versions: Mapping[str, Hashable], *, production: Hashable = None
) -> tuple[str, ...]:
    """Return which of some chosen runs to judge together: one of each version, all over exactly the same cases.

    `runs` come newest first, and the newest of a version counts. Of equally many versions the runs with the version in
    `production` count, then those with the newest run. Without two versions over the same cases, all runs are returned.
    """
    same: dict[frozenset[str], dict[Hashable, str]] = {}
    for run_id in runs:
        same.setdefault(frozenset(cases[run_id]), {}).setdefault(versions[run_id], run_id)
    best = max(same.values(), key=lambda found: (len(found), production in found), default={})
    return tuple(best.values()) if len(best) > 1 else tuple(runs)


def _gather(
    seed: str,
    versions: Sequence[Sequence[str]],
    cases: Mapping[str, Set[str]],
    is_fit: Callable[[Set[str], Set[str]], bool],
) -> tuple[str, ...]:
    """The seed and of each other version the newest run that fits it."""
    wanted = cases[seed]
    members = []
    for runs in versions:
        fits = [run_id for run_id in runs if run_id == seed or (cases.get(run_id) and is_fit(wanted, cases[run_id]))]
        members += [seed if seed in runs else fits[0]] if fits else []
    return tuple(members)


def _are_alike(one: Set[str], other: Set[str]) -> bool:
    return len(one & other) >= ALIKE * len(one | other)


def _overlap(one: Set[str], other: Set[str]) -> bool:
    both = len(one & other)
    return both >= FEWEST_SHARED and both >= OVERLAP * min(len(one), len(other))
