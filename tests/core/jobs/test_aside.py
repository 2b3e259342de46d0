"""Work in a process of its own: its answer, its errors in one line, and what happens when it is killed."""

import os
import signal

import pytest

from core.errors import NotFound, QuarterdeckError
from core.jobs.aside import NICENESS, run_aside


def tell_where() -> tuple[int, int]:
    return os.getpid(), os.nice(0)


def miss(name: str) -> None:
    raise NotFound(f"{name} is not there\nsecond line")


def divide() -> float:
    return 1 / 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.deep
def test_work_runs_elsewhere_at_a_lower_priority() -> None:
    pid, niceness = run_aside(tell_where)
    assert pid != os.getpid()
    assert niceness == min(19, os.nice(0) + NICENESS)


@pytest.mark.deep
def test_errors_arrive_in_one_line() -> None:
    with pytest.raises(QuarterdeckError, match=r"^it is not there$"):
        run_aside(miss, "it")
    with pytest.raises(QuarterdeckError, match="ZeroDivisionError"):
        run_aside(divide)


def test_a_killed_process_is_an_error() -> None:
    with pytest.raises(QuarterdeckError, match="ended with -9"):
        run_aside(die)
