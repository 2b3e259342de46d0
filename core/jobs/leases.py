"""Gateway to the leases of the shared store: leader election, so that one of several servers acts at a time.

No wall clock decides. The holder moves a counter, the beat. A waiting server takes over once the beat has stood still
for as long as the lease lasts, by its own monotonic clock. So clocks that jump or disagree never give the lease to two
servers, nor leave it with a dead one. The holder treats the lease as lost once `lasts_s` has passed since it started
its last successful renewal.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, text, update

from quarterdeck.clock import from_ms, now_ms
from quarterdeck.schema import leases
from quarterdeck.store import Store

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who held a lease last, and when it was renewed last, by the holder's wall clock: for people to read."""

    name: str
    renewed: datetime


def get_holder(store: Store, name: str) -> Holder | None:
    """Return who holds the lease of that name, or held it last; None when nobody did or it was given back."""
    with store.read() as connection:
        row = connection.execute(select(leases).where(leases.c.name == name)).mappings().first()
    return Holder(row["holder"], from_ms(row["renewed_ms"])) if row and row["holder"] else None


class Lease:
    """One candidate for the lease of a name. Each server makes its own, and calls `keep` again and again.

    `lasts_s` is the same for all candidates. A server that was stopped for longer than that and wakes up may still
    finish what it had begun: what it writes must expect a version, as every change of flags and settings does.
    """

    def __init__(self, store: Store, name: str, *, lasts_s: float = 15.0, clock: Clock = time.monotonic) -> None:
        self.name = name
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self.lasts_s = lasts_s
        self._store = store
        self._clock = clock
        self._held_until = float("-inf")
        self._seen: tuple[str, int] | None = None
        self._seen_at = 0.0

    @property
    def is_held(self) -> bool:
        """Whether this candidate may act now."""
        return self._clock() < self._held_until

    def keep(self) -> bool:
        """Renew the lease when a third of it is over, or take it when it is free; return whether it is held.

        Raises SourceUnavailable when the store does not answer; what was held stays held until it runs out.
        """
        began = self._clock()
        if self._held_until - began > self.lasts_s * 2 / 3:
            return True
        with self._store.read() as connection:
            row = connection.execute(select(leases).where(leases.c.name == self.name)).mappings().first()
        found = (str(row["holder"]), int(row["beat"])) if row else None
        if self._may_take(found, began) and self._write(found, self.holder):
            self._held_until = began + self.lasts_s
        else:
            self._held_until = float("-inf")
        return self.is_held

    def give_back(self) -> None:
        """Free the lease, if it is held, so that nobody has to wait until it runs out. Raises SourceUnavailable."""
        with self._store.read() as connection:
            row = connection.execute(select(leases).where(leases.c.name == self.name)).mappings().first()
        if row and row["holder"] == self.holder:
            self._held_until = float("-inf")
            self._write((row["holder"], row["beat"]), "")

    def _may_take(self, found: tuple[str, int] | None, now: float) -> bool:
        if found is None or found[0] in ("", self.holder):
            return True
        if found != self._seen:
            self._seen, self._seen_at = found, now
            return False
        return now - self._seen_at >= self.lasts_s

    def _write(self, found: tuple[str, int] | None, holder: str) -> bool:
        """Put `holder` and a new beat in the place of what was found; False when somebody else was faster."""
        with self._store.begin() as connection:
            if found is None:
                made = connection.execute(
                    text(
                        "INSERT INTO leases (name, holder, beat, renewed_ms) VALUES (:name, :holder, 1, :now) "
                        "ON CONFLICT (name) DO NOTHING"
                    ),
                    {"name": self.name, "holder": holder, "now": now_ms()},
                )
                return made.rowcount == 1
            was_found = (leases.c.name == self.name, leases.c.holder == found[0], leases.c.beat == found[1])
            values = {"holder": holder, "beat": found[1] + 1, "renewed_ms": now_ms()}
            return connection.execute(update(leases).where(*was_found).values(values)).rowcount == 1
