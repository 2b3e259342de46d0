"""How often the segment that carries a drop is named first, among three dimensions of 20 values each.

Run: python -m benchmarks.segment_search [--stores 100] [--first-seed 0] [--jobs 2] Each store has 70 days of sessions
with the noise of the drift streams; values are Zipf-distributed and independent. In the first kind one value with at
least 4% of the traffic falls, by 0.02 to 0.06 of all scores (at most 0.45 inside). The others are quiet about segments:
nothing falls, everything falls alike, everything falls by a factor while values differ in level, and every value
wobbles from day to day by itself. The peer compares each value with itself by a t-test of daily means, without
correction for searching.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from benchmarks.scores import summarize_scores
from core.causes.search import find_segment
from core.drift.changepoint import replay
from core.drift.verdict import as_history, decide_drift
from core.log.values import DailyScores

FIRST_DAY = date(2026, 1, 5)
DAYS, VALUES, ONSET = 70, 20, 50
DIMENSIONS = ("tenant", "locale", "channel")
KINDS = (
    "one value falls", "nothing falls", "everything falls", "everything falls by a factor",
    "everything falls, values wobble",
)  # fmt: skip
Segments = dict[str, dict[str, list[DailyScores]]]


@dataclass(frozen=True, slots=True)
class Found:
    """What was named in one store: whether the drop was dated, the truth, the name by us, and that of the peer."""

    kind: str
    is_dated: bool
    truth: tuple[str, str] | None
    ours: tuple[str, str] | None
    peer: tuple[str, str] | None


def draw_store(kind: str, seed: int) -> tuple[list[DailyScores], Segments, tuple[str, str] | None]:
    """Return all days, the days of each value, and the value that falls."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    shares = [rng.permutation(_zipf()) for _ in DIMENSIONS]
    levels = rng.normal(0, 0.03, (len(DIMENSIONS), VALUES))
    at, value = int(rng.integers(len(DIMENSIONS))), 0
    value = int(rng.choice(np.flatnonzero(shares[at] >= 0.04)))
    fall = min(float(rng.uniform(0.02, 0.06)), 0.45 * float(shares[at][value]))
    per_day, wobble, own = int(rng.choice([2_000, 5_000])), 0.0, np.zeros((len(DIMENSIONS), VALUES))
    days: list[DailyScores] = []
    segments: Segments = {dimension: {} for dimension in DIMENSIONS}
    for day in range(DAYS):
        wobble = 0.3 * wobble + rng.normal(0, 0.0076)
        own = 0.3 * own + rng.normal(0, 0.01 if kind.endswith("wobble") else 0.0, own.shape)
        sizes = 1 + rng.poisson(2, max(1, rng.poisson(per_day) // 3))
        labels = [np.repeat(rng.choice(VALUES, len(sizes), p=share), sizes) for share in shares]
        scores = 0.62 + wobble + np.repeat(rng.normal(0, 0.06, len(sizes)), sizes) + rng.normal(0, 0.104, sizes.sum())
        for number, label in enumerate(labels):
            scores += levels[number][label] + own[number][label]
        if day >= ONSET:
            scores = _fallen(kind, scores, labels[at] == value, fall, fall / float(shares[at][value]))
        scores = np.clip(scores, 0, 1)
        when = FIRST_DAY + timedelta(days=day)
        days.append(summarize_scores(when, scores))
        for dimension, label in zip(DIMENSIONS, labels, strict=True):
            for each in np.unique(label):
                segments[dimension].setdefault(f"v{each}", []).append(summarize_scores(when, scores[label == each]))
    return days, segments, (DIMENSIONS[at], f"v{value}") if kind == KINDS[0] else None


def _zipf() -> np.ndarray:
    weights = 1 / np.arange(1, VALUES + 1)
    return weights / weights.sum()


def _fallen(kind: str, scores: np.ndarray, inside: np.ndarray, fall: float, deep: float) -> np.ndarray:
    if kind == KINDS[0]:
        return np.where(inside, scores - deep, scores)
    if kind == "nothing falls":
        return scores
    return scores * (1 - fall / 0.62) if kind.endswith("factor") else scores - fall


def search(task: tuple[str, int]) -> Found:
    """Draw a store, date its drop some days after the call, and search it."""
    kind, seed = task
    days, segments, truth = draw_store(kind, seed)
    called = next((e.called for e in replay(as_history(days)).episodes if e.called >= ONSET), None)
    until = min(DAYS - 1, (called or DAYS) + 2 + seed % 4)
    report = decide_drift(days[: until + 1], today=days[until].day)
    seen = {
        dimension: {value: [d for d in held if d.day <= days[until].day] for value, held in values.items()}
        for dimension, values in segments.items()
    }
    found = find_segment(report, seen).found
    peer = _blame_by_t(seen, report.changed_on) if report.changed_on else None
    return Found(kind, report.changed_on is not None, truth, (found.dimension, found.value) if found else None, peer)


def _blame_by_t(segments: Segments, changed: date) -> tuple[str, str] | None:
    """The peer: the value whose own daily means fell with the smallest p, if that is below 5%."""
    from scipy.stats import ttest_ind

    found: list[tuple[float, tuple[str, str]]] = []
    for dimension, values in segments.items():
        for value, held in values.items():
            means = [(d.day >= changed, d.total / d.count) for d in held]
            after, before = ([mean for is_after, mean in means if is_after == side] for side in (True, False))
            if min(len(after), len(before)) > 1:
                found.append((float(ttest_ind(after, before, alternative="less").pvalue), (dimension, value)))
    p, name = min(found, default=(1.0, ("", "")))
    return name if p < 0.05 else None


def run(stores: int, *, kinds: Sequence[str] = KINDS, first_seed: int = 0, jobs: int = 1) -> list[Found]:
    """Search so many stores of each kind."""
    tasks = [(kind, first_seed + at) for kind in kinds for at in range(stores)]
    if jobs == 1:
        return [search(task) for task in tasks]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(search, tasks, chunksize=4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    found = run(options.stores, first_seed=options.first_seed, jobs=options.jobs)
    print(f"Seeds from {options.first_seed}, {options.stores} stores of each kind\n")
    print("| stores | dated | named rightly (bar 90%) or none (bar 95%): ours | t-test |\n| --- | --- | --- | --- |")
    for kind in KINDS:
        held = [each for each in found if each.kind == kind]
        dated, ours, peer = (
            sum(flags)
            for flags in (
                [each.is_dated for each in held],
                [each.ours == each.truth for each in held],
                [each.peer == each.truth for each in held],
            )
        )
        print(f"| {kind} | {dated}/{len(held)} | {ours}/{len(held)} | {peer}/{len(held)} |")


if __name__ == "__main__":
    main()
