"""Jobs are real processes here; tests wait for events, not for a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.config import PROJECT
from core.errors import Conflict, SourceUnavailable
from core.jobs.jobs import Job, Jobs, JobState, JobStep, format_step

pytestmark = pytest.mark.slow
SLEEP = ["/bin/sh", "-c", "echo begun; sleep 300"]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path / "jobs")
    yield made
    for kind in ("build", "other"):
        made.cancel(kind)


def start(jobs: Jobs, command: list[str], kind: str = "build", **options: object) -> Job:
    return jobs.start(kind, command, subject="v2", actor="ada", **options)  # type: ignore[arg-type]


def until(condition: Callable[[], object]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to that within 30 s")


def ended(jobs: Jobs, kind: str = "build") -> Job:
    until(lambda: (found := jobs.find(kind)) and found.state is not JobState.RUNNING)
    job = jobs.find(kind)
    assert job
    return job


def test_before_the_first_job_there_is_none(jobs: Jobs) -> None:
    assert jobs.find("build") is None
    assert jobs.read_log("build") == ""
    assert not jobs.cancel("build")


def test_a_job_runs_where_and_with_what_it_is_told_and_its_end_is_known(jobs: Jobs, tmp_path: Path) -> None:
    job = start(jobs, ["/bin/sh", "-c", 'pwd; echo "$GREETING" >&2'], folder=tmp_path, environ={"GREETING": "hello"})
    assert (job.kind, job.subject, job.actor) == ("build", "v2", "ada")
    job = ended(jobs)
    assert (job.state, job.last_line) == (JobState.DONE, "hello")
    assert job.ended and job.ended >= job.started.replace(microsecond=0)
    assert jobs.read_log("build").splitlines() == [str(tmp_path), "hello"]


def test_a_command_that_fails_and_one_that_is_not_there_are_failures_with_a_line(jobs: Jobs) -> None:
    start(jobs, ["/bin/sh", "-c", "echo no disk; exit 3"])
    assert (ended(jobs).state, ended(jobs).last_line) == (JobState.FAILED, "no disk")
    start(jobs, ["/no/such/program"])
    assert ended(jobs).state is JobState.FAILED
    assert "/no/such/program" in ended(jobs).last_line


@pytest.mark.deep
def test_there_are_never_two_of_a_kind(jobs: Jobs, tmp_path: Path) -> None:
    start(jobs, SLEEP)
    with pytest.raises(Conflict, match="build of v2, started by ada, is already running; wait for it, or cancel it"):
        start(jobs, SLEEP)
    assert start(jobs, SLEEP, kind="other").state is JobState.RUNNING
    script = (
        "import sys; from pathlib import Path; from core.jobs.jobs import Jobs\n"
        "Jobs(Path(sys.argv[1])).start('build', ['true'], subject='v3', actor='bob')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "jobs")],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Conflict: build of v2, started by ada, is already running" in done.stderr
    assert jobs.cancel("build")
    assert start(jobs, SLEEP).state is JobState.RUNNING


@pytest.mark.deep
def test_of_many_starters_at_once_one_wins(jobs: Jobs, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from core.jobs.jobs import Jobs\n"
        "try: Jobs(Path(sys.argv[1])).start('build', ['sleep', '300'], subject='v3', actor='bob'); print('won')\n"
        "except Exception as error: print(type(error).__name__)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "jobs")],
            cwd=PROJECT, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    said = sorted(racer.communicate()[0].strip() for racer in racers)
    assert said == ["Conflict", "Conflict", "Conflict", "won"]


def test_a_job_outlives_the_process_that_started_it(jobs: Jobs, tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from core.jobs.jobs import Jobs\n"
        "Jobs(Path(sys.argv[1])).start('build', ['/bin/sh', '-c', sys.argv[2]], subject='v3', actor='bob')\n"
        "os.kill(os.getpid(), 9)"
    )
    wait = f"while [ ! -e {tmp_path / 'go'} ]; do sleep 0.05; done; echo finished"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "jobs"), wait], cwd=PROJECT, check=False)
    job = jobs.find("build")
    assert job and job.state is JobState.RUNNING
    (tmp_path / "go").touch()
    assert (ended(jobs).state, ended(jobs).last_line) == (JobState.DONE, "finished")


def test_cancelling_ends_every_process_of_the_job(jobs: Jobs, tmp_path: Path) -> None:
    start(jobs, ["/bin/sh", "-c", f"sleep 301 & echo $! > {tmp_path / 'child'}; wait"])
    until(lambda: (tmp_path / "child").is_file() and (tmp_path / "child").read_text().strip())
    assert jobs.cancel("build")
    assert ended(jobs).state is JobState.CANCELLED
    child = int((tmp_path / "child").read_text())
    until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])
    assert not jobs.cancel("build")


def test_a_job_that_does_not_listen_is_ended_by_force(jobs: Jobs) -> None:
    start(jobs, ["/bin/sh", "-c", "trap '' TERM; echo deaf; while true; do sleep 0.1; done"])
    until(lambda: "deaf" in jobs.read_log("build"))
    assert jobs.cancel("build", patience_s=0.3)
    assert ended(jobs).state is JobState.CANCELLED


def test_a_job_that_was_killed_was_cut_off(jobs: Jobs, tmp_path: Path) -> None:
    start(jobs, SLEEP)
    until(lambda: "begun" in jobs.read_log("build"))
    os.killpg(int((tmp_path / "jobs" / "build" / "pid").read_text()), signal.SIGKILL)
    assert ended(jobs).state is JobState.CUT_OFF


def test_the_log_is_what_a_terminal_would_show_and_progress_is_read_from_it(jobs: Jobs) -> None:
    steps = format_step("embed", 3, 9), format_step("write", 1, 2)
    said = f"\\033[31mred\\033[0m\\n 10%%\\r 50%%\\r100%%\\n{steps[0]}\\nlast\\n\\n{steps[1]}\\n"
    start(jobs, ["/bin/sh", "-c", f"printf '{said}'"])
    job = ended(jobs)
    assert jobs.read_log("build").splitlines() == ["red", "100%", "last"]
    assert (job.step, job.last_line) == (JobStep("write", 1, 2), "last")


def test_of_a_long_log_the_end_is_read(jobs: Jobs) -> None:
    start(jobs, ["/bin/sh", "-c", "seq 1 100000"])
    ended(jobs)
    lines = jobs.read_log("build").splitlines()
    assert lines[-1] == "100000"
    assert 5_000 < len(lines) < 20_000
    assert [int(line) for line in lines[:2]] == [int(lines[0]), int(lines[0]) + 1]


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceUnavailable, match="jobs in .*file/build: Not a directory"):
        start(Jobs(tmp_path / "file"), SLEEP)
    broken = Jobs(tmp_path / "jobs")
    (tmp_path / "jobs" / "build").mkdir(parents=True)
    (tmp_path / "jobs" / "build" / "job.json").write_text("{")
    with pytest.raises(SourceUnavailable, match=r"job\.json cannot be read .*; remove the folder"):
        broken.find("build")
