"""Rule: corrects the mean of a judge by a few labels of reviewers, with an interval (prediction-powered inference).

Knows neither judges nor reviewers: numbers of 0 to 1 in, a mean and its interval out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

FEWEST_LABELS = 30
FEWEST_TWO_VALUED = 60  # where labels and judge only say 0 or 1: rare disagreements have to be seen
CONFIDENCE = 0.95
_MOST_LEVERAGE = 0.5
_PAIR_WEIGHT = 0.2
_Numbers = NDArray[np.float64]


class MeanStatus(StrEnum):
    """Whether there are enough labels for an interval."""

    OK = "ok"
    TOO_FEW_LABELS = "too few labels"
    NOTHING_JUDGED = "nothing judged"


@dataclass(frozen=True, slots=True)
class CorrectedMean:
    """The mean that reviewers would give all answers; `low` and `high` bound it with 95% confidence.

    `judge_mean` is the judge's own, `label_mean` that of the labels, `standard_error` that of `mean` and `label_error`
    that of the labels alone. `weight` is how much the judge counts (the power-tuned lambda; 0: not at all) and
    `correlation` that of judge and labels. Everything but the means is None without enough labels; `needed` says how
    many those are.
    """

    status: MeanStatus
    labels: int
    judged: int
    needed: int
    judge_mean: float | None
    label_mean: float | None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    label_error: float | None = None
    weight: float | None = None
    correlation: float | None = None


def correct_mean(labels: Sequence[float], judged: Sequence[float], unlabeled: Sequence[float]) -> CorrectedMean:
    """Return the mean of all answers from n labels, the judge's scores of the same answers, and N further scores.

    With labels Y, the judge's scores f of the same answers and f' of the others, the estimate is PPI++ for a mean:

        mean(Y) + lambda * (mean(f') - mean(f)),   lambda = cov(Y, f) / ((1 + n/N) * var(f)), at least 0

    Its variance is (sum of r^2 + s^2) / n^2 + lambda^2 * var(f') / N. Here r is the residual of Y - lambda * f around
    its mean, divided by 1 - its leverage (HC3, at most twice the residual): lambda comes from the same labels. s^2, the
    variance of the labels, counts as one more label about which the judge says nothing. The interval is
    t(n - 2)-quantiles of the standard error on both sides, cut to 0..1. Where labels and judge are 0 or 1 only, a pair
    of disagreements of weight 0.2 each is added, because the sample may have missed such.

    Assumes that all numbers are 0 to 1, that the labeled answers are a random sample of those that were judged, that
    both were judged by one version of one judge, and that answers are independent. Then it holds however bad the judge
    is: a useless one makes the interval about as wide as the labels alone. Smallest sample: 30 labels, 60 where both
    are two-valued; with fewer the intervals are too short (benchmarks/ppi.py). With N much larger than n, the standard
    error is 20% below that of the labels alone from a correlation of about 0.68 on.

    Source: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, Prediction-powered inference, Science 382, 2023;
    Angelopoulos, Duchi and Zrnic, PPI++: Efficient prediction-powered inference, 2023 (the power-tuned lambda);
    MacKinnon and White, J. Econometrics 29, 1985 (HC3).
    """
    y, f, others = (np.asarray(values, dtype=np.float64) for values in (labels, judged, unlabeled))
    if len(y) != len(f):
        raise ValueError(f"{len(y)} labels for {len(f)} judged answers")
    is_two_valued = len(y) > 0 and all(set(np.unique(each)) <= {0.0, 1.0} for each in (y, f))
    needed = FEWEST_TWO_VALUED if is_two_valued else FEWEST_LABELS
    everything = np.concatenate([f, others])
    judge_mean = float(everything.mean()) if len(everything) else None
    label_mean = float(y.mean()) if len(y) else None
    if len(y) < needed or len(others) < len(y):
        status = MeanStatus.NOTHING_JUDGED if not len(everything) else MeanStatus.TOO_FEW_LABELS
        return CorrectedMean(status, len(y), len(everything), needed, judge_mean, label_mean)
    return _correct(y, f, others, judge_mean, label_mean, needed=needed, has_pair=is_two_valued)


def _correct(
    y: _Numbers, f: _Numbers, others: _Numbers, judge_mean: float | None, label_mean: float | None, *,
    needed: int, has_pair: bool,
) -> CorrectedMean:  # fmt: skip
    from scipy.stats import t

    n, large = len(y), len(others)
    own = float(y.std(ddof=1)) / np.sqrt(n)
    weights = np.ones(n)
    correlation = float(np.corrcoef(y, f)[0, 1]) if y.std() > 0 and f.std() > 0 else None
    if has_pair:
        y, f = np.append(y, [1.0, 0.0]), np.append(f, [0.0, 1.0])
        weights = np.append(weights, [_PAIR_WEIGHT] * 2)
    size = weights.sum()
    spread = float(np.concatenate([f[:n], others]).var(ddof=1))
    off_y, off_f = (each - (weights * each).sum() / size for each in (y, f))
    squares = float((weights * off_f**2).sum())
    tuned = max(0.0, float((weights * off_y * off_f).sum()) / ((1 + n / large) * squares)) if squares > 0 else 0.0
    mean = float((weights * y).sum() / size + tuned * (others.mean() - (weights * f).sum() / size))
    leverage = np.minimum(1 / size + (off_f**2 / squares if squares > 0 else 0.0), _MOST_LEVERAGE)
    residuals = (off_y - tuned * off_f) / (1 - leverage)
    one_more = float((weights * off_y**2).sum() / (size - 1))
    variance = ((weights * residuals**2).sum() + one_more) / size**2 + tuned**2 * spread / large
    error = float(np.sqrt(variance))
    reach = float(t.ppf((1 + CONFIDENCE) / 2, n - 2)) * error
    middle, low, high = (min(1.0, max(0.0, each)) for each in (mean, mean - reach, mean + reach))
    return CorrectedMean(
        MeanStatus.OK, n, n + large, needed, judge_mean, label_mean, middle, low, high, error, own, tuned, correlation
    )
