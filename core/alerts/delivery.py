"""Shell: sends the messages in the queues of the channels. The server and the command line run it.

At least once (decision 0085): a message is claimed before it is sent, and counts as sent once the receiver said so.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

from core.alerts.book import get_queue, read_book, save_queue
from core.alerts.channels import Channel, ChannelKind
from core.alerts.messages import make_title, write_alertmanager, write_text, write_webhook
from core.alerts.queue import Queue, QueuedMessage, choose_next, claim, note_failed, note_sent
from core.alerts.services import notify
from core.alerts.webhooks import post_once
from core.audit.environments import list_environments
from core.errors import Conflict, QuarterdeckError, SourceUnavailable
from quarterdeck.clock import to_ms
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

AT_ONCE = 8  # channels
MOST_AT_A_TIME = 50  # messages of one channel in one run
_TRIES = 20  # of noting how an attempt ended, while others add messages

Send = Callable[[Channel, Mapping[str, Any], str], None]


def send_message(channel: Channel, message: Mapping[str, Any], base: str) -> None:
    """Send one message in one attempt, in the form of the channel. Raises SourceUnavailable.

    `base` is the deck's address for browsers, "" for none.
    """
    if channel.kind is ChannelKind.APPRISE:
        level = str(message["level"]) if message["ended"] is None else "ok"
        notify(channel.address, make_title(message), write_text(message, base=base), level=level)
    elif channel.kind is ChannelKind.ALERTMANAGER:
        post_once(channel.address, write_alertmanager(message, receiver=channel.name, base=base), channel.secret)
    else:
        post_once(channel.address, write_webhook(message, sent=datetime.now(UTC)), channel.secret)


def deliver_alerts(
    store: Store, environment: str, *, now: datetime, base: str = "", send: Send = send_message
) -> tuple[str, ...]:
    """Send the due messages of every channel of an environment; return one line for each that arrived or failed.

    Channels are served at the same time, so a slow receiver delays no other. What fails is tried again later, after a
    restart too: how often and when is in the store.
    """
    channels = read_book(store, environment).channels
    if not channels:
        return ()
    with ThreadPoolExecutor(min(AT_ONCE, len(channels)), thread_name_prefix="quarterdeck-alerts") as pool:
        run = partial(_serve, store, environment, now=now, base=base, send=send)
        return tuple(line for lines in pool.map(run, channels) for line in lines)


def deliver_all_alerts(store: Store, own: str, *, now: datetime, base: str) -> tuple[str, ...]:
    """Call `deliver_alerts` for every environment in the store, and for the server's `own`."""
    found: list[str] = []
    for name in list_environments(store, own):
        found += deliver_alerts(store, name, now=now, base=base)
    return tuple(found)


def _serve(
    store: Store, environment: str, channel: Channel, *, now: datetime, base: str, send: Send
) -> tuple[str, ...]:
    try:
        return tuple(_send_due(store, environment, channel, now=now, base=base, send=send))
    except QuarterdeckError as error:
        logger.warning("channel %s: %s", channel.name, error)
        return (f"{channel.name}: {error}",)


def _send_due(
    store: Store, environment: str, channel: Channel, *, now: datetime, base: str, send: Send
) -> Iterator[str]:
    now_ms = to_ms(now)
    for _ in range(MOST_AT_A_TIME):
        queue, version = get_queue(store, environment, channel.name)
        following = choose_next(queue, now_ms=now_ms)
        if following is None or not _save(store, environment, channel, claim(queue, following.number, now_ms=now_ms),
                                          version):  # fmt: skip
            return
        problem = _try(channel, following, base, send)
        if problem:
            _note(store, environment, channel, partial(note_failed, number=following.number, problem=problem,
                                                       now_ms=now_ms))  # fmt: skip
            logger.warning("alert %s: %s", following.title, problem)
            yield f"{channel.name}: {following.title}: {problem}"
        else:
            _note(store, environment, channel, partial(note_sent, number=following.number, now_ms=now_ms))
            yield f"{channel.name}: sent {following.title}"


def _try(channel: Channel, delivery: QueuedMessage, base: str, send: Send) -> str:
    """Return why a message did not arrive, "" once it has."""
    try:
        send(channel, delivery.message or {}, base)
    except SourceUnavailable as error:
        return str(error)
    except Exception as error:  # whatever a receiver brings about, it is tried again
        logger.debug("channel %s", channel.name, exc_info=error)
        return f"{type(error).__name__} while it was sent"
    return ""


def _note(store: Store, environment: str, channel: Channel, change: Callable[[Queue], Queue]) -> None:
    """Write down how an attempt ended, into the queue as it is now."""
    for _ in range(_TRIES):
        queue, version = get_queue(store, environment, channel.name)
        if _save(store, environment, channel, change(queue), version):
            return
    raise SourceUnavailable("its queue is changed all the time; the message may come twice")


def _save(store: Store, environment: str, channel: Channel, queue: Queue, version: int) -> bool:
    try:
        with store.begin() as connection:
            save_queue(connection, environment, channel.name, queue, expected_version=version)
    except Conflict:
        return False
    return True
