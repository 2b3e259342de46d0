"""How often the best prompt is named the winner, and how often a wrong one, in simulated evaluations over shared cases.

Run: `python -m benchmarks.prompt_winners [--trials 1000] [--first-seed 0]`. Prints a Markdown table. A case scores its
difficulty plus noise, cut to 0..1, and every variant answers the same cases. The worst case for a wrong winner is
two variants that are equally good, far ahead of the others.
"""

import argparse
import math
from collections.abc import Sequence

import numpy as np

from core.prompts.decisions import Candidate, WinnerRule, decide_winner

CASE_SD, NOISE_SD = 0.10, 0.12


def draw(means: Sequence[float], cases: int, rng: np.random.Generator) -> list[Candidate]:
    """One evaluation of variants with these true means, apart from the clipping to 0..1."""
    difficulty = rng.normal(0.0, CASE_SD, cases)
    found = []
    for number, mean in enumerate(means):
        scores = np.clip(mean + difficulty + rng.normal(0.0, NOISE_SD, cases), 0.0, 1.0)
        per_case = {f"c{case}": float(score) for case, score in enumerate(scores)}
        found.append(Candidate(f"run-{number}", f"v{number}", per_case, 0.001))
    return found


def count(means: Sequence[float], cases: int, *, trials: int, first_seed: int) -> dict[str, int]:
    """How often each variant was named the winner."""
    named: dict[str, int] = {}
    for seed in range(first_seed, first_seed + trials):
        drawn = draw(means, cases, np.random.default_rng(seed))
        decision = decide_winner(drawn, rule=WinnerRule.FAITHFULNESS_PER_COST, seed=seed)
        if decision.winner:
            named[decision.winner.label] = named.get(decision.winner.label, 0) + 1
    return named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--first-seed", type=int, default=0)
    args = parser.parse_args()
    scenes = {
        "8 variants, one better by 0.05, 200 cases": ([0.75] + [0.70] * 7, 200),
        "2 variants, one better by 0.05, 200 cases": ([0.75, 0.70], 200),
        "8 equal variants, 200 cases": ([0.70] * 8, 200),
        "2 equal variants far ahead of 6, 200 cases (worst case)": ([0.75] * 2 + [0.50] * 6, 200),
        "2 equal variants far ahead of 6, 20 cases (worst case)": ([0.75] * 2 + [0.50] * 6, 20),
    }
    print("| evaluation | right winner | wrong winner |\n| --- | --- | --- |")
    for name, (means, cases) in scenes.items():
        named = count(means, cases, trials=args.trials, first_seed=args.first_seed)
        has_best = means.count(max(means)) == 1
        right = named.pop("v0", 0) if has_best else 0
        wrong = sum(named.values())
        shares = [
            f"{n / args.trials:.1%} ± {1.96 * math.sqrt(n * (args.trials - n) / args.trials**3):.1%}"
            for n in (right, wrong)
        ]
        print(f"| {name} | {shares[0] if has_best else '—'} | {shares[1]} |", flush=True)


if __name__ == "__main__":
    main()
