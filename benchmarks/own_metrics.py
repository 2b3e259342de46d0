"""How often own metrics call equal arms different, and how often they see a real difference, by simulation.

Run: python -m benchmarks.own_metrics

Users come back: each has an activity and a level of their own. Every hour new questions come in, and both arms are
compared as an experiment does (alpha 0.025 a side, always valid), at 72 looks. A call is any look at which the interval
excludes 0. Equal arms: at most 5% of the runs may make one. The seeds are not those that anything was tuned on.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.arms.own import UserSums, find_usual, measure_arm, measure_percentile
from core.arms.sequential import Moments, adjust_moments, compare_moments
from core.metrics.definition import MetricDefinition, MetricSource, Statistic

ALPHA = 0.025
LOOKS = 72
SEED = 180_500
_Floats = NDArray[np.float64]

MEAN = MetricDefinition("stars", MetricSource.SCORE, Statistic.MEAN, "stars")
SHARE = MetricDefinition("slow", MetricSource.LATENCY, Statistic.SHARE, at_least=2_000.0, is_higher_better=False)
CONVERSION = MetricDefinition("resolved", MetricSource.EVENT, Statistic.SHARE, "resolved")
RATIO = MetricDefinition("cost per question", MetricSource.COST, Statistic.RATIO, per="questions")
PER_EVENT = MetricDefinition("cost per click", MetricSource.COST, Statistic.RATIO, per="click")
PER_USER = MetricDefinition("sales per user", MetricSource.EVENT, Statistic.RATIO, "sale", per="users")


@dataclass
class Crowd:
    """One arm's users over the run: activity an hour, and the effect of the user on the numbers."""

    rng: np.random.Generator
    users: int
    lift: float

    def __post_init__(self) -> None:
        self.rates = np.minimum(self.rng.lognormal(math.log(0.02), 1.2, self.users), 3.0)
        self.levels = self.rng.normal(0.0, 0.4, self.users)

    def ask(self, hours: float = 1.0) -> NDArray[np.int64]:
        """Return who asks in the next hours, one entry for each question."""
        return np.repeat(np.arange(self.users), self.rng.poisson(self.rates * hours))

    def draw(self, users: NDArray[np.int64], lift: float) -> _Floats:
        """Return a skewed number for each question, such as a latency: more active users have higher ones."""
        level = self.levels[users] + 0.15 * np.log(self.rates[users] / 0.02)
        return 500.0 * (1 + lift) * np.exp(level + self.rng.normal(0.0, 0.8, len(users)))


def run_once(kind: str, rng: np.random.Generator, users: int, lift: float) -> bool:
    """Return whether any look of one run calls the arms different; the second arm is better or worse by `lift`."""
    arms = [_Arm(kind, Crowd(rng, users, change), change) for change in (0.0, lift)]
    before = [arm.before for arm in arms if arm.before]
    usual = find_usual(MEAN, before)
    for _ in range(LOOKS):
        first, second = (arm.advance(usual) for arm in arms)
        if first is None or second is None:
            continue
        known = compare_moments(*adjust_moments(first, second))
        if known is not None and abs(known.estimate) > known.half_width(ALPHA):
            return True
    return False


class _Arm:
    def __init__(self, kind: str, crowd: Crowd, lift: float) -> None:
        self.kind, self.crowd, self.lift = kind, crowd, lift
        zeros = np.zeros(crowd.users)
        self.sums = UserSums(zeros.copy(), zeros.copy(), zeros.copy())
        self.seen = np.zeros(crowd.users, dtype=np.bool_)
        self.numbers: list[_Floats] = []
        self.owners: list[NDArray[np.int64]] = []
        self.before: UserSums | None = None
        if kind == "mean, with earlier values":
            self.before = UserSums(zeros.copy(), zeros.copy(), zeros.copy())
            who = crowd.ask(24 * 28)
            _add(self.before, who, crowd.draw(who, 0.0))

    def advance(self, usual: float) -> Moments | None:
        who = self.crowd.ask()
        self.seen[who] = True
        KINDS[self.kind](self, who)
        return self.measure(usual)

    def measure(self, usual: float) -> Moments | None:
        if self.kind.startswith("percentile"):
            numbers = np.concatenate(self.numbers)
            return measure_percentile(numbers, np.concatenate(self.owners), 95 if "95" in self.kind else 50)
        seen = self.seen
        before = self.before
        return measure_arm(
            METRICS[self.kind], UserSums(self.sums.counts[seen], self.sums.totals[seen], self.sums.below[seen]),
            UserSums(before.counts[seen], before.totals[seen], before.below[seen]) if before else None,
            usual=usual,
        )  # fmt: skip


def _add(sums: UserSums, who: NDArray[np.int64], numbers: _Floats) -> None:
    np.add.at(sums.counts, who, 1.0)
    np.add.at(sums.totals, who, numbers)


def _numbers(arm: _Arm, who: NDArray[np.int64]) -> None:
    _add(arm.sums, who, arm.crowd.draw(who, arm.lift))


def _high(arm: _Arm, who: NDArray[np.int64]) -> None:
    _add(arm.sums, who, (arm.crowd.draw(who, arm.lift) >= 2_000.0).astype(np.float64))


def _per_question(arm: _Arm, who: NDArray[np.int64]) -> None:
    _numbers(arm, who)
    np.add.at(arm.sums.below, who, 1.0)


def _per_event(arm: _Arm, who: NDArray[np.int64]) -> None:
    _numbers(arm, who)
    chance = 0.2 / (1 + np.exp(-arm.crowd.levels[who]))
    np.add.at(arm.sums.below, who, (arm.crowd.rng.random(len(who)) < chance).astype(np.float64))


def _convert(arm: _Arm, who: NDArray[np.int64]) -> None:
    chance = 0.03 * (1 + arm.lift)
    of = who[arm.crowd.rng.random(len(who)) < chance]
    _add(arm.sums, of, np.ones(len(of)))


def _sell(arm: _Arm, who: NDArray[np.int64]) -> None:
    of = who[arm.crowd.rng.random(len(who)) < 0.05]
    _add(arm.sums, of, arm.crowd.draw(of, arm.lift))
    arm.sums.below[:] = 1.0


def _keep(arm: _Arm, who: NDArray[np.int64]) -> None:
    arm.owners.append(who)
    arm.numbers.append(arm.crowd.draw(who, arm.lift))


KINDS: dict[str, Callable[[Any, NDArray[np.int64]], None]] = {
    "mean": _numbers, "mean, with earlier values": _numbers, "share of numbers": _high, "share of users": _convert,
    "ratio per question": _per_question, "ratio per event": _per_event, "ratio per user": _sell,
    "percentile 50": _keep, "percentile 95": _keep,
}  # fmt: skip
METRICS = {
    "mean": MEAN, "mean, with earlier values": MEAN, "share of numbers": SHARE, "share of users": CONVERSION,
    "ratio per question": RATIO, "ratio per event": PER_EVENT, "ratio per user": PER_USER,
}  # fmt: skip
LIFTS = {"share of numbers": 0.1, "share of users": 0.4, "ratio per user": 0.4}


def main() -> None:
    """Print, for each statistic, the share of runs with a call: of equal arms, and of arms that differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--users", type=int, default=2_000, help="of each arm")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--kind", default="")
    given = parser.parse_args()
    for at, kind in enumerate(KINDS):
        if given.kind and given.kind != kind:
            continue
        lift = LIFTS.get(kind, 0.1)
        equal, other = (
            sum(run_once(kind, np.random.default_rng([given.seed, at, which, run]), given.users, change)
                for run in range(runs))
            / runs
            for which, (change, runs) in enumerate(((0.0, given.runs), (lift, max(20, given.runs // 4))))
        )  # fmt: skip
        print(f"{kind:<26} equal arms {equal:6.1%}   {lift:.0%} better {other:6.1%}", flush=True)


if __name__ == "__main__":
    main()
