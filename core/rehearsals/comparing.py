"""Rule: what a rollback would do to the questions of the log, told from what both sides answered to the same ones.

`report.py` reads the two sides. Where nothing shows how the other side answers, there is no number.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from core.log.filters import LoggedQuestion
from core.log.values import normalize_query
from core.replay.comparison import CHANGED, ReplayResult
from core.replay.shifts import ReplayShift, estimate_shift
from core.wording.counts import count_of
from core.wording.scores import say_interval
from quarterdeck.retrieval import SCORED, STATES, UNSCORED

LEAST_PAIRS = 30  # questions, below which the mean has no interval and is not told
MOST_NAMED = 40
_JUDGED = 0.05  # a judgment of an answer that moves less counts as unchanged


class Rehearsed(StrEnum):
    """What is compared: the score of the search, or how the answers were judged."""

    SCORE = "score"
    FAITHFULNESS = "faithfulness"
    FEEDBACK = "feedback"


@dataclass(frozen=True, slots=True)
class SideAnswer:
    """The answers of one side to one question: how many, and the mean of their scores or judgments."""

    text: str
    asked: int
    mean: float


@dataclass(frozen=True, slots=True)
class RehearsedQuestion:
    """A question that a rollback would change. `now` and `back` are its means before and after; `asked` counts both."""

    text: str
    asked: int
    now: float
    back: float

    @property
    def change(self) -> float:
        """What the rollback would do to it; below 0 is worse."""
        return self.back - self.now


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a rollback to `back_to` would do, in distinct questions.

    `asked` are those that users had answered by what would go, of which `known` were answered by what would come back
    too: `worse`, `better` and the rest, which stay alike. `mean` is the mean change over the known ones with its 95%
    interval, None below 30 distinct questions. `basis` says where the figures come from, `unknown` why there are none.
    `named` are up to 40 questions each that would get worse or better, the largest change first.
    """

    back_to: str
    metric: Rehearsed = Rehearsed.SCORE
    asked: int = 0
    known: int = 0
    worse: int = 0
    better: int = 0
    mean: ReplayShift | None = None
    basis: str = ""
    unknown: str = ""
    named: tuple[RehearsedQuestion, ...] = ()


def sum_answers(rows: Iterable[LoggedQuestion], metric: Rehearsed) -> dict[str, SideAnswer]:
    """Return one side's answers by normalized question.

    A search that found nothing, or failed, has the score 0. Rows without a number of the metric are left out.
    """
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    texts: dict[str, str] = {}
    for row in rows:
        value = _value_of(row, metric)
        if value is not None:
            key = normalize_query(row.query)
            texts.setdefault(key, row.query)
            sums[key][0] += row.weight
            sums[key][1] += row.weight * value
    return {key: SideAnswer(texts[key], int(asked), total / asked) for key, (asked, total) in sums.items()}


def compare_sides(
    now: dict[str, SideAnswer], back: dict[str, SideAnswer], *, metric: Rehearsed, back_to: str, basis: str
) -> Rehearsal:
    """Return the rehearsal of going from one side to the other, from the questions that both answered.

    A question's means differ if they are further apart than 0.01 for a score, 0.05 for a judgment. The mean change
    takes distinct questions as clusters with equal weight (`estimate_shift`), which are assumed to be independent.
    """
    if not now:
        return Rehearsal(back_to, metric, unknown="no question was answered yet by what would be rolled back")
    pairs = [(now[key], back[key]) for key in now if key in back]
    if not pairs:
        why = f"none of the {count_of(len(now), 'question')} that it answered was answered by {back_to} too"
        return Rehearsal(back_to, metric, len(now), unknown=why)
    least = CHANGED if metric is Rehearsed.SCORE else _JUDGED
    found = [RehearsedQuestion(one.text, one.asked + other.asked, one.mean, other.mean) for one, other in pairs]
    worse = sorted((each for each in found if each.change < -least), key=lambda each: each.change)
    better = sorted((each for each in found if each.change > least), key=lambda each: -each.change)
    changes = [each.change for each in found]
    mean = estimate_shift([1.0] * len(changes), changes) if len(changes) >= LEAST_PAIRS else None
    named = (*worse[:MOST_NAMED], *better[:MOST_NAMED])
    return Rehearsal(back_to, metric, len(now), len(pairs), len(worse), len(better), mean, basis, "", named)


def reverse_replay(found: ReplayResult, back_to: str) -> Rehearsal:
    """Return the rehearsal that a replay of two indexes gives, `back_to` being either of them.

    It counts questions as often as they were asked, because a replay keeps shares of these.
    """
    about, forward = found.about, back_to == found.about.candidate
    shares = (found.worse, found.better) if forward else (found.better, found.worse)
    worse, better = (round(share * about.asked) for share in shares)
    sign = 1 if forward else -1
    low, high = sorted((sign * found.score.low, sign * found.score.high))
    basis = (
        f"the replay of {count_of(found.replayed, 'distinct question')}, of {about.distinct:,} that were asked "
        f"{about.asked:,} times from {about.first} to {about.last}, through both indexes"
    )
    if about.changes_model:
        basis += ", compared by rank because the scores of two models lie on different scales"
    is_told = found.replayed >= LEAST_PAIRS and not about.changes_model
    mean = ReplayShift(sign * found.score.value, low, high) if is_told else None
    return Rehearsal(back_to, Rehearsed.SCORE, about.asked, about.asked, worse, better, mean, basis)


def describe_rehearsal(found: Rehearsal) -> str:
    """Return in words what a rollback would do; without evidence, why that cannot be told."""
    if found.unknown:
        return f"If rolled back to {found.back_to} now: cannot tell, because {found.unknown}."
    alike, rest = found.known - found.worse - found.better, found.asked - found.known
    said = (
        f"If rolled back to {found.back_to} now: {count_of(found.worse, 'question')} would get worse, {found.better:,} "
        f"better, and {alike:,} would stay alike, by their {found.metric}."
    )
    if rest:
        said += f" For {rest:,} more nothing can be told: {found.back_to} did not answer them."
    if found.mean:
        mean = found.mean
        said += f" The mean would change by {say_interval(mean.value, mean.low, mean.high)}."
    return f"{said} This rests on {found.basis}."


def _value_of(row: LoggedQuestion, metric: Rehearsed) -> float | None:
    if metric is Rehearsed.FAITHFULNESS:
        return row.faithfulness
    if metric is Rehearsed.FEEDBACK:
        return row.feedback
    if row.state == STATES[SCORED]:
        return row.similarity
    return None if row.state == STATES[UNSCORED] else 0.0
