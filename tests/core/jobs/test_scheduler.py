"""Only one of several servers acts: the lease with clocks that a test moves, the scheduler also with real processes."""

import os
import signal
import subprocess
import sys
import threading
from itertools import pairwise

import pytest
from sqlalchemy import text

from app.http.server import list_jobs
from core.config import PROJECT, load_config
from core.errors import SourceUnavailable
from core.jobs.leases import Lease, get_holder
from core.jobs.scheduler import LEASE, PeriodicJob, Scheduler
from quarterdeck.store import Store
from tests.backends import make_url

BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.slow))


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def compete(store, clock, *, count=2):
    return tuple(Lease(store, "work", lasts_s=15, clock=clock) for _ in range(count))


@pytest.mark.parametrize("backend", BOTH)
def test_the_second_candidate_waits_until_the_first_has_not_renewed_for_as_long_as_the_lease_lasts(
    backend, tmp_path, clock
):
    store = Store(make_url(backend, tmp_path), create=True)
    first, second = compete(store, clock)
    assert (first.keep(), second.keep()) == (True, False)
    for _ in range(10):
        clock.now += 6
        assert (first.keep(), second.keep()) == (True, False)
    clock.now += 14
    assert second.keep() is False
    clock.now += 1
    assert (first.is_held, second.keep()) == (False, True)
    assert first.keep() is False
    store.close()


def test_a_lease_that_was_given_back_is_free_at_once(store, clock):
    first, second = compete(store, clock)
    first.keep()
    second.give_back()
    assert second.keep() is False
    assert get_holder(store, "work").name == first.holder
    first.give_back()
    assert (first.is_held, get_holder(store, "work")) == (False, None)
    assert second.keep() is True


@pytest.mark.parametrize("jump_ms", [-3_600_000, 3_600_000])
def test_a_wall_clock_that_jumps_gives_nobody_the_lease_and_takes_it_from_nobody(store, clock, jump_ms, monkeypatch):
    first, second = compete(store, clock)
    first.keep()
    second.keep()
    monkeypatch.setattr("core.jobs.leases.now_ms", lambda: 1_700_000_000_000 + jump_ms)
    clock.now += 6
    assert (first.keep(), second.keep()) == (True, False)
    clock.now += 15
    assert second.keep() is True


def test_a_holder_that_stood_still_knows_that_it_lost_the_lease_before_it_asks(store, clock):
    first, second = compete(store, clock)
    first.keep()
    second.keep()
    clock.now += 15
    assert first.is_held is False
    assert second.keep() is True
    assert first.keep() is False


def test_a_holder_keeps_the_lease_until_it_runs_out_while_the_store_does_not_answer(store, clock, monkeypatch):
    first, _ = compete(store, clock)
    first.keep()
    monkeypatch.setattr(store, "read", lambda: 1 / 0)
    clock.now += 14
    with pytest.raises(ZeroDivisionError):
        first.keep()
    assert first.is_held is True
    clock.now += 1
    assert first.is_held is False


@pytest.mark.parametrize("backend", BOTH)
def test_of_many_that_ask_at_the_same_moment_one_gets_the_lease(backend, tmp_path, clock):
    store = Store(make_url(backend, tmp_path), create=True)
    with store.begin():
        pass
    for _ in range(5):
        candidates, gate = compete(store, clock, count=4), threading.Barrier(4)
        won = []

        def ask(candidate, gate=gate, won=won):
            gate.wait()
            if candidate.keep():
                won.append(candidate)

        threads = [threading.Thread(target=ask, args=(candidate,)) for candidate in candidates]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].give_back()
    store.close()


def schedule(store, clock, *jobs):
    return Scheduler(store, jobs, clock=clock)


def look(scheduler):
    scheduler.look()
    assert scheduler.wait(60)


def test_each_job_runs_as_often_as_it_asks_to(store, clock):
    runs = []
    jobs = (
        PeriodicJob("often", 1, lambda: runs.append("often")),
        PeriodicJob("seldom", 60, lambda: runs.append("seldom")),
    )
    scheduler = schedule(store, clock, *jobs)
    for _ in range(60):
        look(scheduler)
        clock.now += 1
    assert (runs.count("often"), runs.count("seldom")) == (60, 1)
    look(scheduler)
    assert runs.count("seldom") == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (SourceUnavailable("the store is away.\nmore"), "job bad failed: the store is away."),
        (KeyError("x"), "job bad failed: KeyError: 'x'"),
        (ValueError(), "job bad failed: ValueError: no message"),
    ],
)
def test_a_job_that_fails_is_one_line_and_stops_no_other(store, clock, caplog, error, line):
    runs = []

    def fail():
        raise error

    scheduler = schedule(store, clock, PeriodicJob("bad", 1, fail), PeriodicJob("good", 1, lambda: runs.append(1)))
    for _ in range(2):
        look(scheduler)
        clock.now += 1
    assert [record.getMessage() for record in caplog.records] == [line, line]
    assert len(runs) == 2


def test_a_job_that_takes_long_delays_no_other_and_is_not_started_twice(store, clock):
    runs, release = [], threading.Event()

    def take_long():
        runs.append("long")
        assert release.wait(60)

    scheduler = schedule(
        store, clock, PeriodicJob("long", 1, take_long), PeriodicJob("short", 1, lambda: runs.append("short"))
    )
    for _ in range(3):
        scheduler.look()
        clock.now += 1
    while runs.count("short") < 3:
        scheduler.look()
    assert runs.count("long") == 1
    release.set()
    assert scheduler.wait(60)
    scheduler.look()
    assert scheduler.wait(60)
    assert runs.count("long") == 2


def test_of_two_schedulers_on_one_store_only_the_leader_runs_jobs_and_the_other_takes_over_when_it_is_gone(
    store, clock
):
    runs = []
    first, second = (
        schedule(store, clock, PeriodicJob("work", 1, lambda name=name: runs.append(name))) for name in "ab"
    )
    for _ in range(20):
        look(first)
        look(second)
        clock.now += 1
    assert runs == ["a"] * 20
    for _ in range(16):
        look(second)
        clock.now += 1
    assert runs[20:] == ["b"] * len(runs[20:])
    assert len(runs) > 20


def test_a_store_that_cannot_be_read_is_one_line_and_not_one_a_second(tmp_path, clock, caplog):
    missing = Store(f"sqlite:///{tmp_path / 'nowhere.db'}")
    runs = []
    scheduler = schedule(missing, clock, PeriodicJob("work", 1, lambda: runs.append(1)))
    for _ in range(5):
        look(scheduler)
        clock.now += 1
    assert len(caplog.records) == 1
    assert "nowhere.db" in caplog.records[0].getMessage()
    assert runs == []


def test_the_server_watches_over_drift(store, url, tmp_path):
    jobs = list_jobs(load_config({"QUARTERDECK_HOME": str(tmp_path), "QUARTERDECK_DATABASE_URL": url}), store)
    assert ("alerts", 60) in {(job.name, job.every_s) for job in jobs}
    for job in jobs:
        job.run()


# Each process notes in a table when it acts; the lease lasts long enough for a busy machine.
ACT = """
import sys, threading
from sqlalchemy import text
from core.jobs.scheduler import PeriodicJob, Scheduler
from quarterdeck.store import Store

store, name = Store(sys.argv[1]), sys.argv[2]

def act():
    with store.begin() as connection:
        connection.execute(text("INSERT INTO acts (who) VALUES (:who)"), {"who": name})

print("ready", flush=True)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
Scheduler(store, [PeriodicJob("act", 0.05, act)], lasts_s=6).run(stop, look_every_s=0.05)
"""


def start(url: str, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", ACT, url, name],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(store: Store, count: int) -> list[str]:
    """Who acted, in order, once there are `count` acts."""
    for _ in range(1_200):
        with store.read() as connection:
            acts = [row.who for row in connection.execute(text("SELECT who FROM acts ORDER BY id"))]
        if len(acts) >= count:
            return acts
        threading.Event().wait(0.05)
    pytest.fail(f"only {len(acts)} acts in a minute")


@pytest.mark.deep
@pytest.mark.slow
def test_of_two_processes_one_acts_and_the_other_goes_on_when_it_is_killed(store, url):
    with store.begin() as connection:
        kind = "INTEGER" if store.dialect == "sqlite" else "SERIAL"
        connection.execute(text(f"CREATE TABLE acts (id {kind} PRIMARY KEY, who TEXT)"))
    processes = {name: start(url, name) for name in "ab"}
    try:
        acts = wait_for(store, 10)
        leader = acts[0]
        assert set(acts) == {leader}
        other = processes["b" if leader == "a" else "a"]
        processes[leader].send_signal(signal.SIGKILL)
        processes[leader].wait(60)
        acts = wait_for(store, len(acts) + 10)
        changes = sum(one != two for one, two in pairwise(acts))
        assert changes == 1
        other.communicate("stop\n", timeout=60)
        assert get_holder(store, LEASE) is None
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
