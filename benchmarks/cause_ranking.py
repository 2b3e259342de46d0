"""How often the true cause of a drop is ranked first, on seeded scenarios in which it is known.

Run: python -m benchmarks.cause_ranking [--scenarios 200] [--first-seed 0] [--jobs 2] The log is drawn with the noise
of the reference drift streams (weekday pattern, correlated wobble of days, sessions), the drop is dated by
`core.drift.verdict.decide_drift`, some days after it was first called, and the changes around it hold decoys of other
kinds. A drop that is not called or whose true cause is not first counts as wrong. The baseline is a simple rule:
the latest change before the dated day is to blame, and without one users ask something new.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from benchmarks.cause_scenarios import DAYS, HARD, PLAIN, Scenario, draw_log, make_scenario
from core.causes.causes import CauseKind, Causes, rank_causes
from core.causes.evidence import SameQuestions
from core.causes.timeline import TimelineChange
from core.drift.changepoint import replay
from core.drift.verdict import DriftReport, as_history, decide_drift

SURE = 0.9


@dataclass(frozen=True, slots=True)
class Ranked:
    """What was ranked first, whether that is right, and how sure."""

    name: str
    right: bool
    confidence: float

    @classmethod
    def of(cls, causes: Causes, made: Scenario) -> "Ranked | None":
        first = causes.first
        if first is None:
            return None
        right = first.kind is made.truth and (first.change is None or first.change in made.guilty)
        return cls(first.change.kind.value if first.change else first.kind.value, right, first.confidence)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was ranked first, without and with questions compared with themselves; None where no drop was dated."""

    scenario: str
    truth: str
    plain: Ranked | None
    asked: Ranked | None
    right_simple: bool


def answer(task: tuple[str, int]) -> Answer:
    """Date the drop of one scenario some days after its call, and rank its causes."""
    made = make_scenario(*task)
    days, segments = draw_log(made)
    truth = made.cause.kind.value if made.cause and made.recorded else made.truth.value
    called = next((e.called for e in replay(as_history(days)).episodes if e.called >= int(made.onset)), None)
    if called is None:
        return Answer(made.kind, truth, None, None, False)
    until = min(called + int(made.rng.integers(1, 8)), DAYS - 1)
    seen = days[: until + 1]
    today = seen[-1].day
    kept = {d: {v: [x for x in held if x.day <= today] for v, held in vs.items()} for d, vs in segments.items()}
    report = decide_drift(seen, today=today)
    start = datetime.combine(today + timedelta(days=1), time(), UTC)
    changes = [c for c in made.recorded_changes if c.ts < start]
    error = 0.012
    truly = 0.0 if made.truth is CauseKind.NEW_QUESTIONS else report.fall or 0.0
    same = SameQuestions(200, 0.62, 0.62 + truly + float(made.rng.normal(0, error)), error, 0.3)
    plain = rank_causes(report, changes, days=seen, segments=kept)
    asked = rank_causes(report, changes, days=seen, segments=kept, same_questions=same)
    simple = blame_latest(report, changes)
    is_simple_right = simple in made.guilty if simple else made.truth is CauseKind.NEW_QUESTIONS
    return Answer(
        made.kind, truth, Ranked.of(plain, made), Ranked.of(asked, made), bool(report.changed_on) and is_simple_right
    )


def blame_latest(report: DriftReport, changes: Sequence[TimelineChange]) -> TimelineChange | None:
    """The simple rule: the latest change of the three days up to the end of the dated day."""
    if report.changed_on is None:
        return None
    end = datetime.combine(report.changed_on + timedelta(days=1), time(), UTC)
    near = [change for change in changes if end - timedelta(days=4) <= change.ts < end]
    return max(near, key=lambda change: change.ts, default=None)


def run(scenarios: int, *, kinds: Sequence[str] = PLAIN, first_seed: int = 0, jobs: int = 1) -> list[Answer]:
    """Answers of so many scenarios, the kinds in turn."""
    tasks = [(kinds[i % len(kinds)], first_seed + i) for i in range(scenarios)]
    if jobs == 1:
        return [answer(task) for task in tasks]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(answer, tasks, chunksize=4))


def is_regression(ranked: Ranked | None) -> str:
    """Fold an answer to what the second bar asks: new questions, a regression, or no dated drop."""
    return "no dated drop" if ranked is None else _fold(ranked.name)


def _fold(name: str) -> str:
    return "new questions" if name == "new_questions" else "regression"


def share(flags: Sequence[bool]) -> str:
    return f"{sum(flags)}/{len(flags)} ({sum(flags) / len(flags):.1%})" if flags else "-"


def print_first_places(answers: Sequence[Answer], kinds: Sequence[str]) -> None:
    """The share of each kind whose true cause is first."""
    print("| true cause first | ours | with repeated questions | latest change |\n| --- | --- | --- | --- |")
    for kind in (*kinds, "all"):
        held = [a for a in answers if kind in (a.scenario, "all")]
        ours, asked = ([bool(each and each.right) for each in column] for column in _columns(held))
        print(f"| {kind} | {share(ours)} | {share(asked)} | {share([a.right_simple for a in held])} |")
    print("\nDated at all:", share([a.plain is not None for a in answers]))


def print_calibration(answers: Sequence[Answer], kinds: Sequence[str]) -> None:
    """Of what is called at least 90% sure, how much is right; and how sure the others are."""
    print("\n| right of what is at least 90% sure | ours | with repeated questions |\n| --- | --- | --- |")
    for kind in (*kinds, "all"):
        held = [a for a in answers if kind in (a.scenario, "all")]
        sure = ([each.right for each in column if each and each.confidence >= SURE] for column in _columns(held))
        print(f"| {kind} | {' | '.join(map(share, sure))} |")
    print("\n| how sure | right | mean |\n| --- | --- | --- |")
    told = [each for column in _columns(answers) for each in column if each]
    for low, high in ((0.0, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        inside = [each for each in told if low <= each.confidence < high]
        mean = sum(each.confidence for each in inside) / max(1, len(inside))
        print(f"| {low:.0%} to {min(high, 1.0):.0%} | {share([each.right for each in inside])} | {mean:.1%} |")


def print_unknown(answers: Sequence[Answer], kinds: Sequence[str]) -> None:
    """The share of unrecorded causes that are named unknown."""
    print("\n| named unknown, of the dated drops without a recorded cause | ours | with repeated questions |")
    print("| --- | --- | --- |")
    for kind in kinds:
        held = [a for a in answers if a.scenario == kind and a.truth == CauseKind.UNKNOWN]
        if held:
            named = ([each.right for each in column if each] for column in _columns(held))
            print(f"| {kind} | {' | '.join(map(share, named))} |")


def print_folded(answers: Sequence[Answer]) -> None:
    """New questions against a regression."""
    for name, column in zip(("ours", "with repeated questions"), _columns(answers), strict=True):
        table = Counter((_fold(a.truth), is_regression(each)) for a, each in zip(answers, column, strict=True))
        print(f"\n| {name}: truth | called new questions | a regression | no dated drop |\n| --- | --- | --- | --- |")
        for truth in ("new questions", "regression"):
            row = (str(table[truth, called]) for called in ("new questions", "regression", "no dated drop"))
            print(f"| {truth} | {' | '.join(row)} |")


def _columns(answers: Sequence[Answer]) -> tuple[list[Ranked | None], list[Ranked | None]]:
    return [a.plain for a in answers], [a.asked for a in answers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=200, help="of the plain kinds")
    parser.add_argument("--hard", type=int, default=40, help="scenarios of each hard kind")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    for kinds, count in ((PLAIN, options.scenarios), (HARD, options.hard * len(HARD))):
        answers = run(count, kinds=kinds, first_seed=options.first_seed, jobs=options.jobs)
        print(f"\n{count} scenarios, seeds from {options.first_seed}\n")
        print_first_places(answers, kinds)
        print_calibration(answers, kinds)
        print_unknown(answers, kinds)
        print_folded(answers)


if __name__ == "__main__":
    main()
