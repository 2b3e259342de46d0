"""Rule: draws the questions that are replayed: by traffic, stratified by topic, the same ones for the same seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.errors import InvalidInput
from core.log.capping import CAP_SHARE
from core.log.values import AskedQuery


@dataclass(frozen=True, slots=True)
class DrawnQuestion:
    """A distinct question that is replayed. `weight` says how many questions of the log it stands for.

    `capped_weight` is the same where no text weighs more than 1% of all questions, as in the daily mean that is
    watched. `topic_id` is "" for a question outside of all topics.
    """

    text: str
    topic_id: str
    asked: int
    weight: float
    capped_weight: float
    logged_score: float


def draw_questions(
    asked: Sequence[AskedQuery], topic_of: Mapping[str, str], *, size: int, seed: int
) -> tuple[DrawnQuestion, ...]:
    """Return up to `size` distinct questions: all of them if there are no more, else a sample by traffic.

    The sample is systematic: questions are ordered by topic, at random within a topic, and every n-th of the times that
    one was asked is drawn from a random start. So each topic has its share of the sample to within one draw, a question
    is drawn in proportion to its traffic, and one that is drawn twice is replayed once with twice the weight. Sums
    of weights are unbiased for sums over the log. Raises InvalidInput for a size below 1.
    """
    if size < 1:
        raise InvalidInput("sample", f"{size} is below 1")
    total = sum(query.count for query in asked)
    cap = max(1.0, CAP_SHARE * total)
    if len(asked) <= size:
        drawn = [(query, float(query.count)) for query in asked]
    else:
        rng = np.random.default_rng(seed)
        mixed = [asked[at] for at in rng.permutation(len(asked))]
        ordered = sorted(mixed, key=lambda query: topic_of.get(query.text, ""))
        ends = np.cumsum([query.count for query in ordered])
        step = total / size
        points = (np.arange(size) + rng.random()) * step
        times = np.bincount(np.searchsorted(ends, points, side="right"), minlength=len(ordered))
        drawn = [(query, float(n * step)) for query, n in zip(ordered, times, strict=True) if n]
    return tuple(
        DrawnQuestion(
            query.text, topic_of.get(query.text, ""), query.count, weight, weight * min(1.0, cap / query.count),
            query.mean_score,
        )
        for query, weight in sorted(drawn, key=lambda pair: (-pair[0].count, pair[0].text))
    )  # fmt: skip


def thin_questions(drawn: Sequence[DrawnQuestion], *, size: int, seed: int) -> dict[int, DrawnQuestion]:
    """Return up to `size` of the drawn questions by their place, with the weights that they then stand for.

    All of them if there are no more, else a systematic sample by weight in the order of the topics, as `draw_questions`
    takes. Raises InvalidInput for a size below 1.
    """
    if size < 1:
        raise InvalidInput("answers", f"{size} is below 1")
    if len(drawn) <= size:
        return dict(enumerate(drawn))
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(len(drawn))
    ordered = sorted((int(at) for at in mixed), key=lambda at: drawn[at].topic_id)
    ends = np.cumsum([drawn[at].weight for at in ordered])
    step = float(ends[-1]) / size
    times = np.bincount(
        np.searchsorted(ends, (np.arange(size) + rng.random()) * step, side="right"), minlength=len(ordered)
    )
    return {at: replace(drawn[at], weight=float(n * step)) for at, n in zip(ordered, times, strict=False) if n}
