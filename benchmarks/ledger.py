"""Does the ledger measure what changes did? Streams with known changes, of the families of the drift benchmark.

    python -m benchmarks.ledger [--seeds 100] [--first-seed 0] [--family "1,000 a day"] [--quick]

Each store has 90 days before a change of 0.03 and up to fourteen after it. Printed by family: the share of changes with
a verdict (as predicted, better or worse, of a prediction of 0.03 ± 0.01) within fourteen days, the share of 95%
intervals that hold the true effect, and the same for two changes nine days apart and for three stages of one change.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.score_streams import FAMILIES, FIRST, Family, draw
from core.ledger.effects import AFTER_DAYS, BEFORE_DAYS, DatedStep, MeasuredEffect, measure_effects
from core.ledger.entries import TOLD, EffectPrediction, judge_effect

EFFECT, STARTS = 0.03, 90
QUICK = ("100 a day", "1,000 a day", "5,000 a day", "autocorrelation 0.5", "weekdays of their own", "bimodal")


@dataclass(frozen=True, slots=True)
class Layout:
    """What changed: a size for each group of steps, and their times in days after the first."""

    name: str
    groups: tuple[tuple[float, tuple[float, ...]], ...]


LAYOUTS = (
    Layout("one change", ((EFFECT, (0.0,)),)),
    Layout("two changes nine days apart", ((EFFECT, (0.0,)), (-EFFECT, (9.0,)))),
    Layout("three stages", ((EFFECT, (0.0, 3.0, 6.0)),)),
    Layout("none", ((0.0, (0.0,)),)),
)


def measure(family: Family, layout: Layout, seed: int, *, hour: float = 0.4) -> MeasuredEffect | None:
    """Return the effect of the first group, fourteen days after its first step."""
    size = STARTS + AFTER_DAYS + 1
    changes, groups = np.zeros(size), []
    for effect, times in layout.groups:
        for time in times:
            passed = np.clip(np.arange(size) + 1 - (STARTS + time + hour), 0, 1)
            changes += effect / len(times) * passed
        groups.append([DatedStep(FIRST + 3 * (seed % 2) + STARTS + time + hour, 1 / len(times)) for time in times])
    history = draw(family, seed, changes)
    first = groups[0][0].at
    near = np.flatnonzero((history.ordinal >= first - BEFORE_DAYS) & (history.ordinal <= first + AFTER_DAYS))
    return measure_effects(history.take(near), groups)[0]


def report(family: Family, layout: Layout, seeds: Sequence[int]) -> str:
    """Return one line: verdicts, coverage, the median half width, and the mean error."""
    found = [measure(family, layout, seed) for seed in seeds]
    truth = layout.groups[0][0]
    prediction = EffectPrediction(EFFECT, EFFECT - 0.01, EFFECT + 0.01)
    statuses = [judge_effect(each, prediction, is_over=True) for each in found]
    told = [status for status in statuses if status in TOLD]
    known = [each for each in found if each is not None]
    covered = sum(each.low <= truth <= each.high for each in known) / len(known) if known else float("nan")
    half = float(np.median([each.half_width for each in known])) if known else float("nan")
    error = float(np.mean([each.size - truth for each in known])) if known else float("nan")
    kinds = ", ".join(f"{status} {statuses.count(status)}" for status in dict.fromkeys(statuses))
    return (
        f"{family.name:<34}{layout.name:<30}{len(told) / len(found):>8.0%}{covered:>10.1%}{half:>9.4f}{error:>+9.4f}"
        f"   {kinds}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--family")
    parser.add_argument("--quick", action="store_true", help="six families")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    print(f"{'family':<34}{'changes':<30}{'verdict':>8}{'covered':>10}{'± half':>9}{'error':>9}")
    for family in FAMILIES:
        if family.name in (options.family or family.name) and (not options.quick or family.name in QUICK):
            for layout in LAYOUTS:
                print(report(family, layout, seeds), flush=True)


if __name__ == "__main__":
    main()
