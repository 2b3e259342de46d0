"""Shell: computes values in a thread of this process, so that no page waits for them: stale while it revalidates."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from core.errors import QuarterdeckError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
_MOST_KEPT = 20


@dataclass(frozen=True, slots=True)
class LookedUp(Generic[Value]):
    """The last value, None until there is one; `problem` says in one line why the last attempt failed."""

    value: Value | None = None
    is_running: bool = False
    problem: str = ""


class Lookup(Generic[Key, Value]):
    """One value for each key, computed on demand in the background, one at a time, again once it is `lasts_s` old.

    Keeps the values of the 20 keys that were used last.
    """

    def __init__(
        self, compute: Callable[[Key], Value], *, lasts_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._compute, self._lasts_s, self._clock = compute, lasts_s, clock
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._known: OrderedDict[Key, tuple[float, LookedUp[Value]]] = OrderedDict()
        self._running: dict[Key, threading.Thread] = {}

    def get(self, key: Key) -> LookedUp[Value]:
        """Return the last value at once, and start to compute a new one where there is none or it is old."""
        with self._lock:
            nothing: LookedUp[Value] = LookedUp()
            at, known = self._known.get(key, (float("-inf"), nothing))
            if key in self._known:
                self._known.move_to_end(key)
            if key not in self._running and self._clock() - at >= self._lasts_s:
                thread = threading.Thread(target=self._run, args=(key,), name="quarterdeck-lookup", daemon=True)
                self._running[key] = thread
                thread.start()
            return LookedUp(known.value, key in self._running, known.problem)

    def forget(self) -> None:
        """Drop every value; one that is being computed now is dropped too."""
        with self._lock:
            self._known.clear()
            self._running.clear()

    def wait(self, key: Key, timeout_s: float) -> LookedUp[Value]:
        """Return the value once it is computed, or what there is after `timeout_s`."""
        self.get(key)
        with self._lock:
            thread = self._running.get(key)
        if thread is not None:
            thread.join(timeout_s)
        return self.get(key)

    def _run(self, key: Key) -> None:
        with self._turn:
            try:
                found: LookedUp[Value] = LookedUp(self._compute(key))
            except QuarterdeckError as error:
                found = LookedUp(None, problem=str(error))
        with self._lock:
            if self._running.get(key) is not threading.current_thread():
                return  # it was forgotten meanwhile
            del self._running[key]
            former = self._known.get(key)
            kept = former[1].value if found.problem and former else found.value
            self._known[key] = (self._clock(), LookedUp(kept, problem=found.problem))
            while len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
