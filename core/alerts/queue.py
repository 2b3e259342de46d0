"""Rule: the queue of one channel: which message is sent next, when a failed one is tried again, and what is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from core.errors import InvalidInput
from quarterdeck.clock import DAY_MS

GIVEN_UP_AFTER_MS = 3 * DAY_MS
SENT_WITHIN_MS = 120_000  # every attempt has ended by then, or its server has died
KEPT_ENDED = 100
MOST_WAITING = 500  # messages of one channel: beyond them the oldest is given up, and says why
_WAITS_S = (2, 10, 60, 300, 1_800, 3_600)  # after the first, the second, … failed attempt; then as after the last one


class SendOutcome(StrEnum):
    """What became of a message."""

    WAITING = "waiting"
    SENT = "sent"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message on its way through one channel. `key` names the alert: its messages arrive in their order.

    `claimed_ms` is when a server began to send it; 0 while nobody does. A message that has arrived is forgotten but
    for its title.
    """

    number: int
    key: str
    title: str
    made_ms: int
    message: Mapping[str, Any] | None
    outcome: SendOutcome = SendOutcome.WAITING
    attempts: int = 0
    next_ms: int = 0
    claimed_ms: int = 0
    ended_ms: int = 0
    problem: str = ""

    def is_being_sent(self, now_ms: int) -> bool:
        """Whether a server claimed it lately; a clock may have jumped in either direction."""
        return self.claimed_ms > 0 and abs(now_ms - self.claimed_ms) < SENT_WITHIN_MS

    def to_json(self) -> dict[str, Any]:
        """Return the delivery as JSON keeps it."""
        return {
            "number": self.number, "key": self.key, "title": self.title, "made_ms": self.made_ms,
            "message": None if self.message is None else dict(self.message), "outcome": str(self.outcome),
            "attempts": self.attempts, "next_ms": self.next_ms, "claimed_ms": self.claimed_ms,
            "ended_ms": self.ended_ms, "problem": self.problem,
        }  # fmt: skip


Queue = tuple[QueuedMessage, ...]  # oldest first


def read_queue(told: Sequence[Mapping[str, Any]] | None) -> Queue:
    """Return the queue that was written by `to_json`. Raises InvalidInput."""
    try:
        return tuple(QueuedMessage(**{**each, "outcome": SendOutcome(each["outcome"])}) for each in told or ())
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("deliveries", f"cannot be read ({type(error).__name__})") from error


def add_message(queue: Queue, message: Mapping[str, Any], title: str, *, now_ms: int) -> Queue:
    """Return the queue with one more message at its end; the oldest that ended are forgotten.

    Where as many as allowed wait already, the oldest that nobody is sending is given up: the newest say how it is now.
    """
    number = max((each.number for each in queue), default=0) + 1
    waiting = [each for each in queue if each.outcome is SendOutcome.WAITING]
    if len(waiting) >= MOST_WAITING:
        oldest = next((each for each in waiting if not each.is_being_sent(now_ms)), waiting[0])
        problem = f"{MOST_WAITING} newer messages waited; last problem: {oldest.problem or 'none'}"
        queue = _change(
            queue, oldest.number, outcome=SendOutcome.GIVEN_UP, claimed_ms=0, ended_ms=now_ms, problem=problem
        )
    added = QueuedMessage(number, str(message["key"]), title, now_ms, message)
    ended = [each.number for each in queue if each.outcome is not SendOutcome.WAITING]
    forgotten = set(ended[: max(0, len(ended) - KEPT_ENDED + 1)])
    return (*(each for each in queue if each.number not in forgotten), added)


def choose_next(queue: Queue, *, now_ms: int) -> QueuedMessage | None:
    """Return the message to send now: the oldest that is due, unless one before it about the same alert waits."""
    waiting: set[str] = set()
    for each in queue:
        if each.outcome is not SendOutcome.WAITING or each.key in waiting:
            continue
        waiting.add(each.key)
        is_due = each.next_ms <= now_ms or each.next_ms - now_ms > 1_000 * _WAITS_S[-1]
        if is_due and not each.is_being_sent(now_ms):
            return each
    return None


def claim(queue: Queue, number: int, *, now_ms: int) -> Queue:
    """Return the queue in which a server has begun to send a message."""
    return _change(queue, number, claimed_ms=now_ms)


def note_sent(queue: Queue, number: int, *, now_ms: int) -> Queue:
    """Return the queue after a message arrived; as it is where the channel was removed meanwhile."""
    attempts = sum(each.attempts for each in queue if each.number == number) + 1
    return _change(
        queue,
        number,
        outcome=SendOutcome.SENT,
        attempts=attempts,
        claimed_ms=0,
        ended_ms=now_ms,
        problem="",
        message=None,
    )


def note_failed(queue: Queue, number: int, problem: str, *, now_ms: int) -> Queue:
    """Return the queue after an attempt failed: tried again later and later, and given up after three days."""
    failed = next((each for each in queue if each.number == number), None)
    if failed is None:  # the channel was removed meanwhile
        return queue
    attempts = failed.attempts + 1
    if now_ms - failed.made_ms >= GIVEN_UP_AFTER_MS:
        return _change(
            queue,
            number,
            outcome=SendOutcome.GIVEN_UP,
            attempts=attempts,
            claimed_ms=0,
            ended_ms=now_ms,
            problem=problem,
        )
    wait_s = _WAITS_S[min(attempts, len(_WAITS_S)) - 1]
    return _change(queue, number, attempts=attempts, claimed_ms=0, next_ms=now_ms + 1_000 * wait_s, problem=problem)


def send_again(queue: Queue, number: int, *, now_ms: int) -> Queue:
    """Return the queue in which a message that was given up, or waits, is due now. Raises InvalidInput."""
    if not any(each.number == number and each.message is not None for each in queue):
        raise InvalidInput("number", f"there is no message {number} that did not arrive")
    return _change(queue, number, outcome=SendOutcome.WAITING, made_ms=now_ms, next_ms=now_ms, ended_ms=0)


def _change(queue: Queue, number: int, **changes: Any) -> Queue:
    return tuple(replace(each, **changes) if each.number == number else each for each in queue)
