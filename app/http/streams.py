"""The open event streams of this process: who has one, what it is told, and when it ends.

`events.py` opens them for requests, and says what an event is.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from prometheus_client import Gauge
from starlette.types import Receive, Scope, Send

from app.http.observing import REGISTRY
from quarterdeck.client import Quarterdeck
from quarterdeck.snapshot import Snapshot

BEAT_S, CHECK_S = 15.0, 1.0  # how often a stream shows that it lives; how often its token is checked
RETRY_S = (1.0, 5.0)  # when a provider whose stream ended opens a new one: spread, so that not all come at once
RECENT_S = 60.0  # a stream that opens so soon after a change gets its event: it may have asked before the change
_CLOSE_WITHIN_S = 1.0
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back
]
_BEAT = b":\n\n"
OPEN = Gauge("quarterdeck_event_streams", "Event streams of OFREP that are open now.", registry=REGISTRY)


class Streams:
    """The open streams of one environment. Its methods belong to the event loop, but for `hear`.

    `holds` says whether a token's digest still admits to them; `describe` writes the event of a state of the flags,
    and returns its id with it.
    """

    def __init__(
        self,
        deck: Quarterdeck,
        holds: Callable[[str | None], Awaitable[bool]],
        describe: Callable[[Snapshot], tuple[str, bytes]],
    ) -> None:
        self._deck = deck
        self._holds = holds
        self._describe = describe
        self._open: set[Stream] = set()
        self._loop = asyncio.get_running_loop()
        self._changed_s = -RECENT_S
        self._id, self._event = describe(deck.snapshot)
        self._tending: asyncio.Task[None] | None = None
        deck.on_change(self.hear)

    def __len__(self) -> int:
        return len(self._open)

    def hear(self, _keys: frozenset[str]) -> None:
        """Take up that flags changed; called in the thread that read them."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell)

    def greet(self, last_id: str | None) -> bytes:
        """Return how a stream begins: with the last event, if the client may have missed it."""
        greeting = f"retry: {1_000 * random.uniform(*RETRY_S):.0f}\n\n".encode()  # noqa: S311 - spreads reconnections
        has_missed = last_id is not None and last_id != self._id
        is_recent = time.monotonic() - self._changed_s < RECENT_S
        return greeting + self._event if has_missed or is_recent else greeting

    def add(self, stream: "Stream") -> None:
        """Take a stream in."""
        self._open.add(stream)
        OPEN.inc()
        if self._tending is None:
            self._tending = asyncio.ensure_future(self._tend())

    def remove(self, stream: "Stream") -> None:
        """Forget a stream."""
        if stream in self._open:
            self._open.remove(stream)
            OPEN.dec()

    def end(self) -> None:
        """End every stream."""
        for stream in tuple(self._open):
            stream.end()
        if self._tending is not None:
            self._tending.cancel()
            self._tending = None

    def _tell(self) -> None:
        self._changed_s = time.monotonic()
        self._id, self._event = self._describe(self._deck.snapshot)
        for stream in tuple(self._open):
            stream.tell(self._event)

    async def _tend(self) -> None:
        """While there are streams: show that they live, and end those whose token does not admit them any more."""
        beat_s = time.monotonic() + BEAT_S
        while self._open:
            await asyncio.sleep(CHECK_S)
            digests = {stream.digest for stream in self._open}
            ended = {digest for digest in digests if not await self._holds(digest)}
            is_due = time.monotonic() >= beat_s
            beat_s += BEAT_S if is_due else 0.0
            for stream in tuple(self._open):
                if stream.digest in ended:
                    stream.end()
                elif is_due:
                    stream.tell(_BEAT)
        self._tending = None


class Stream:
    """One open stream. A client that does not read gets the newest event once it does, and not each one."""

    __slots__ = ("_ended", "_first", "_next", "_pushing", "_send", "_streams", "digest")

    def __init__(self, streams: Streams, digest: str | None, first: bytes) -> None:
        self.digest = digest
        self._streams = streams
        self._first = first
        self._next = b""
        self._pushing: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI wants it
        """Answer a request, until the client or this side ends it."""
        self._send = send
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        self._streams.add(self)
        gone = asyncio.ensure_future(_wait_until_gone(receive))
        try:
            await asyncio.wait((gone, self._ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.remove(self)
            gone.cancel()
            if self._pushing is not None:
                self._pushing.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(send({"type": "http.response.body", "body": b""}), _CLOSE_WITHIN_S)

    def tell(self, event: bytes) -> None:
        """Send an event soon."""
        if self._pushing is not None:
            self._next = event if event is not _BEAT else self._next
        else:
            self._pushing = asyncio.ensure_future(self._push(event))

    def end(self) -> None:
        """End this stream."""
        if not self._ended.done():
            self._ended.set_result(None)

    async def _push(self, event: bytes) -> None:
        try:
            while event:
                await self._send({"type": "http.response.body", "body": event, "more_body": True})
                event, self._next = self._next, b""
        finally:
            self._pushing = None


def count_streams() -> int:
    """Return how many streams are open."""
    return sum(len(each) for each in _by_deck.values())


def streams_of(deck: Quarterdeck, make: Callable[[], Streams]) -> Streams:
    """Return the streams of a deck, made when it has none yet."""
    if (known := _by_deck.get(deck)) is None:
        known = _by_deck[deck] = make()
    return known


def forget_streams(deck: Quarterdeck) -> None:
    """Forget the streams of a deck that is closed."""
    _by_deck.pop(deck, None)


def end_streams() -> None:
    """End every stream, because the server stops. Call it in the server's event loop."""
    for streams in tuple(_by_deck.values()):
        streams.end()


_by_deck: dict[Quarterdeck, Streams] = {}


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
