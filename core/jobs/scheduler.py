"""Shell: runs periodic jobs. When several servers share a store, one (the lease holder) runs them.

Each subject's module says what a job does; the server says which jobs there are.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.errors import QuarterdeckError
from core.jobs.leases import Clock, Lease
from quarterdeck.store import Store

LEASE = "scheduler"
LOOK_EVERY_S = 1.0
END_WITHIN_S = 3.0
logger = logging.getLogger("quarterdeck")


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """Something to run every `every_s` seconds. A job that is still running is not started a second time."""

    name: str
    every_s: float
    run: Callable[[], object]


class Scheduler:
    """Runs jobs while it holds the scheduler's lease, each in a thread of its own, so that a slow one delays nobody.

    Another server may take over while a job of ours still runs, if ours was stopped for longer than the lease lasts:
    a job changes stored state by versions only, so that of two that act at once one gets a Conflict.
    """

    def __init__(
        self,
        store: Store,
        jobs: Sequence[PeriodicJob],
        *,
        lease: str = LEASE,
        lasts_s: float = 15.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._jobs = tuple(jobs)
        self._clock = clock
        self._lease = Lease(store, lease, lasts_s=lasts_s, clock=clock)
        self._started: dict[str, float] = {}
        self._running: dict[str, threading.Thread] = {}
        self._last_problem = ""

    def run(self, stop: threading.Event, *, look_every_s: float = LOOK_EVERY_S) -> None:
        """Look for due jobs until `stop` is set; then let the next server have the lease as soon as they have ended."""
        while not stop.wait(look_every_s):
            self.look()
        if not self.wait(END_WITHIN_S):
            return
        try:
            self._lease.give_back()
        except QuarterdeckError as error:
            logger.warning("the scheduler's lease was not given back: %s", error)

    def look(self) -> None:
        """Keep or try to get the lease, and start every job that is due if it is held. Never raises."""
        try:
            is_leader = self._lease.keep()
            self._last_problem = ""
        except QuarterdeckError as error:
            self._complain_once(f"the scheduler cannot keep its lease: {error}")
            is_leader = self._lease.is_held
        for job in self._jobs if is_leader else ():
            if self._is_due(job) and self._lease.is_held:
                self._start(job)

    def wait(self, timeout_s: float) -> bool:
        """Wait until every job that was started has ended; return whether they have."""
        end = time.monotonic() + timeout_s
        for thread in self._running.values():
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._running.values())

    def _is_due(self, job: PeriodicJob) -> bool:
        running = self._running.get(job.name)
        if running is not None and running.is_alive():
            return False
        return self._clock() - self._started.get(job.name, float("-inf")) >= job.every_s

    def _start(self, job: PeriodicJob) -> None:
        self._started[job.name] = self._clock()
        thread = threading.Thread(target=_run, args=(job,), name=f"quarterdeck-{job.name}", daemon=True)
        self._running[job.name] = thread
        thread.start()

    def _complain_once(self, problem: str) -> None:
        if problem != self._last_problem:
            logger.warning("%s", problem)
        self._last_problem = problem


def _run(job: PeriodicJob) -> None:
    """Run a job, which may fail in any way: it is tried again when it is due again."""
    try:
        job.run()
    except Exception as error:
        said = str(error).strip().splitlines()
        kind = "" if isinstance(error, QuarterdeckError) else f"{type(error).__name__}: "
        logger.warning("job %s failed: %s%s", job.name, kind, said[0] if said else "no message")
        logger.debug("job %s", job.name, exc_info=error)
