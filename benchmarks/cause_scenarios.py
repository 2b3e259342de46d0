"""Draws the scenarios of `cause_ranking`: a log with a drop, the changes around it, and what truly caused the drop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from benchmarks.scores import summarize_scores
from core.causes.causes import CauseKind
from core.causes.timeline import ChangeKind, TimelineChange
from core.log.values import DailyScores

FIRST_DAY = date(2026, 1, 5)  # a Monday
DAYS = 75
PLAIN = (
    "prompt regression", "bad index", "bad canary", "bad flag", "new questions, no change", "new questions, decoys",
    "unknown regression", "no segments recorded",
)  # fmt: skip
HARD = (
    "two changes on the day", "two changes a day", "two changes a day, cause not recorded", "cause not recorded",
    "25 innocent flags", "25 innocent flags, cause not recorded", "effect five days late", "one tenant falls",
    "one tenant falls, cause not recorded", "a change in stages", "new questions, 25 innocent flags",
)  # fmt: skip
_TENANTS = 8


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
    recorded: bool = True  # whether the true cause is on the timeline
    stages: tuple[tuple[TimelineChange, float], ...] = ()  # a cause in parts, with the share after each
    late: float = 0.0  # days from the cause to its effect

    @property
    def guilty(self) -> list[TimelineChange]:
        """The changes any of which is the right answer; none where the truth is another."""
        if self.truth is not CauseKind.CHANGE:
            return []
        return [change for change, _ in self.stages] or ([self.cause] if self.cause else [])

    @property
    def recorded_changes(self) -> list[TimelineChange]:
        return [*self.guilty, *self.decoys]


def make_scenario(kind: str, seed: int) -> Scenario:
    """Draw one scenario of the kind."""
    rng = np.random.default_rng([seed, (*PLAIN, *HARD).index(kind)])
    per_day = int(rng.choice([300, 1_000, 3_000]))
    fall = float(rng.uniform(0.06 if per_day == 300 else 0.04, 0.12))
    onset = float(rng.uniform(48, 56))
    made = Scenario(kind, seed, rng, per_day, onset, fall, CauseKind.CHANGE)
    _MAKERS[kind](made)
    _add_decoys(made)
    return made


def _prompt(made: Scenario) -> None:
    made.touched = float(made.rng.choice([0.3, 0.5, 1.0]))
    made.before = float(made.rng.choice([0.0, 0.05]))
    made.bad_before = bool(made.rng.integers(2))
    made.dimension = "prompt_version"
    made.cause = _change(ChangeKind.PROMPT, made.onset - made.late, (("prompt_version", "v3"),))


def _index(made: Scenario) -> None:
    made.dimension = "index_version"
    made.lost_part = float(made.rng.choice([1.0, 0.4]))
    made.cause = _change(ChangeKind.INDEX, made.onset - made.late, (("index_version", "docs-v2"),))


def _canary(made: Scenario) -> None:
    made.touched = float(made.rng.choice([0.25, 0.5]))
    made.before = float(made.rng.choice([0.0, 0.05]))
    made.bad_before = True
    made.dimension = "arm"
    made.cause = _change(ChangeKind.CANARY, made.onset, (("arm", "green"),))


def _flag(made: Scenario) -> None:
    made.scaled = bool(made.rng.integers(2))
    made.cause = _change(ChangeKind.FLAG, made.onset - made.late, ())


def _new_questions(made: Scenario) -> None:
    made.truth, made.growth = CauseKind.NEW_QUESTIONS, float(made.rng.choice([0.0, 4.0, 8.0]))


def _unknown(made: Scenario) -> None:
    made.truth, made.scaled = CauseKind.UNKNOWN, bool(made.rng.integers(2))


def _no_segments(made: Scenario) -> None:
    (_prompt, _index, _flag)[int(made.rng.integers(3))](made)
    made.touched, made.before, made.segments_kept = 1.0, 0.0, False


def _any_change(made: Scenario) -> None:
    (_prompt, _index, _canary, _flag)[int(made.rng.integers(4))](made)


def _two_on_the_day(made: Scenario) -> None:
    _any_change(made)
    _add_innocent(made, made.onset + float(made.rng.uniform(-0.4, 0.4)))


def _two_a_day(made: Scenario) -> None:
    _any_change(made)
    _fill_days(made)


def _two_a_day_only(made: Scenario) -> None:
    _unknown(made)
    _fill_days(made)


def _fill_days(made: Scenario) -> None:
    for day in np.repeat(np.arange(-21, 3), 2):
        _add_innocent(made, made.onset + float(day + made.rng.uniform()))


def _not_recorded(made: Scenario) -> None:
    (_unknown, _any_change)[int(made.rng.integers(2))](made)
    made.truth, made.recorded = CauseKind.UNKNOWN, False
    for _ in range(int(made.rng.integers(2, 7))):
        _add_innocent(made, made.onset + float(made.rng.uniform(-21, 3)))


def _many_flags(made: Scenario) -> None:
    for number in range(25):
        at = made.onset + float(made.rng.uniform(-21, 3))
        made.decoys.append(_change(ChangeKind.FLAG, at, (), target=f"flag {number}"))


def _many_flags_and_a_cause(made: Scenario) -> None:
    _any_change(made)
    _many_flags(made)


def _many_flags_only(made: Scenario) -> None:
    _unknown(made)
    _many_flags(made)


def _many_flags_and_new_questions(made: Scenario) -> None:
    _new_questions(made)
    _many_flags(made)


def _late(made: Scenario) -> None:
    made.late = 5.0
    (_prompt, _index, _flag)[int(made.rng.integers(3))](made)
    made.before, made.bad_before = 0.0, False


def _tenant(made: Scenario) -> None:
    made.dimension, made.touched = "tenant", float(made.rng.uniform(0.15, 0.4))
    made.cause = _change(ChangeKind.FLAG, made.onset, ())
    made.segments_kept = bool(made.rng.integers(2))


def _tenant_not_recorded(made: Scenario) -> None:
    _tenant(made)
    made.truth, made.recorded = CauseKind.UNKNOWN, False


def _stages(made: Scenario) -> None:
    shares = (0.1, 0.5, 1.0)
    ahead = made.onset + 2.0 * np.arange(3)
    reaches = np.diff([0.0, *shares])
    made.stages = tuple(
        (replace(_change(ChangeKind.FLAG, float(at), (), target="rollout"), reach=float(reach)), share)
        for at, reach, share in zip(ahead, reaches, shares, strict=True)
    )
    made.fall = max(made.fall, 0.06)


def _change(kind: ChangeKind, at: float, touches: tuple[tuple[str, str], ...], *, target: str = "") -> TimelineChange:
    start = datetime.combine(FIRST_DAY, time(), UTC)
    when, name = start + timedelta(days=at), target or str(kind)
    return TimelineChange(when, kind, name, f"{name} changed", "someone", "scenario", touches)


_MAKERS: Mapping[str, Callable[[Scenario], None]] = {
    "prompt regression": _prompt, "bad index": _index, "bad canary": _canary, "bad flag": _flag,
    "new questions, no change": _new_questions, "new questions, decoys": _new_questions,
    "unknown regression": _unknown, "no segments recorded": _no_segments,
    "two changes on the day": _two_on_the_day, "two changes a day": _two_a_day,
    "two changes a day, cause not recorded": _two_a_day_only, "cause not recorded": _not_recorded,
    "25 innocent flags": _many_flags_and_a_cause, "25 innocent flags, cause not recorded": _many_flags_only,
    "effect five days late": _late, "one tenant falls": _tenant,
    "one tenant falls, cause not recorded": _tenant_not_recorded, "a change in stages": _stages,
    "new questions, 25 innocent flags": _many_flags_and_new_questions,
}  # fmt: skip


DECOYS = (
    (ChangeKind.PROMPT, (("prompt_version", "v3"),)), (ChangeKind.CANARY, (("arm", "green"),)),
    (ChangeKind.FLAG, ()), (ChangeKind.INDEX, (("index_version", "docs-v2"),)), (ChangeKind.CORPUS, ()),
)  # fmt: skip


def _add_innocent(made: Scenario, at: float) -> None:
    kinds = [decoy for decoy in DECOYS if made.cause is None or decoy[0] != made.cause.kind]
    kind, touches = kinds[int(made.rng.integers(len(kinds)))]
    made.decoys.append(_change(kind, at, touches, target=f"{kind} {len(made.decoys)}"))


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


_NEW: Mapping[str, tuple[str, str]] = {
    "prompt_version": ("v2", "v3"),
    "arm": ("blue", "green"),
    "index_version": ("docs-v1", "docs-v2"),
}


def draw_log(made: Scenario) -> tuple[list[DailyScores], dict[str, dict[str, list[DailyScores]]]]:
    """Return the daily summaries of all queries, and of each value of each dimension."""
    rng, wobble = made.rng, 0.0
    all_days: list[DailyScores] = []
    segments: dict[str, dict[str, list[DailyScores]]] = {dimension: {} for dimension in (*_NEW, "tenant")}
    gap = float(rng.uniform(0.22, 0.32))  # how far below the rest new questions score
    for day in range(DAYS):
        wobble = 0.3 * wobble + rng.normal(0, 0.008 * np.sqrt(1 - 0.09))
        weekend = (day + 3 * (made.seed % 2)) % 7 >= 5
        sizes = 1 + rng.poisson(2, max(1, rng.poisson(made.per_day * (0.4 if weekend else 1.24)) // 3))
        at = day + np.repeat(rng.uniform(0, 1, len(sizes)), sizes)
        base = 0.62 + wobble - 0.02 * weekend + np.repeat(rng.normal(0, 0.06, len(sizes)), sizes)
        labels = {name: np.repeat(_label(made, name, sizes, at, rng), sizes) for name in _NEW}
        if made.dimension == "tenant":
            labels["tenant"] = np.repeat(_label_tenants(made.touched, len(sizes), rng), sizes)
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
            share = np.maximum(share, np.where(first >= (change.ts - start) / timedelta(days=1), full, early))
    old, new = _NEW[dimension]
    return np.where(rng.uniform(0, 1, len(sizes)) < share, new, old)


def _label_tenants(touched: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """The tenant of each session: t0 has the touched share, the others the rest alike."""
    rest = (1 - touched) / (_TENANTS - 1)
    return rng.choice([f"t{at}" for at in range(_TENANTS)], size=count, p=[touched, *[rest] * (_TENANTS - 1)])


def _fallen(
    made: Scenario, scores: np.ndarray, at: np.ndarray, labels: dict[str, np.ndarray], gap: float,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    if made.truth is CauseKind.NEW_QUESTIONS:
        grown = np.clip((at - made.onset) / made.growth, 0, 1) if made.growth else (at >= made.onset).astype(float)
        new = rng.uniform(0, 1, len(at)) < grown * made.fall / gap
        return np.where(new, rng.normal(0.62 - gap, 0.08, len(at)), scores)
    hit = at >= made.onset
    if made.stages:
        start = datetime.combine(FIRST_DAY, time(), UTC)
        begun = [(at >= (change.ts - start) / timedelta(days=1)) * share for change, share in made.stages]
        hit = rng.uniform(0, 1, len(at)) < np.max(begun, axis=0)
    elif made.dimension == "tenant":
        hit = hit & (labels["tenant"] == "t0")
    elif made.dimension:
        inside = labels[made.dimension] == _NEW[made.dimension][1]
        hit = inside if made.bad_before else inside & hit
    size = made.fall / (made.touched - (made.before if made.bad_before else 0.0))
    lost = rng.uniform(0, 1, len(at)) < made.lost_part
    if made.scaled:
        return np.where(hit, scores * (1 - size / 0.62), scores)
    return np.where(hit & lost, scores - size / made.lost_part, scores)
