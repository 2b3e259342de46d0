"""False alarms and power of canaries and A/B tests that are checked continuously, compared with z-tests.

Run: python -m benchmarks.sequential_tests [--runs 1000] [--users 6000] [--looks 100] [--jobs 2] [--only experiments]
As it stands it takes about 40 minutes on two cores (24 for canaries, 14 for experiments).
Users arrive over the time of the test, come back, and differ from each other, so that the retrievals of one user are
correlated (score: a quarter of the variance lies between users; errors: 0.2; latency and cost: about a quarter). Each
is looked at `--looks` times, from the 30th user of the smaller arm on. Ours is the deck's own rule over its own tally.
The z-tests of a canary are one-sided at 5%, those of an experiment's score two-sided: over users' means, and over
retrievals as if each were a user.
"""

import argparse
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np

from core.arms.arms import ArmsReading, Metric, Tally
from core.arms.comparisons import Margin, compare_arms
from core.arms.sequential import ALPHA, LEAST_USERS
from core.flags.canary_plan import CANARY, DEFAULT_PLAN, STABLE
from core.log.values import UserRow
from core.rollouts import experiment
from core.rollouts.canary import CanaryCall, decide_canary
from core.rollouts.experiment_design import Design, Direction

START = datetime(2026, 3, 1, tzinfo=UTC)
LOOK = timedelta(hours=1)
Z = 1.6449
WATCHED = (Metric.SCORE, Metric.ERRORS, Metric.LATENCY, Metric.COST)
PLAN = replace(
    DEFAULT_PLAN, steps=tuple(replace(step, hold=timedelta(0)) for step in DEFAULT_PLAN.steps), min_users=100
)
SHARES = (5.0, 25.0, 50.0)
TWO_SIDED_Z = 1.9600
GUARDRAILS = (Margin(Metric.ERRORS, 0.02), Margin(Metric.LATENCY, 0.15), Margin(Metric.COST, 0.15))
DESIGN = Design(
    "benchmark", "flag", (STABLE, CANARY), (0.5, 0.5), Metric.SCORE, Direction.UP, 0.02, GUARDRAILS, timedelta(0)
)


@dataclass(frozen=True, slots=True)
class World:
    """What users meet: the share on green, the errors of both arms, and by how much green is worse otherwise."""

    share_pct: float = 5.0
    errors: tuple[float, float] = (0.01, 0.01)
    score_drop: float = 0.0
    latency_factor: float = 1.0
    cost_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The look at which each rule called green worse first, or at which it was promoted; None for never."""

    ours: int | None
    alone: dict[Metric, int | None]
    z_users: dict[Metric, int | None]
    z_queries: dict[Metric, int | None]
    promoted: int | None


def draw_rows(rng: np.random.Generator, world: World, users: int, looks: int) -> list[list[UserRow]]:
    """Return each look's new rows: what every user's retrievals since the look before add up to."""
    green = rng.random(users) < world.share_pct / 100
    asked = 1 + rng.poisson(2, users)
    user = np.repeat(np.arange(users), asked)
    first = np.concatenate([[0], np.cumsum(asked)[:-1]])
    arrival = np.sort(rng.random(users)) * looks
    later = rng.exponential(0.1 * looks, len(user))
    later[first] = 0
    at = (arrival[user] + later).astype(int)
    on_green = green[user]
    rate = np.where(green, world.errors[1], world.errors[0])
    failed = rng.random(len(user)) < rng.beta(4 * rate, 4 * (1 - rate))[user]
    score = 0.7 + rng.normal(0, 0.08, users)[user] + rng.normal(0, 0.14, len(user)) - world.score_drop * on_green
    score = np.where(failed, 0.0, np.clip(score, 0, 1))
    latency = np.exp(rng.normal(0, 0.3, users)[user] + rng.normal(6, 0.5, len(user)))
    latency = latency * np.where(on_green, world.latency_factor, 1)
    cost = np.exp(rng.normal(0, 0.3, users)[user] + rng.normal(-6, 0.5, len(user)))
    cost = cost * np.where(on_green, world.cost_factor, 1)
    order = np.lexsort((user, at))
    order = order[at[order] < looks]
    key = at[order] * users + user[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    sums = [
        np.add.reduceat(values[order], starts) for values in (np.ones(len(user)), 1.0 - failed, score, latency, cost)
    ]
    rows: list[list[UserRow]] = [[] for _ in range(looks)]
    for look, who, n, scored, total, ms, usd in zip(
        at[order][starts].tolist(), user[order][starts].tolist(), *(column.tolist() for column in sums), strict=True
    ):
        arm = CANARY if green[who] else STABLE
        rows[look].append(
            UserRow(look, arm, str(who), int(n), int(scored), total, int(n), ms, int(n), usd, 0, 0.0, 0, 0.0)
        )
    return rows


def run_canary(seed: int, world: World, users: int, looks: int) -> Outcome:
    """Watch one canary over one step by every rule at once."""
    rng = np.random.default_rng(seed)
    tally, seen = Tally((STABLE, CANARY)), []
    per_query = _PerQuery()
    found: dict[str, dict[Metric, int | None]] = {name: {} for name in ("alone", "users", "queries")}
    ours = promoted = None
    for number, rows in enumerate(draw_rows(rng, world, users, looks)):
        look = tally.add(rows, start=START + number * LOOK, at=START + (number + 1) * LOOK)
        seen = [*seen[-2:], look]
        per_query.add(rows)
        verdict = decide_canary(PLAN, seen, share_pct=world.share_pct, since=START, now=look.at)
        ours = number if ours is None and verdict.call is CanaryCall.ROLL_BACK else ours
        promoted = number if promoted is None and verdict.call is CanaryCall.PROMOTE else promoted
        if min(look.arms[arm].users for arm in (STABLE, CANARY)) >= LEAST_USERS:
            alone = [compare_arms(look.arms[STABLE], look.arms[CANARY], [m], alpha=ALPHA) for m in PLAN.margins]
            for name, worse in (
                ("alone", {c.metric for each in alone for c in each if c.is_worse}),
                ("users", _z_test(look)),
                ("queries", per_query.test()),
            ):
                for metric in worse:
                    found[name].setdefault(metric, number)
    return Outcome(ours, found["alone"], found["users"], found["queries"], promoted)


def _z_test(look: ArmsReading) -> set[Metric]:
    return {metric for metric in WATCHED if _z_of(look, metric) * (-1 if metric is Metric.SCORE else 1) > Z}


def _z_of(look: ArmsReading, metric: Metric) -> float:
    first, second = look.arms[STABLE].moments[metric], look.arms[CANARY].moments[metric]
    error = math.sqrt(first.variance / first.users + second.variance / second.users)
    return (second.mean - first.mean) / error if error else 0.0


class _PerQuery:
    """Sums over retrievals; the squares within one user and look are taken as even, which flatters the test."""

    def __init__(self) -> None:
        self._sums = np.zeros((2, len(WATCHED), 3))

    def add(self, rows: Sequence[UserRow]) -> None:
        for row in rows:
            at = int(row.arm == CANARY)
            pairs = (
                (row.scored, row.score),
                (row.queries, row.queries - row.scored),
                (row.timed, row.latency_ms),
                (row.priced, row.cost_usd),
            )
            for metric, (n, total) in enumerate(pairs):
                if n:
                    self._sums[at, metric] += (n, total, total if metric == 1 else total * total / n)

    def test(self) -> set[Metric]:
        found = self._z() * np.array([-1, 1, 1, 1])
        return {metric for metric, z in zip(WATCHED, found, strict=True) if z > Z}

    def z_of_score(self) -> float:
        return float(self._z()[WATCHED.index(Metric.SCORE)])

    def _z(self) -> np.ndarray:
        n, total, squares = np.moveaxis(self._sums, 2, 0)
        mean = total / n
        error = np.sqrt(((squares / n - mean**2) / n).sum(axis=0))
        return np.divide(mean[1] - mean[0], error, out=np.zeros(len(WATCHED)), where=error > 0)


@dataclass(frozen=True, slots=True)
class Trial:
    """The look at which an experiment was called first, and as what; the look at which each z-test of its score was."""

    calls: dict[str, int]
    z_users: int | None
    z_queries: int | None


def run_experiment(seed: int, world: World, users: int, looks: int) -> Trial:
    """Watch one experiment; the first winner or stop ends it, invalid verdicts are counted separately."""
    rng = np.random.default_rng(500_000_000 + seed)
    tally, seen, per_query = Tally((STABLE, CANARY)), [], _PerQuery()
    calls: dict[str, int] = {}
    z_users = z_queries = None
    for number, rows in enumerate(draw_rows(rng, world, users, looks)):
        look = tally.add(rows, start=START + number * LOOK, at=START + (number + 1) * LOOK)
        seen = [*seen[-2:], look]
        per_query.add(rows)
        counts = {arm: found.users for arm, found in look.arms.items()}
        verdict = experiment.decide_experiment(DESIGN, seen, experiment.ExperimentProgress(START, look.at, counts))
        if not calls.keys() & set(_CALLED):
            name = f"{verdict.winner} wins" if verdict.call is experiment.ExperimentCall.WINNER else str(verdict.call)
            calls.setdefault(name, number)
        if min(counts.values()) >= LEAST_USERS:
            z_users = number if z_users is None and abs(_z_of(look, Metric.SCORE)) > TWO_SIDED_Z else z_users
            z_queries = number if z_queries is None and abs(per_query.z_of_score()) > TWO_SIDED_Z else z_queries
    return Trial(calls, z_users, z_queries)


_CALLED = (f"{STABLE} wins", f"{CANARY} wins", str(experiment.ExperimentCall.STOP))


def first_of(trial: Trial, names: Sequence[str]) -> int | None:
    """The look at which one of these was called first."""
    return min((trial.calls[name] for name in names if name in trial.calls), default=None)


def print_experiments(results: dict[str, list[Trial]], looks: int) -> None:
    """False calls and power of experiments, compared with a plain z-test of the score."""
    print("| experiment, 50:50 | green wins | blue wins | stopped | invalid | z-test over users | over retrievals |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, found in results.items():
        cells = [say_median([first_of(trial, [call]) for trial in found], looks) for call in (_CALLED[1], _CALLED[0])]
        cells += [say_median([first_of(trial, [_CALLED[2]]) for trial in found], looks)]
        cells += [say_share([first_of(trial, [str(experiment.ExperimentCall.INVALID)]) for trial in found])]
        cells += [say_share([trial.z_users for trial in found]), say_share([trial.z_queries for trial in found])]
        print(f"| {name} | {' | '.join(cells)} |")
    same = [first_of(trial, _CALLED) for trial in results[NO_EFFECT]]
    print(f"\nno effect, any of winner and stop at any look (bar: at most 5%): {say_share(same)}\n")


def run_three_steps(seed: int, world: World, users: int, looks: int) -> bool:
    """Whether a canary is rolled back in any of its steps of 5, 25 and 50%, each with users of its own."""
    steps = (replace(world, share_pct=share) for share in SHARES)
    return any(run_canary(1_000_000 * at + seed, step, users, looks).ours is not None for at, step in enumerate(steps))


def share_of(found: Sequence[int | None]) -> float:
    """The share of runs in which it happened."""
    return sum(each is not None for each in found) / len(found)


def say_share(found: Sequence[int | None]) -> str:
    """The share of runs with its standard error."""
    share = share_of(found)
    return f"{share:.1%} ± {math.sqrt(share * (1 - share) / len(found)):.1%}"


def say_median(found: Sequence[int | None], looks: int) -> str:
    """The share of runs, and how much of the test it took in the middle of those."""
    at = [each for each in found if each is not None]
    return say_share(found) + (f", after {(np.median(at) + 1) / looks:.0%}" if at else "")


def print_false_alarms(results: dict[str, list[Outcome]]) -> None:
    """False alarms in worlds without a difference: the canary as a whole, and each metric by each rule."""
    print("| no difference: called worse at any look | bar | ours | z-test over users | z-test over retrievals |")
    print("| --- | --- | --- | --- | --- |")
    for name, found in results.items():
        any_user, any_query = ([next(iter(getattr(o, rule).values()), None) for o in found] for rule in RULES[1:])
        row = (say_share([o.ours for o in found]), say_share(any_user), say_share(any_query))
        print(f"| {name}, four metrics together | at most 5% | {' | '.join(row)} |")
        for metric in WATCHED:
            row = tuple(say_share([getattr(o, rule).get(metric) for o in found]) for rule in RULES)
            print(f"| {name}, {metric} alone | at most 5% | {' | '.join(row)} |")


def print_power(results: dict[str, list[Outcome]], looks: int) -> None:
    """How often and how early a true difference is called, and how often it is promoted."""
    print("| a true difference | rolled back | promoted before that |")
    print("| --- | --- | --- |")
    for name, found in results.items():
        first = [o.promoted if o.ours is None or (o.promoted or 0) < o.ours else None for o in found]
        print(f"| {name} | {say_median([o.ours for o in found], looks)} | {say_median(first, looks)} |")


RULES = ("alone", "z_users", "z_queries")
SAME = {"canary of 5%": World(), "canary of 50%": World(share_pct=50.0)}
DIFFERENT = {
    "none, canary of 50%": SAME["canary of 50%"],
    "score -0.03, canary of 5%": World(score_drop=0.03),
    "score -0.05, canary of 5%": World(score_drop=0.05),
    "score -0.03, canary of 50%": World(share_pct=50.0, score_drop=0.03),
    "errors 1% to 3%, canary of 5%": World(errors=(0.01, 0.03)),
    "errors 1% to 3%, canary of 50%": World(share_pct=50.0, errors=(0.01, 0.03)),
    "errors 1% to 12% (ceiling 10%), canary of 5%": World(errors=(0.01, 0.12)),
    "latency +25%, canary of 5%": World(latency_factor=1.25),
    "cost +25%, canary of 5%": World(cost_factor=1.25),
}
NO_EFFECT = "no effect"
COMPARED = {
    NO_EFFECT: World(share_pct=50.0),
    "score +0.01": World(share_pct=50.0, score_drop=-0.01),
    "score +0.02, as wanted": World(share_pct=50.0, score_drop=-0.02),
    "score +0.03": World(share_pct=50.0, score_drop=-0.03),
    "score -0.03": World(share_pct=50.0, score_drop=0.03),
    "score +0.03, latency +25%": World(share_pct=50.0, score_drop=-0.03, latency_factor=1.25),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000, help="runs without a difference; a quarter of it with one")
    parser.add_argument("--users", type=int, default=6_000)
    parser.add_argument("--looks", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=("canaries", "experiments"))
    options = parser.parse_args()
    size = {"users": options.users, "looks": options.looks}
    few = max(1, options.runs // 4)
    with ProcessPoolExecutor(options.jobs) as pool:

        def watch(world: World, runs: int) -> list[Outcome]:
            return list(pool.map(partial(run_canary, world=world, **size), range(runs), chunksize=5))

        print(f"{options.users:,} users, {options.looks} looks, {options.runs:,} and {few:,} runs\n")
        if options.only != "canaries":
            compared = {
                name: list(pool.map(partial(run_experiment, world=world, **size), range(runs), chunksize=5))
                for name, world in COMPARED.items()
                for runs in [options.runs if name == NO_EFFECT else few]
            }
            print_experiments(compared, options.looks)
        if options.only == "experiments":
            return
        same = {name: watch(world, options.runs) for name, world in SAME.items()}
        print_false_alarms(same)
        steps = list(pool.map(partial(run_three_steps, world=World(), **size), range(few), chunksize=5))
        whole = say_share([1 if each else None for each in steps])
        print(f"| three steps of 5, 25 and 50% | at most 5% | {whole} | | |\n")
        different = {name: same.get(name.removeprefix("none, ")) or watch(w, few) for name, w in DIFFERENT.items()}
        print_power(different, options.looks)


if __name__ == "__main__":
    main()
