import json

import pytest

from core.alerts.queue import (
    GIVEN_UP_AFTER_MS,
    KEPT_ENDED,
    MOST_WAITING,
    SENT_WITHIN_MS,
    SendOutcome,
    add_message,
    choose_next,
    claim,
    note_failed,
    note_sent,
    read_queue,
    send_again,
)
from core.errors import InvalidInput
from quarterdeck.clock import HOUR_MS

NOW = 1_700_000_000_000


def queue_of(*keys: str):
    queue = ()
    for key in keys:
        queue = add_message(queue, {"key": key}, f"about {key}", now_ms=NOW)
    return queue


def next_of(queue, now_ms: int = NOW) -> int | None:
    found = choose_next(queue, now_ms=now_ms)
    return found.number if found else None


def test_messages_about_one_alert_come_in_their_order_and_others_are_not_held_up():
    queue = note_failed(queue_of("a", "a", "b"), 1, "it answered 500", now_ms=NOW)
    assert next_of(queue) == 3
    queue = note_sent(queue, 3, now_ms=NOW)
    assert next_of(queue) is None
    assert next_of(queue, NOW + 2_000) == 1
    assert next_of(note_sent(queue, 1, now_ms=NOW)) == 2


def test_waits_grow_to_an_hour_and_a_message_is_given_up_after_three_days():
    queue, now, waits = queue_of("a"), NOW, []
    while queue[0].outcome is SendOutcome.WAITING:
        queue = note_failed(queue, 1, "no", now_ms=now)
        waits.append(queue[0].next_ms - now)
        now = queue[0].next_ms
    assert [wait // 1000 for wait in waits[:7]] == [2, 10, 60, 300, 1800, 3600, 3600]
    assert queue[0].outcome is SendOutcome.GIVEN_UP and queue[0].message == {"key": "a"}
    assert 0 <= queue[0].ended_ms - NOW - GIVEN_UP_AFTER_MS <= HOUR_MS
    again = send_again(queue, 1, now_ms=now)
    assert next_of(again, now) == 1
    with pytest.raises(InvalidInput, match="^number: "):
        send_again(note_sent(again, 1, now_ms=now), 1, now_ms=now)


@pytest.mark.parametrize("jump", [-HOUR_MS * 2, 0, HOUR_MS * 2])
def test_a_claim_holds_for_two_minutes_and_a_clock_may_jump(jump: int):
    queue = claim(queue_of("a"), 1, now_ms=NOW)
    assert next_of(queue, NOW + SENT_WITHIN_MS - 1) is None
    assert next_of(queue, NOW + jump) == (1 if jump else None)
    failed = note_failed(queue_of("a"), 1, "no", now_ms=NOW)
    assert next_of(failed, NOW - 2 * HOUR_MS) == 1  # the clock was wrong when the next attempt was planned


def test_what_arrived_keeps_its_title_for_a_while_and_what_waits_is_never_forgotten():
    queue = queue_of("waits")
    for at in range(3 * KEPT_ENDED):
        queue = add_message(queue, {"key": f"k{at}"}, f"about {at}", now_ms=NOW)
        queue = note_sent(queue, queue[-1].number, now_ms=NOW)
    assert len(queue) == KEPT_ENDED + 1
    assert (queue[0].title, queue[0].outcome) == ("about waits", SendOutcome.WAITING)
    assert {each.message for each in queue[1:]} == {None}
    assert len({each.number for each in queue}) == len(queue)
    assert read_queue(json.loads(json.dumps([each.to_json() for each in queue]))) == queue


@pytest.mark.parametrize("told", [[{}], [5], [{"outcome": "lost"}], 7])
def test_a_queue_that_cannot_be_read_is_an_error_in_one_line(told):
    with pytest.raises(InvalidInput, match="^deliveries: cannot be read"):
        read_queue(told)


def test_a_queue_is_bounded_and_the_newest_messages_stay():
    queue = note_failed(queue_of("first"), 1, "it answered 500", now_ms=NOW)
    for number in range(MOST_WAITING + 2 * KEPT_ENDED):
        queue = add_message(queue, {"key": f"k{number}"}, "about it", now_ms=NOW)
    waiting = [each for each in queue if each.outcome is SendOutcome.WAITING]
    assert len(waiting) == MOST_WAITING and len(queue) <= MOST_WAITING + KEPT_ENDED + 1
    assert waiting[-1].key == f"k{MOST_WAITING + 2 * KEPT_ENDED - 1}"
    full = queue_of(*["a"] * (MOST_WAITING + 1))
    assert (full[0].outcome, full[0].problem) == (SendOutcome.GIVEN_UP, "500 newer messages waited; last problem: none")
    assert next_of(full) == 2


def test_what_is_being_sent_is_not_given_up_for_newer_messages():
    queue = add_message(claim(queue_of(*["a"] * MOST_WAITING), 1, now_ms=NOW), {"key": "b"}, "b", now_ms=NOW)
    assert [each.outcome for each in queue[:3]] == [SendOutcome.WAITING, SendOutcome.GIVEN_UP, SendOutcome.WAITING]


def test_an_attempt_that_ends_after_its_channel_was_removed_changes_nothing():
    assert note_sent((), 1, now_ms=NOW) == note_failed((), 1, "no", now_ms=NOW) == ()
