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
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from benchmarks.scores import summarize_scores
from core.causes.causes import Cause, CauseKind, Causes, rank_causes
from core.causes.evidence import SameQuestions
from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.changepoint import replay
from core.drift.verdict import DriftReport, as_history, decide_drift
from core.log.values import DailyScores

FIRST_DAY = date(2026, 1, 5)  # a Monday
DAYS, WATCHED = 75, 60  # the last day, and the most days until the causes are ranked
KINDS = (
    "prompt regression", "bad index", "bad canary", "bad flag", "new questions, no change", "new questions, decoys",
    "unknown regression", "no segments recorded",
)  # fmt: skip


@dataclass(slots=True)
class Scenario:
    """A log with a drop at `onset` (days since the first one), the changes around it, and the truth."""

    kind: str
    seed: int
    rng: np.random.Generator
    per_day: int
    onset: float
    fall: float
    truth: CauseKind
    cause: TimelineChange | None = None
    decoys: list[TimelineChange] = field(default_factory=list)
    touched: float = 1.0  # share of sessions that the true cause touches
    before: float = 0.0  # share of sessions that were in the touched segment before
    bad_before: bool = False  # the touched segment was as bad while it was small
    dimension: str = ""
    growth: float = 0.0
    lost_part: float = 1.0  # part of the touched queries that fall, by so much more
    scaled: bool = False  # scores fall by a factor, not by a step
    segments_kept: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What was ranked first, without and with questions compared with themselves; None where no drop was dated."""

    scenario: str
    truth: str
    plain: str | None
    right: bool
    with_questions: str | None
    right_with_questions: bool
    simple: str | None
    right_simple: bool
    confidence: float


def make_scenario(kind: str, seed: int) -> Scenario:
    """Draw one scenario of the kind."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    per_day = int(rng.choice([300, 1_000, 3_000]))
    fall = float(rng.uniform(0.06 if per_day == 300 else 0.04, 0.12))
    onset = float(rng.uniform(48, 56))
    made = Scenario(kind, seed, rng, per_day, onset, fall, CauseKind.CHANGE)
    {
        "prompt regression": _prompt, "bad index": _index, "bad canary": _canary, "bad flag": _flag,
        "new questions, no change": _new_questions, "new questions, decoys": _new_questions,
        "unknown regression": _unknown, "no segments recorded": _no_segments,
    }[kind](made)  # fmt: skip
    _add_decoys(made)
    return made


def _prompt(made: Scenario) -> None:
    made.touched = float(made.rng.choice([0.3, 0.5, 1.0]))
    made.before = float(made.rng.choice([0.0, 0.05]))
    made.bad_before = bool(made.rng.integers(2))
    made.dimension = "prompt_version"
    made.cause = _change(ChangeKind.PROMPT, made.onset, (("prompt_version", "v3"),))


def _index(made: Scenario) -> None:
    made.dimension = "index_version"
    made.lost_part = float(made.rng.choice([1.0, 0.4]))
    made.cause = _change(ChangeKind.INDEX, made.onset, (("index_version", "docs-v2"),))


def _canary(made: Scenario) -> None:
    made.touched = float(made.rng.choice([0.25, 0.5]))
    made.before = float(made.rng.choice([0.0, 0.05]))
    made.bad_before = True
    made.dimension = "arm"
    made.cause = _change(ChangeKind.CANARY, made.onset, (("arm", "green"),))


def _flag(made: Scenario) -> None:
    made.scaled = bool(made.rng.integers(2))
    made.cause = _change(ChangeKind.FLAG, made.onset, ())


def _new_questions(made: Scenario) -> None:
    made.truth, made.growth = CauseKind.NEW_QUESTIONS, float(made.rng.choice([0.0, 4.0, 8.0]))


def _unknown(made: Scenario) -> None:
    made.truth, made.scaled = CauseKind.UNKNOWN, bool(made.rng.integers(2))


def _no_segments(made: Scenario) -> None:
    (_prompt, _index, _flag)[int(made.rng.integers(3))](made)
    made.touched, made.before, made.segments_kept = 1.0, 0.0, False


def _change(kind: ChangeKind, at: float, touches: tuple[tuple[str, str], ...]) -> TimelineChange:
    start = datetime.combine(FIRST_DAY, time(), UTC)
    return TimelineChange(start + timedelta(days=at), kind, kind, f"{kind} changed", "someone", "scenario", touches)


DECOYS = (
    (ChangeKind.PROMPT, (("prompt_version", "v3"),)), (ChangeKind.CANARY, (("arm", "green"),)),
    (ChangeKind.FLAG, ()), (ChangeKind.INDEX, (("index_version", "docs-v2"),)), (ChangeKind.CORPUS, ()),
)  # fmt: skip


def _add_decoys(made: Scenario) -> None:
    """Changes of other kinds one to three days off on either side, and one a fortnight earlier."""
    if made.kind == "new questions, no change":
        return
    kinds = [decoy for decoy in DECOYS if made.cause is None or decoy[0] != made.cause.kind]
    for pick in made.rng.choice(len(kinds), size=int(made.rng.integers(1, 4)), replace=False):
        kind, touches = kinds[int(pick)]
        away = float(made.rng.uniform(1, 3) * made.rng.choice([-1, 1]))
        made.decoys.append(_change(kind, made.onset + away, touches))
    made.decoys.append(_change(ChangeKind.FLAG, made.onset - 14, ()))


_NEW = {"prompt_version": ("v2", "v3"), "arm": ("blue", "green"), "index_version": ("docs-v1", "docs-v2")}


def draw_log(made: Scenario) -> tuple[list[DailyScores], dict[str, dict[str, list[DailyScores]]]]:
    """Return the daily summaries of all queries, and of each value of each dimension."""
    rng, wobble = made.rng, 0.0
    all_days: list[DailyScores] = []
    segments: dict[str, dict[str, list[DailyScores]]] = {dimension: {} for dimension in _NEW}
    gap = float(rng.uniform(0.22, 0.32))  # how far below the rest new questions score
    for day in range(DAYS):
        wobble = 0.3 * wobble + rng.normal(0, 0.008 * np.sqrt(1 - 0.09))
        weekend = (day + 3 * (made.seed % 2)) % 7 >= 5
        sizes = 1 + rng.poisson(2, max(1, rng.poisson(made.per_day * (0.4 if weekend else 1.24)) // 3))
        at = day + np.repeat(rng.uniform(0, 1, len(sizes)), sizes)
        base = 0.62 + wobble - 0.02 * weekend + np.repeat(rng.normal(0, 0.06, len(sizes)), sizes)
        labels = {name: np.repeat(_label(made, name, sizes, at, rng), sizes) for name in _NEW}
        scores = base + rng.normal(0, 0.104, len(at))
        scores = np.clip(_fallen(made, scores, at, labels, gap, rng), 0, 1)
        when = FIRST_DAY + timedelta(days=day)
        all_days.append(summarize_scores(when, scores))
        for dimension, values in labels.items():
            for value in np.unique(values) if made.segments_kept else ():
                segments[dimension].setdefault(str(value), []).append(summarize_scores(when, scores[values == value]))
    return all_days, segments


def _label(made: Scenario, dimension: str, sizes: np.ndarray, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The segment of each session: shares of the new value jump where a change, true or decoy, rolled it out."""
    start = datetime.combine(FIRST_DAY, time(), UTC)
    first = at[np.cumsum(sizes) - sizes]
    share = np.zeros(len(sizes))
    for change in (*([made.cause] if made.cause else []), *made.decoys):
        if change.touches and change.touches[0][0] == dimension:
            full = made.touched if change is made.cause else {"index_version": 1.0}.get(dimension, 0.3)
            early = made.before if change is made.cause else 0.0
            share = np.where(first >= (change.ts - start) / timedelta(days=1), full, early)
    old, new = _NEW[dimension]
    return np.where(rng.uniform(0, 1, len(sizes)) < share, new, old)


def _fallen(
    made: Scenario, scores: np.ndarray, at: np.ndarray, labels: dict[str, np.ndarray], gap: float,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    if made.truth is CauseKind.NEW_QUESTIONS:
        grown = np.clip((at - made.onset) / made.growth, 0, 1) if made.growth else (at >= made.onset).astype(float)
        new = rng.uniform(0, 1, len(at)) < grown * made.fall / gap
        return np.where(new, rng.normal(0.62 - gap, 0.08, len(at)), scores)
    hit = at >= made.onset
    if made.dimension:
        inside = labels[made.dimension] == _NEW[made.dimension][1]
        hit = inside if made.bad_before else inside & hit
    size = made.fall / (made.touched - (made.before if made.bad_before else 0.0))
    lost = rng.uniform(0, 1, len(at)) < made.lost_part
    if made.scaled:
        return np.where(hit, scores * (1 - size / 0.62), scores)
    return np.where(hit & lost, scores - size / made.lost_part, scores)


def answer(task: tuple[str, int]) -> Answer:
    """Date the drop of one scenario some days after its call, and rank its causes."""
    made = make_scenario(*task)
    days, segments = draw_log(made)
    truth = made.cause.kind.value if made.cause else made.truth.value
    called = next((e.called for e in replay(as_history(days)).episodes if e.called >= int(made.onset)), None)
    if called is None:
        return Answer(made.kind, truth, None, False, None, False, None, False, 0.0)
    until = min(called + int(made.rng.integers(1, 8)), DAYS - 1)
    seen = days[: until + 1]
    today = seen[-1].day
    kept = {d: {v: [x for x in held if x.day <= today] for v, held in vs.items()} for d, vs in segments.items()}
    report = decide_drift(seen, today=today)
    start = datetime.combine(today + timedelta(days=1), time(), UTC)
    changes = [c for c in (*([made.cause] if made.cause else []), *made.decoys) if c.ts < start]
    error = 0.012
    truly = 0.0 if made.truth is CauseKind.NEW_QUESTIONS else report.fall or 0.0
    same = SameQuestions(200, 0.62, 0.62 + truly + float(made.rng.normal(0, error)), error, 0.3)
    plain = rank_causes(report, changes, days=seen, segments=kept)
    asked = rank_causes(report, changes, days=seen, segments=kept, same_questions=same)
    simple = blame_latest(report, changes)
    return Answer(
        made.kind, truth, _name(plain), _is_right(plain.first, made), _name(asked), _is_right(asked.first, made),
        simple.kind.value if simple else "new_questions" if report.changed_on else None,
        bool(report.changed_on) and simple is made.cause and made.truth is not CauseKind.UNKNOWN,
        plain.first.confidence if plain.first else 0.0,
    )  # fmt: skip


def blame_latest(report: DriftReport, changes: Sequence[TimelineChange]) -> TimelineChange | None:
    """The simple rule: the latest change of the three days up to the end of the dated day."""
    if report.changed_on is None:
        return None
    end = datetime.combine(report.changed_on + timedelta(days=1), time(), UTC)
    near = [change for change in changes if end - timedelta(days=4) <= change.ts < end]
    return max(near, key=lambda change: change.ts, default=None)


def _is_right(first: Cause | None, made: Scenario) -> bool:
    return first is not None and first.kind is made.truth and first.change is made.cause


def _name(causes: Causes) -> str | None:
    first = causes.first
    return None if first is None else first.change.kind.value if first.change else first.kind.value


def run(scenarios: int, *, first_seed: int = 0, jobs: int = 1) -> list[Answer]:
    """Answers of so many scenarios, the kinds in turn."""
    tasks = [(KINDS[i % len(KINDS)], first_seed + i) for i in range(scenarios)]
    if jobs == 1:
        return [answer(task) for task in tasks]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(answer, tasks, chunksize=4))


def is_regression(name: str | None) -> str:
    """Fold an answer to what the second bar asks: new questions, a regression, or no dated drop."""
    return "no dated drop" if name is None else "new questions" if name == "new_questions" else "regression"


def share(flags: Sequence[bool]) -> str:
    return f"{sum(flags)}/{len(flags)} ({sum(flags) / len(flags):.1%})" if flags else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    answers = run(options.scenarios, first_seed=options.first_seed, jobs=options.jobs)
    print(
        f"| true cause ranked first, seeds from {options.first_seed} | ours | with repeated questions | latest change |"
    )
    print("| --- | --- | --- | --- |")
    for kind in (*KINDS, "all"):
        held = [a for a in answers if kind in (a.scenario, "all")]
        ours, asked, simple = ([getattr(a, f) for a in held] for f in ("right", "right_with_questions", "right_simple"))
        print(f"| {kind} | {share(ours)} | {share(asked)} | {share(simple)} |")
    print("\nThe bar is 90% of all. Dated at all:", share([a.plain is not None for a in answers]))
    for name, attribute in (("ours", "plain"), ("with repeated questions", "with_questions")):
        table = Counter((is_regression(a.truth), is_regression(getattr(a, attribute))) for a in answers)
        print(f"\n| {name}: truth | called new questions | a regression | no dated drop |\n| --- | --- | --- | --- |")
        for truth in ("new questions", "regression"):
            row = (str(table[truth, called]) for called in ("new questions", "regression", "no dated drop"))
            print(f"| {truth} | {' | '.join(row)} |")
    names = sorted({a.truth for a in answers} | {a.plain for a in answers if a.plain})
    print(f"\n| truth \\ ours | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
    full = Counter((a.truth, a.plain) for a in answers)
    for truth in names:
        print(f"| {truth} | {' | '.join(str(full[truth, called]) for called in names)} |")
    for low, high in ((0.0, 0.6), (0.6, 0.9), (0.9, 1.01)):
        held = [a.right for a in answers if a.plain and low <= a.confidence < high]
        print(f"\nSaid to be {low:.0%} to {min(high, 1.0):.0%} sure: right in {share(held)}", end="")
    print()


if __name__ == "__main__":
    main()
