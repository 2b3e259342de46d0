"""Shell: reports how good production answers are, by judges and reviewers, and how far review queues have come."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.log.retrievals import Window, find_bounds
from core.reviews.corrected import CorrectedMean, correct_mean
from core.reviews.judged import JudgedAnswer, list_judged
from core.reviews.queues import ReviewItem, ReviewLabel, ReviewQueue, list_items, list_labels, list_task_labels
from core.reviews.reliability import Reliability, measure_reliability
from core.reviews.tasks import JUDGED, ReviewRule, ReviewTask
from quarterdeck.scope import Scope
from quarterdeck.store import Store


@dataclass(frozen=True, slots=True)
class JudgedQuality:
    """What the judge that judged last says of a window's answers, and what reviewers make of it.

    `judge` is its name and version, "" where nothing was judged. `problems` counts why answers of the sample could not
    be judged. Scores of other judges are left out; `others` says how many answers have one.
    """

    task: ReviewTask
    judge: str
    mean: CorrectedMean
    problems: tuple[tuple[str, int], ...]
    others: int


@dataclass(frozen=True, slots=True)
class QueueProgress:
    """A queue with its questions and labels, how many labels each reviewer gave, and how far the reviewers agree."""

    queue: ReviewQueue
    items: tuple[ReviewItem, ...]
    labels: tuple[ReviewLabel, ...]
    given: Mapping[str, int]
    reliability: Reliability

    def find_next(self, reviewer: str) -> str | None:
        """Return the first question that a reviewer has neither labeled nor skipped."""
        done = {label.retrieval_id for label in self.labels if label.reviewer == reviewer}
        return next((item.retrieval_id for item in self.items if item.retrieval_id not in done), None)

    def find_former(self, reviewer: str) -> str | None:
        """Return the question that a reviewer labeled or skipped last."""
        own = [label.retrieval_id for label in self.labels if label.reviewer == reviewer]
        return own[-1] if own else None


def report_judged(store: Store, scope: Scope, window: Window) -> tuple[JudgedQuality, ...]:
    """Return the quality of a window's answers by what is judged. Raises SourceUnavailable.

    Labels count if they come from a queue that was drawn at random, of answers that the same judge scored.
    """
    start_ms, end_ms = find_bounds(store, scope, window)
    return tuple(_report(store, scope, task, start_ms, end_ms) for task in JUDGED)


def report_queue(store: Store, queue: ReviewQueue) -> QueueProgress:
    """Return the state of a queue. Raises SourceUnavailable."""
    items, labels = list_items(store, queue.queue_id), list_labels(store, queue.queue_id)
    by_question: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for label in labels:
        if label.value is not None:
            by_question[label.retrieval_id][label.reviewer] = label.value
    given = Counter(label.reviewer for label in labels)
    return QueueProgress(queue, items, labels, dict(given), measure_reliability(list(by_question.values())))


def _report(store: Store, scope: Scope, task: ReviewTask, start_ms: int, end_ms: int) -> JudgedQuality:
    found = list_judged(store, scope, str(task), start_ms=start_ms, end_ms=end_ms)
    judge = found[-1].judge if found else ""
    own = [each for each in found if each.judge == judge]
    scored = {each.retrieval_id: each.value for each in own if each.value is not None}
    drawn = {each.retrieval_id for each in own if each.drawn}
    labels = _mean_labels(store, scope, task, start_ms, end_ms)
    both = sorted(labels.keys() & scored.keys())
    others = [value for name, value in scored.items() if name in drawn and name not in labels]
    mean = correct_mean([labels[name] for name in both], [scored[name] for name in both], others)
    return JudgedQuality(task, judge, mean, _count_problems(own), len(found) - len(own))


def _mean_labels(store: Store, scope: Scope, task: ReviewTask, start_ms: int, end_ms: int) -> dict[str, float]:
    """Return the mean label of each question of a random queue."""
    given: defaultdict[str, list[float]] = defaultdict(list)
    rule = ReviewRule.RANDOM
    for label in list_task_labels(store, scope, task, start_ms=start_ms, end_ms=end_ms, rule=rule):
        given[label.retrieval_id].append(label.value)
    return {name: sum(values) / len(values) for name, values in given.items()}


def _count_problems(judged: Sequence[JudgedAnswer]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(each.problem for each in judged if each.problem and each.drawn).most_common())
