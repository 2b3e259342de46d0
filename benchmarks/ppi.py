"""How often the interval of a judge's corrected mean holds the truth, and how much less it errs than labels alone.

Answers are drawn with a true label and a judge's score from known worlds; the first labels are given, all others are
only judged. Seeds from 10,000 on were for tuning. `python -m benchmarks.ppi --seed 1`.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from core.reviews.corrected import MeanStatus, correct_mean

Drawn = tuple[NDArray[np.float64], NDArray[np.float64]]  # true labels and the judge's scores
Draw = Callable[[np.random.Generator, int], Drawn]


def draw_shares(rng: np.random.Generator, size: int) -> Drawn:
    """Labels of three steps (82% right or partly right) beside a judge that counts supported sentences of four."""
    right = rng.random(size)
    labels = np.where(right < 0.12, 0.0, np.where(right < 0.30, 0.5, 1.0))
    return labels, rng.binomial(4, np.clip(0.35 + 0.55 * labels, 0, 1)) / 4


def draw_continuous(rng: np.random.Generator, size: int) -> Drawn:
    """Labels anywhere between 0 and 1 beside a judge that shifts and blurs them."""
    labels = rng.beta(4, 1.6, size)
    return labels, np.clip(0.35 + 0.6 * labels + rng.normal(0, 0.11, size), 0, 1)


def make_yes_or_no(share: float, kind: tuple[float, float], strict: tuple[float, float]) -> Draw:
    """Labels of 0 or 1 beside a judge that gives right answers and wrong ones scores of two beta distributions."""

    def draw(rng: np.random.Generator, size: int) -> Drawn:
        labels = (rng.random(size) < share).astype(np.float64)
        return labels, np.where(labels == 1, rng.beta(*kind, size), rng.beta(*strict, size))

    return draw


def make_two_valued(share: float, accuracy: float) -> Draw:
    """Labels of 0 or 1 beside a judge that says 0 or 1, and is right this often."""

    def draw(rng: np.random.Generator, size: int) -> Drawn:
        labels = (rng.random(size) < share).astype(np.float64)
        return labels, np.where(rng.random(size) < accuracy, labels, 1 - labels)

    return draw


WORLDS: dict[str, tuple[Draw, float]] = {  # with the true mean
    "three steps, a judge of sentences": (draw_shares, 0.79),
    "continuous": (draw_continuous, 4 / 5.6),
    "yes or no, 60% yes": (make_yes_or_no(0.6, (6, 1.2), (2, 2.5)), 0.6),
    "yes or no, 80% yes": (make_yes_or_no(0.8, (6, 1.2), (2, 2.5)), 0.8),
    "yes or no, 90% yes": (make_yes_or_no(0.9, (6, 1.2), (2, 2.5)), 0.9),
    "a judge that knows nothing": (make_yes_or_no(0.7, (4, 2), (4, 2)), 0.7),
    "two-valued, 80% yes, judge right in 90%": (make_two_valued(0.8, 0.9), 0.8),
    "two-valued, 70% yes, judge right in 80%": (make_two_valued(0.7, 0.8), 0.7),
}


def measure(name: str, *, labels: int, judged: int, rounds: int, seed: int) -> str:
    """Return a line: correlation, coverage, and the standard error as a share of that of the labels alone."""
    draw, truth = WORLDS[name]
    rng = np.random.default_rng(seed)
    inside, alone, errors, label_errors, means, label_means, related = 0, 0, [], [], [], [], []
    for _ in range(rounds):
        y, f = draw(rng, labels + judged)
        found = correct_mean(y[:labels], f[:labels], f[labels:])
        if found.status is not MeanStatus.OK or found.low is None or found.high is None or found.mean is None:
            return f"{name:42} {labels:4} labels: {found.status}"
        inside += found.low <= truth <= found.high
        errors.append(found.standard_error or 0.0)
        label_errors.append(found.label_error or 0.0)
        alone += abs(y[:labels].mean() - truth) <= 2.045 * (found.label_error or 0.0)
        means.append(found.mean)
        label_means.append(float(y[:labels].mean()))
        related.append(np.corrcoef(y, f)[0, 1])
    shorter = np.mean(errors) / np.mean(label_errors)
    true_ratio = np.std(means) / np.std(label_means)
    return (
        f"{name:42} {labels:4} labels, {judged:,} judged: correlation {np.mean(related):.2f}, coverage "
        f"{inside / rounds:.1%} (labels alone {alone / rounds:.1%}), standard error {shorter:.2f} of the labels' "
        f"(spread of the estimates {true_ratio:.2f}), bias {np.mean(means) - truth:+.3f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each world."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4_000)
    parser.add_argument("--judged", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    for name in WORLDS:
        for labels in (60,) if name.startswith("two-valued") else (30, 60):
            print(measure(name, labels=labels, judged=given.judged, rounds=given.rounds, seed=given.seed), flush=True)


if __name__ == "__main__":
    main()
