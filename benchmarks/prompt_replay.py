"""How often does the faithfulness that a replay of a prompt predicts hold what is measured in the week after?

Run: `python -m benchmarks.prompt_replay [--seeds 400]`. Seeded simulations: a pool of questions with Zipf popularity,
each with its own chance of a refusal and of faithful sentences, differently under the live and the new prompt. A week
is asked, up to 200 of its questions are answered once under both prompts, and the interval is computed as the replay
does. In the week after, other questions of the pool are asked, and 50 answers a day are drawn and judged, each one made
anew. Bar: the interval holds the measured mean in at least 90% of the simulations.
"""

import argparse
from collections import Counter
from dataclasses import dataclass

import numpy as np

from core.log.values import AskedQuery
from core.replay.answering import AnswerOutcome, AnswerRun, compare_answers
from core.replay.sampling import draw_questions, thin_questions

ANSWERS, JUDGED, SENTENCES = 200, 7 * 50, 3
BAR = 0.90


@dataclass(frozen=True, slots=True)
class Traffic:
    """A kind of service: distinct questions in the pool, how steep their popularity is, and questions a week."""

    name: str
    pool: int
    zipf: float
    asked: int
    faithful: tuple[
        float, float
    ]  # of the Beta distribution that a question's share of supported sentences is drawn from
    refusals: float


SERVICES = (
    Traffic("few questions, often asked", 300, 1.0, 2_000, (8.0, 2.0), 0.05),
    Traffic("hardly any question twice", 20_000, 0.5, 2_000, (8.0, 2.0), 0.05),
    Traffic("large and steep", 5_000, 1.1, 15_000, (4.0, 2.0), 0.15),
    Traffic("nearly always faithful", 3_000, 0.8, 3_000, (80.0, 1.0), 0.10),
    Traffic("small service", 1_000, 0.8, 120, (6.0, 2.0), 0.10),
    Traffic("all or nothing", 2_000, 0.8, 1_500, (0.6, 0.2), 0.20),
)


@dataclass(frozen=True, slots=True)
class Pool:
    """The questions of a service: popularity, and under the new prompt the chances of support and of a refusal."""

    popularity: np.ndarray
    supported: np.ndarray
    refused: np.ndarray

    def answer(self, rng: np.random.Generator, question: int) -> tuple[bool, float]:
        """Return whether an answer made now is a refusal, and its faithfulness."""
        if rng.random() < self.refused[question]:
            return True, 0.0
        return False, float(rng.binomial(SENTENCES, self.supported[question])) / SENTENCES


def make_pool(service: Traffic, rng: np.random.Generator) -> Pool:
    """Return a service's questions; some are always refused, most never."""
    popularity = rng.permutation(1 / np.arange(1, service.pool + 1) ** service.zipf)
    refused = np.where(rng.random(service.pool) < service.refusals, rng.uniform(0.5, 1, service.pool), 0.0)
    return Pool(popularity / popularity.sum(), rng.beta(*service.faithful, service.pool), refused)


def simulate(service: Traffic, seed: int) -> tuple[float, float, float]:
    """Return the interval that the replay gives, and the mean that the next week has."""
    rng = np.random.default_rng((7, seed))
    pool = make_pool(service, rng)
    asked = Counter(map(int, rng.choice(service.pool, service.asked, p=pool.popularity)))
    drawn = draw_questions([AskedQuery(str(q), n, 0.5) for q, n in asked.items()], {}, size=5_000, seed=seed)
    part = thin_questions(drawn, size=ANSWERS, seed=seed)
    outcomes = []
    for at, question in part.items():
        refused, faithful = pool.answer(rng, int(question.text))
        outcomes.append(AnswerOutcome(at, refused, faithful, 0.5, 0.0))
    found = compare_answers(AnswerRun("v1", "v2", "a model", "a judge"), part, outcomes, outcomes, labels={})
    later = rng.choice(service.pool, min(JUDGED, service.asked), p=pool.popularity)
    judged = [faithful for refused, faithful in (pool.answer(rng, int(q)) for q in later) if not refused]
    assert found
    return found.faithfulness.low, found.faithfulness.high, float(np.mean(judged))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=400)
    seeds = parser.parse_args().seeds
    shares = []
    for service in SERVICES:
        results = [simulate(service, seed) for seed in range(seeds)]
        shares.append(sum(low <= mean <= high for low, high, mean in results) / seeds)
        width = float(np.mean([high - low for low, high, _ in results]))
        print(f"{service.name:<28} {shares[-1]:.1%} of {seeds} inside; mean width {width:.3f}", flush=True)
    print(f"bar: {BAR:.0%} in each: {'met' if min(shares) >= BAR else 'MISSED'}")


if __name__ == "__main__":
    main()
