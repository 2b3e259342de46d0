"""The bars of canaries and experiments, over 600 streams each: false alarms and power, with z-tests beside them.

Run: nice -n 10 python -m benchmarks.rollout_bars [ceiling] [repetition] [--runs 600] [--first-seed 0] [--looks 25]
Prints one Markdown table each. Streams are those of `sequential_tests` (users who come back and differ), but the users'
means are made in one step per look, so that a run takes hundredths of a second; `tests/test_rollout_bars.py` holds them
to the deck's own tally. Tune on seeds from 10,000 on, report seeds 0 to 599.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import numpy as np

from benchmarks.sequential_tests import DESIGN, PLAN, START, World, say_median, say_share
from core.arms.arms import Arm, ArmsReading, Metric, Stretch
from core.arms.sequential import LEAST_USERS, Covariate, Moments
from core.flags.canary_plan import CANARY, STABLE
from core.rollouts.canary import CanaryCall, decide_canary
from core.rollouts.experiment import ExperimentCall, ExperimentProgress, decide_experiment

USERS = 6_000
LOOK = timedelta(hours=1)
Z_ONE_SIDED, Z_TWO_SIDED = 1.6449, 1.9600
_FEW_ASKED, _FEW_BY_USER = 1.0, 3.0  # as in `core.arms.expectations`


@dataclass(frozen=True, slots=True)
class Repetition:
    """How questions repeat: how many texts there are, and how much of the score's variance within a user is theirs.

    Texts are as popular as in the demo (1 / (rank + 2)^0.7), each question drawn anew. `past` questions were asked
    before the start, a part `returning` of them by the users who take part.
    """

    texts: int = 325
    share: float = 0.7
    past: int = 9_000
    returning: float = 0.3


@dataclass(frozen=True, slots=True)
class Questions:
    """One stream, question by question in the order of time; `past` has user, text and score of those before it."""

    user: np.ndarray
    look: np.ndarray
    failed: np.ndarray
    score: np.ndarray
    latency: np.ndarray
    cost: np.ndarray
    text: np.ndarray
    green: np.ndarray
    past: tuple[np.ndarray, np.ndarray, np.ndarray]


def draw(rng: np.random.Generator, world: World, repeats: Repetition | None, looks: int) -> Questions:
    """Draw one step of a canary, or one experiment. The score's variance is the same with and without repetition."""
    green = rng.random(USERS) < world.share_pct / 100
    asked = 1 + rng.poisson(2, USERS)
    user = np.repeat(np.arange(USERS), asked)
    later = rng.exponential(0.1 * looks, len(user))
    later[np.concatenate([[0], np.cumsum(asked)[:-1]])] = 0
    at = np.sort(rng.random(USERS))[user] * looks + later
    order = np.argsort(at, kind="stable")
    order = order[at[order] < looks]
    user, look = user[order], at[order].astype(int)
    on_green, count = green[user], len(user)
    rate = np.where(green, world.errors[1], world.errors[0])
    failed = rng.random(count) < rng.beta(4 * rate, 4 * (1 - rate))[user]
    own, rest, text = rng.normal(0, 0.08, USERS), rng.normal(0, 0.14, count), np.arange(count)
    past = (np.zeros(0, dtype=int), np.zeros(0, dtype=int), np.zeros(0))
    if repeats:
        of_text = rng.normal(0, 0.14 * math.sqrt(repeats.share), repeats.texts)
        text = _draw_texts(rng, repeats, count)
        rest = of_text[text] + math.sqrt(1 - repeats.share) * rest
        past = _draw_past(rng, repeats, own, of_text)
    score = np.clip(0.7 + own[user] + rest - world.score_drop * on_green, 0, 1)
    latency = np.exp(rng.normal(0, 0.3, USERS)[user] + rng.normal(6, 0.5, count))
    cost = np.exp(rng.normal(0, 0.3, USERS)[user] + rng.normal(-6, 0.5, count))
    return Questions(
        user, look, failed, score, latency * np.where(on_green, world.latency_factor, 1),
        cost * np.where(on_green, world.cost_factor, 1), text, green, past,
    )  # fmt: skip


def expect(drawn: Questions, looks: int) -> np.ndarray:
    """What each question is expected to score at its time, as `core.arms.expectations` does it."""
    texts = int(max(drawn.text.max(), drawn.past[1].max(initial=0))) + 1
    users, past_text, past_score = drawn.past
    counts = np.bincount(past_text, minlength=texts).astype(float)
    totals = np.bincount(past_text, past_score, minlength=texts).astype(float)
    deviations = _deviations(counts, totals)
    mean = totals.sum() / counts.sum() if counts.sum() else 0.0
    known = users >= 0
    left = past_score[known] - mean - deviations[past_text[known]]
    of_user = np.bincount(users[known], left, minlength=USERS) / (
        np.bincount(users[known], minlength=USERS) + _FEW_BY_USER
    )
    found = of_user[drawn.user]
    ends = np.searchsorted(drawn.look, np.arange(looks + 1))
    for first, last in pairwise(ends):
        text, scored = drawn.text[first:last], ~drawn.failed[first:last]
        found[first:last] += _deviations(counts, totals)[text]
        counts += np.bincount(text[scored], minlength=texts)
        totals += np.bincount(text[scored], drawn.score[first:last][scored], minlength=texts)
    return found


def read(drawn: Questions, expected: np.ndarray | None, looks: int) -> Iterator[ArmsReading]:
    """The reading at each look: every user's mean so far, and the moments of each arm."""
    scored = (~drawn.failed).astype(float)
    columns = [np.ones(len(scored)), scored, scored * drawn.score, drawn.latency, drawn.cost]
    columns += [scored * expected] if expected is not None else []
    sums = np.zeros((len(columns), USERS))
    ends = np.searchsorted(drawn.look, np.arange(looks + 1))
    for look in range(looks):
        of_look = slice(ends[look], ends[look + 1])
        added = np.array([np.bincount(drawn.user[of_look], each[of_look], minlength=USERS) for each in columns])
        sums += added
        arms, last = {}, {}
        for name, members in ((STABLE, ~drawn.green), (CANARY, drawn.green)):
            arms[name] = _moments(sums[:, members & (sums[0] > 0)])
            seen = added[:, members & (added[0] > 0)]
            last[name] = Stretch(seen.shape[1], failing=float((1 - seen[1] / seen[0]).sum()))
        yield ArmsReading(START + look * LOOK, START + (look + 1) * LOOK, arms, last)


def watch_canary(seed: int, world: World, looks: int) -> dict[str, int]:
    """The look at which each rule rolled green back: ours for anything, the others for the error rate.

    The others: the point estimate above the ceiling from 20 users on green; a one-sided z-test against blue at 5%, at
    every look, and at the last look alone, which no rule that is checked all the time can reach.
    """
    seen: list[ArmsReading] = []
    found: dict[str, int] = {}
    for number, look in enumerate(read(draw(np.random.default_rng(seed), world, None, looks), None, looks)):
        seen = [*seen[-2:], look]
        if OURS not in found:
            verdict = decide_canary(PLAN, seen, share_pct=world.share_pct, since=START, now=look.at)
            if verdict.call is CanaryCall.ROLL_BACK:
                found[OURS] = number
        green = look.arms[CANARY].moments.get(Metric.ERRORS)
        if green and green.users >= 20 and green.mean > PLAN.error_ceiling:
            found.setdefault("point estimate", number)
        if _z(look, Metric.ERRORS) > Z_ONE_SIDED:
            found.setdefault("z-test, peeking", number)
            if number == looks - 1:
                found["z-test, once"] = number
    return found


def watch_experiment(seed: int, world: World, repeats: Repetition | None, looks: int) -> dict[str, int]:
    """The look at which an experiment was called, with and without the adjustment, and by z-tests of the score."""
    drawn = draw(np.random.default_rng(500_000_000 + seed), world, repeats, looks)
    found: dict[str, int] = {}
    for number, look in enumerate(read(drawn, expect(drawn, looks), looks)):
        counts = {arm: each.users for arm, each in look.arms.items()}
        for rule, seen in ((OURS, look), ("not adjusted", _forget(look))):
            verdict = decide_experiment(DESIGN, [seen], ExperimentProgress(START, look.at, counts))
            if verdict.call in (ExperimentCall.WINNER, ExperimentCall.STOP) and f"{rule}, any" not in found:
                found[f"{rule}, any"] = number
                if verdict.winner == CANARY:
                    found[rule] = number
        if abs(_z(look, Metric.SCORE)) > Z_TWO_SIDED:
            found.setdefault("z-test, peeking", number)
            if number == looks - 1:
                found["z-test, once"] = number
    return found


OURS = "ours"
CEILINGS = [
    (blue, green, share)
    for share in (5.0, 50.0)
    for blue, green in (
        *((rate, rate) for rate in (0.02, 0.04, 0.06, 0.08)),
        *((rate, 0.12) for rate in (0.01, 0.02, 0.04, 0.06, 0.08)),
    )
    if share == 5 or blue == 0.08
]
REPEATED = {
    "325 questions, a score is its question's and its user's": Repetition(share=1.0),
    "325 questions, 70% of the rest theirs": Repetition(),
    "the same without a past": Repetition(past=0),
    "325 questions, 40% of the rest theirs": Repetition(share=0.4),
    "no repetition, no past": None,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=("ceiling", "repetition", []), help="default: both")
    parser.add_argument("--runs", type=int, default=600)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--looks", type=int, default=25)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.runs)
    tables = options.tables or ("ceiling", "repetition")
    print(f"{USERS:,} users, {options.looks} looks, seeds {seeds[0]} to {seeds[-1]}\n")
    if "ceiling" in tables:
        rules = (OURS, "point estimate", "z-test, peeking", "z-test, once")
        print(f"| errors on blue and green, ceiling 10% | {' | '.join(rules)} |\n|{' --- |' * 5}")
        for blue, green, share in CEILINGS:
            world = World(share_pct=share, errors=(blue, green))
            found = [watch_canary(seed, world, options.looks) for seed in seeds]
            name = f"{blue:.0%} and {green:.0%}, {share:g}% on green"
            print(f"| {name} | {_say(found, rules, options.looks)} |", flush=True)
    if "repetition" in tables:
        rules = (f"{OURS}, any", OURS, "not adjusted", "z-test, peeking", "z-test, once")
        heads = ("called at all", "called better", "without adjustment", *rules[3:])
        print(f"\n| experiment, 50:50 | {' | '.join(heads)} |\n|{' --- |' * 6}")
        for name, repeats in REPEATED.items():
            for better in (0.0, 0.01):
                world = World(share_pct=50.0, score_drop=-better)
                found = [watch_experiment(seed, world, repeats, options.looks) for seed in seeds]
                what = f"score {better:g} better" if better else "no effect"
                print(f"| {name}, {what} | {_say(found, rules, options.looks)} |", flush=True)


def _draw_texts(rng: np.random.Generator, repeats: Repetition, count: int) -> np.ndarray:
    weights = np.cumsum(1.0 / np.arange(3, repeats.texts + 3) ** 0.7)
    return np.searchsorted(weights, rng.random(count) * weights[-1])


def _draw_past(
    rng: np.random.Generator, repeats: Repetition, own: np.ndarray, of_text: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User (-1: somebody who does not take part), text and score of each question before the start."""
    user = np.where(rng.random(repeats.past) < repeats.returning, rng.integers(0, USERS, repeats.past), -1)
    text = _draw_texts(rng, repeats, repeats.past)
    level = np.where(user >= 0, own[user], rng.normal(0, 0.08, repeats.past))
    noise = rng.normal(0, 0.14 * math.sqrt(1 - repeats.share), repeats.past)
    return user, text, np.clip(0.7 + level + of_text[text] + noise, 0, 1)


def _deviations(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    mean = totals.sum() / counts.sum() if counts.sum() else 0.0
    return (totals - counts * mean) / (counts + _FEW_ASKED)


def _moments(sums: np.ndarray) -> Arm:
    """One arm from its users' sums."""
    asked, scored, score, latency, cost, *expected = sums
    users, has = len(asked), scored > 0
    values = {
        Metric.SCORE: score[has] / scored[has], Metric.ERRORS: 1 - scored / asked, Metric.LATENCY: latency / asked,
        Metric.COST: cost / asked,
    }  # fmt: skip
    known = None
    if expected and has.sum() > 1:
        guess = expected[0][has] / scored[has]
        covariance = np.cov(guess, values[Metric.SCORE])
        known = Covariate(float(guess.mean()), float(covariance[0, 0]), float(covariance[0, 1]))
    moments = {
        metric: Moments(
            len(each), float(each.mean()), float(each.var(ddof=1)) if len(each) > 1 else 0.0,
            known if metric is Metric.SCORE else None,
        )
        for metric, each in values.items()
        if len(each)
    }  # fmt: skip
    return Arm(users, int(asked.sum()), 0, moments)


def _forget(look: ArmsReading) -> ArmsReading:
    """The reading without what the questions and users scored before."""
    arms = {
        name: replace(arm, moments={metric: replace(each, covariate=None) for metric, each in arm.moments.items()})
        for name, arm in look.arms.items()
    }
    return replace(look, arms=arms)


def _z(look: ArmsReading, metric: Metric) -> float:
    pair = [look.arms[arm].moments.get(metric) for arm in (STABLE, CANARY)]
    first, second = pair
    if first is None or second is None or min(first.users, second.users) < LEAST_USERS:
        return 0.0
    error = math.sqrt(first.variance / first.users + second.variance / second.users)
    return (second.mean - first.mean) / error if error else 0.0


def _say(found: Sequence[dict[str, int]], rules: Sequence[str], looks: int) -> str:
    first, *others = ([each.get(rule) for each in found] for rule in rules)
    return " | ".join((say_median(first, looks), *map(say_share, others)))


if __name__ == "__main__":
    main()
