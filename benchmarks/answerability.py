"""Does the index answer the question? Our probability, compared with the top-1 cosine, on human questions with labels.

Each file has the questions of one collection (MTRAG-UN): all its passages are the index, ANSWERABLE questions are told
from UNANSWERABLE ones, and other labels are left out. Fitted on one collection and tested on another, for every pair.
Intervals are 95% of a bootstrap over questions. Calibration error: ten bins of equal width.

Run: `python -m benchmarks.answerability [FILE.jsonl FILE.jsonl …]`; `--shipped` tests the shipped model on each file,
and `--fit` prints a model of all files together.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import locate
from core.coverage.answerability import (
    FORMER,
    AnswerEvidence,
    AnswerModel,
    AnswerSearch,
    QuestionView,
    fit_answer_model,
)
from core.embedding.embed import Embedder

FILES = (locate("data", "mtrag_un", "fiqa.jsonl"), locate("data", "mtrag_un", "ibmcloud.jsonl"))
LABELS = {"ANSWERABLE": True, "UNANSWERABLE": False}
ROUNDS = 2_000
Numbers = NDArray[np.float64]
Measure = Callable[[Numbers, NDArray[np.bool_]], float]


@dataclass(frozen=True, slots=True)
class Collection:
    """The labeled questions of a collection: evidence, top-1 cosine of the question alone, and whether answered."""

    name: str
    evidence: tuple[AnswerEvidence, ...]
    top: Numbers
    answered: NDArray[np.bool_]


def read_collection(path: Path, embedder: Embedder) -> Collection:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    passages = {each["id"]: each["text"] for row in rows for each in row["passages"]}
    vectors = embedder.embed(list(passages.values()))
    search = AnswerSearch(list(passages.values()), vectors)
    labeled = [row for row in rows if row["answerability"] in LABELS]
    alone = [row["question"] for row in labeled]
    after = [" ".join([*row["earlier_questions"][-FORMER:], row["question"]]) for row in labeled]
    views = zip(alone, embedder.embed(alone), after, embedder.embed(after), strict=True)
    return Collection(
        path.stem,
        tuple(search.weigh([QuestionView(q, v), QuestionView(c, w)]) for q, v, c, w in views),
        (embedder.embed(alone) @ vectors.T).max(axis=1).astype(np.float64),
        np.array([LABELS[row["answerability"]] for row in labeled]),
    )


def auc(score: Numbers, answered: NDArray[np.bool_]) -> float:
    """Return the chance that an answered question has a higher score than another one; ties count half."""
    pairs = score[answered][:, None] - score[~answered][None, :]
    return float((pairs > 0).mean() + 0.5 * (pairs == 0).mean())


def calibration_error(probability: Numbers, answered: NDArray[np.bool_]) -> float:
    """Return the mean distance of probability and answered share over ten bins, weighted by their size."""
    bins = np.minimum((probability * 10).astype(int), 9)
    parts = [bins == place for place in range(10)]
    return sum(
        float(part.mean() * abs(probability[part].mean() - answered[part].mean())) for part in parts if part.any()
    )


def bootstrap(measure: Measure, values: Numbers, answered: NDArray[np.bool_], *, seed: int = 0) -> Numbers:
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(len(answered), size=len(answered)) for _ in range(ROUNDS))
    return np.array([measure(values[rows], answered[rows]) for rows in drawn if 0 < answered[rows].sum() < len(rows)])


def show(numbers: Numbers, value: float) -> str:
    low, high = np.quantile(numbers, [0.025, 0.975])
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def pair_up(collections: list[Collection]) -> Iterator[tuple[Collection, Collection]]:
    return ((fitted, tested) for fitted in collections for tested in collections if fitted is not tested)


def report(name: str, model: AnswerModel, tested: Collection) -> tuple[float, float, float, Numbers]:
    """Print the figures of a model on a collection; return the AUC of both, the error, and the AUC's bootstrap gain."""
    probability = model.estimate(tested.evidence)
    ours, top = auc(probability, tested.answered), auc(tested.top, tested.answered)
    drawn = [bootstrap(auc, each, tested.answered) for each in (probability, tested.top)]
    error = calibration_error(probability, tested.answered)
    told = show(bootstrap(calibration_error, probability, tested.answered), error)
    print(
        f"{name:>12} -> {tested.name:<12} {len(tested.answered):4} questions, {tested.answered.mean():.0%} answered"
        f" (mean probability {probability.mean():.0%})\n"
        f"  AUC {show(drawn[0], ours)}, top-1 cosine {show(drawn[1], top)}; calibration error {told}"
    )
    return ours, top, error, drawn[0] - drawn[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, default=FILES)
    parser.add_argument("--shipped", action="store_true", help="test the shipped model instead of fitting")
    parser.add_argument("--fit", action="store_true", help="print the model fitted on all files together")
    options = parser.parse_args()
    embedder = Embedder()
    collections = [read_collection(path, embedder) for path in options.files]
    if options.fit:
        evidence = [each for collection in collections for each in collection.evidence]
        print(fit_answer_model(evidence, np.concatenate([each.answered for each in collections]).tolist()))
        return
    if options.shipped:
        from core.coverage.answerability import ANSWER_MODEL

        found = [report("shipped", ANSWER_MODEL, each) for each in collections]
    else:
        found = [
            report(fitted.name, fit_answer_model(fitted.evidence, fitted.answered.tolist()), tested)
            for fitted, tested in pair_up(collections)
        ]
    ours, top, error = (float(np.mean([row[column] for row in found])) for column in range(3))
    gain = np.mean([row[3] for row in found], axis=0)
    print(f"mean: AUC {ours:.3f}, top-1 cosine {top:.3f}, gain {show(gain, ours - top)} (bar 0.05)")
    print(f"mean calibration error {error:.3f}, largest {max(row[2] for row in found):.3f} (bar 0.10)")


if __name__ == "__main__":
    main()
