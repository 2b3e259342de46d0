"""Group commit: what concurrent requests bring is stored in one transaction, and each is answered when it is durable.

While a transaction is under way, the next requests gather. `core.intake.deliveries` stores them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from weakref import WeakKeyDictionary

from core.errors import SourceUnavailable
from core.intake.deliveries import Answer, Delivery, store_each
from quarterdeck.clock import to_ms
from quarterdeck.intake import Counted
from quarterdeck.store import Store

MOST_TOGETHER = 20_000  # rows of a transaction; a single larger request is stored by itself
MOST_WAITING = 100_000  # rows: a request beyond it is refused
QUIET_S, GATHERS_S = 0.002, 0.02  # a batch waits until no request came for so long, and at most so long
COUNTS_EVERY_S = 1.0  # how long counts may wait for rows to be stored with

logger = logging.getLogger("quarterdeck")

_Waiting = tuple[Delivery, "asyncio.Future[Answer]"]


class Batcher:
    """Stores the deliveries of one event loop in one store, by one writing thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[_Waiting] = deque()
        self._rows = self._wanted = 0
        self._enough: asyncio.Future[None] | None = None
        self._counts: dict[Counted, tuple[int, str]] = {}
        self._is_due = False
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "quarterdeck-writer")

    async def store(self, delivery: Delivery) -> Answer:
        """Return the answer to a delivery once it is durable. Raises what it failed with, such as SourceUnavailable."""
        if self._rows and self._rows + delivery.size > MOST_WAITING:
            raise SourceUnavailable("Too many rows wait to be stored; send this request again in a moment.")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, answer))
        self._rows += delivery.size
        if len(self._waiting) == self._wanted:
            self._go_on()
        self._start()
        return await answer

    def count(self, counts: Mapping[Counted, tuple[int, str]]) -> None:
        """Store counts with the next rows, or a second later."""
        for name, (n, example) in counts.items():
            known, first = self._counts.get(name, (0, ""))
            self._counts[name] = (known + n, first or example)
        if self._task is None and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(COUNTS_EVERY_S, self._start)

    def close(self) -> None:
        """Let the thread end after what it is doing."""
        self._thread.shutdown(wait=False)

    def _start(self) -> None:
        self._is_due = False
        if self._task is None and (self._waiting or self._counts):
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """Store what waits, batch by batch, until nothing does."""
        try:
            await asyncio.sleep(0)  # requests that have arrived already come along
            while self._waiting or self._counts:
                batch = self._take_batch()
                await self._write_batch(batch)
                await self._gather(len(batch) + len(self._waiting) if len(batch) > 1 else 0)
        finally:
            self._task = None
            self._start()

    async def _gather(self, wanted: int) -> None:
        """Wait for as many requests as there were while they keep coming: a larger batch costs hardly more."""
        loop = asyncio.get_running_loop()
        end, seen = loop.time() + GATHERS_S, -1
        while seen < len(self._waiting) < wanted and loop.time() < end:
            seen, self._wanted, self._enough = len(self._waiting), wanted, loop.create_future()
            quiet = loop.call_later(QUIET_S, self._go_on)
            await self._enough
            quiet.cancel()

    def _go_on(self) -> None:
        if self._enough is not None and not self._enough.done():
            self._enough.set_result(None)

    async def _write_batch(self, batch: list[_Waiting]) -> None:
        counts, self._counts = self._counts, {}
        deliveries = [delivery for delivery, _ in batch]
        if counts:
            deliveries.append(Delivery("", counts=counts))
        now_ms = to_ms(datetime.now(UTC))
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: store_each(self._store, deliveries, now_ms=now_ms)
            )
        except BaseException as error:
            for _, answer in batch:
                _settle(answer, error if isinstance(error, Exception) else SourceUnavailable("The server stops."))
            raise
        for (_, answer), settled in zip(batch, found, strict=False):
            _settle(answer, settled)
        if counts and isinstance(found[-1], Exception):
            logger.warning("counts of refused requests were not stored: %s", found[-1])

    def _take_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        rows = 0
        while self._waiting and (not batch or rows + self._waiting[0][0].size <= MOST_TOGETHER):
            batch.append(self._waiting.popleft())
            rows += batch[-1][0].size
        self._rows -= rows
        return batch


def batcher_of(store: Store) -> Batcher:
    """Return the batcher of a store for the running event loop."""
    loop = asyncio.get_running_loop()
    known = _batchers.get(store)
    if known is None:
        known = _batchers[store] = WeakKeyDictionary()
    found = known.get(loop)
    if found is None:
        found = known[loop] = Batcher(store)
    return found


def forget_batchers(store: Store) -> None:
    """Let the threads that write to a store end."""
    for batcher in (_batchers.pop(store, None) or {}).values():
        batcher.close()


_batchers: "WeakKeyDictionary[Store, WeakKeyDictionary[asyncio.AbstractEventLoop, Batcher]]" = WeakKeyDictionary()


def _settle(answer: "asyncio.Future[Answer]", settled: Answer | Exception) -> None:
    if answer.done():
        return  # its request is gone
    if isinstance(settled, Exception):
        answer.set_exception(_copy(settled))
    else:
        answer.set_result(settled)


def _copy(error: Exception) -> Exception:
    """Return an error of its own for each request: raising one adds to its traceback."""
    return type(error)(str(error)) if type(error) is SourceUnavailable else error
