"""Shell: sends the messages in the queues of the channels. The server and the command line run it.

At least once (decision 0085): a message is claimed before it is sent, and counts as sent once the receiver said so.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
MOST_S = 5.0  # after which a run begins no further message: the next one serves the channels that were quick, too
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
    store: Store, environment: str, *, now: datetime, base: str = "", send: Send = send_message,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[str, ...]:  # fmt: skip
    """Send the due messages of every channel of an environment; return one line for each that arrived or failed.

    Channels are served at the same time, so a slow receiver delays no other. What fails is tried again later, after a
    restart too: how often and when is in the store. `clock` counts the seconds that the run takes.
    """
    return _deliver(store, (environment,), now=now, base=base, send=send, clock=clock)


def deliver_all_alerts(
    store: Store, own: str, *, now: datetime, base: str, send: Send = send_message
) -> tuple[str, ...]:
    """The same for every environment in the store, and for the server's `own`, all at the same time."""
    return _deliver(store, list_environments(store, own), now=now, base=base, send=send, clock=time.monotonic)


@dataclass(frozen=True, slots=True)
class _Run:
    """One run over the queues: how it sends, and what time it is meanwhile."""

    store: Store
    started_ms: int
    base: str
    send: Send
    clock: Callable[[], float]
    began: float

    @property
    def took_s(self) -> float:
        return self.clock() - self.began

    @property
    def now_ms(self) -> int:
        return self.started_ms + int(1_000 * self.took_s)


def _deliver(
    store: Store, environments: Sequence[str], *, now: datetime, base: str, send: Send, clock: Callable[[], float]
) -> tuple[str, ...]:
    run = _Run(store, to_ms(now), base, send, clock, clock())
    places = [(name, channel) for name in environments for channel in _list_channels(store, name)]
    if not places:
        return ()
    with ThreadPoolExecutor(min(AT_ONCE, len(places)), thread_name_prefix="quarterdeck-alerts") as pool:
        return tuple(line for lines in pool.map(lambda place: _serve(run, *place), places) for line in lines)


def _list_channels(store: Store, environment: str) -> Sequence[Channel]:
    try:
        return read_book(store, environment).channels
    except QuarterdeckError as error:
        logger.warning("alerts of %s: %s", environment, error)
        return ()


def _serve(run: _Run, environment: str, channel: Channel) -> tuple[str, ...]:
    lines: list[str] = []
    try:
        lines.extend(_send_due(run, environment, channel))
    except Exception as error:  # whatever a queue holds, it stops no other
        said = str(error) if isinstance(error, QuarterdeckError) else f"{type(error).__name__} while it was served"
        logger.warning("channel %s: %s", channel.name, said)
        logger.debug("channel %s", channel.name, exc_info=error)
        lines.append(f"{channel.name}: {said}")
    return tuple(lines)


def _send_due(run: _Run, environment: str, channel: Channel) -> Iterator[str]:
    """Send what is due. A claim has the time at which its attempt begins: an older one would look like a dead server's.

    Where another server claims at the same time, it goes on with the channel.
    """
    for _ in range(MOST_AT_A_TIME):
        queue, version = get_queue(run.store, environment, channel.name)
        following = choose_next(queue, now_ms=run.now_ms)
        if following is None or run.took_s > MOST_S:
            return
        claimed = claim(queue, following.number, now_ms=run.now_ms)
        if not _save(run.store, environment, channel, claimed, version):
            return
        problem = _try(channel, following, run.base, run.send)
        if problem:
            noted = partial(note_failed, number=following.number, problem=problem, now_ms=run.now_ms)
            logger.warning("alert %s: %s", following.title, problem)
            said = f"{channel.name}: {following.title}: {problem}"
        else:
            noted = partial(note_sent, number=following.number, now_ms=run.now_ms)
            said = f"{channel.name}: sent {following.title}"
        _note(run.store, environment, channel, noted)
        yield said


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
