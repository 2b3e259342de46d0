"""What a killed DVC leaves: the files are DVC's own, the processes are real."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.corpus.leftovers import remove_leftovers
from core.errors import SourceUnavailable


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that goes on."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def hold(lock: Path, pid: int, *, command: str = "dvc repro") -> None:
    """Write an entry for reading and one for writing, as DVC does."""
    entry = {"pid": pid, "cmd": command}
    lock.write_text(json.dumps({"write": {"/r/out": entry}, "read": {"/r/dep": [entry]}}))


def test_what_runs_keeps_its_lock(lock: Path, sleeper: int, tmp_path: Path) -> None:
    hold(lock, sleeper)
    before = lock.read_text()
    assert remove_leftovers(tmp_path) == ()
    assert lock.read_text() == before


def test_a_process_that_is_gone_holds_nothing(lock: Path, tmp_path: Path, sleeper: int) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    hold(lock, done.pid)
    held = json.loads(lock.read_text())
    held["read"]["/r/dep"].append({"pid": sleeper, "cmd": "dvc push"})
    lock.write_text(json.dumps(held))
    assert remove_leftovers(tmp_path) == ("dvc repro",)
    assert json.loads(lock.read_text()) == {"write": {}, "read": {"/r/dep": [{"pid": sleeper, "cmd": "dvc push"}]}}


def test_a_process_that_ended_unnoticed_holds_nothing(lock: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a number
        hold(lock, ended.pid)
        assert remove_leftovers(tmp_path) == ("dvc repro",)


def test_another_program_of_the_same_number_holds_nothing(lock: Path, tmp_path: Path, sleeper: int) -> None:
    hold(lock, sleeper)
    long_ago = time.time() - 3_600
    os.utime(lock, (long_ago, long_ago))
    assert remove_leftovers(tmp_path) == ("dvc repro",)


@pytest.mark.parametrize("body", ["", '{"write": {"/r/out', "[]", '{"write": {"/r/out": {"cmd": "dvc"}}}'])
def test_half_a_file_is_removed(body: str, lock: Path, tmp_path: Path) -> None:
    lock.write_text(body)
    assert remove_leftovers(tmp_path) == ("a DVC process killed while writing its lock",)
    assert not lock.exists()


def test_a_repository_without_a_lock_has_nothing_left(tmp_path: Path) -> None:
    assert remove_leftovers(tmp_path) == ()


@pytest.mark.deep
@pytest.mark.slow
def test_a_file_that_is_just_being_written_is_left_alone(lock: Path, tmp_path: Path) -> None:
    lock.write_text("")
    with lock.with_name("rwlock.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        with pytest.raises(SourceUnavailable, match="another DVC process is running in this repository"):
            remove_leftovers(tmp_path)
    assert lock.exists()
