"""Gateway to background programs: started by a page, visible to all, one of a kind at a time.

A job is a process group of its own, so it outlives the page and the server that started it. It holds a file lock until
its last process ends, however that happens; its output goes to a file. POSIX only.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from core.errors import Conflict, SourceUnavailable
from core.jobs.alone import is_locked, take_lock
from core.safety.boundary import refuse_links
from core.safety.inheritance import USUAL_UMASK, inherit
from core.safety.scrubbing import list_secrets, scrub

_RUN = 'log=$1; shift; "$@"; echo $? > "$log.part" && mv "$log.part" "$log"'
_FILES = ("job.json", "lock", "log", "exit", "cancelled", "pid")
_TAIL_BYTES = 64_000
_PATIENCE_S = 5.0
_CHECK_S = 0.2  # longer than whoever looks at a lock holds it
_PROGRESS = re.compile(r"^progress: (\w{1,60}) (\d{1,15}) of (\d{1,15})$")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class JobState(StrEnum):
    """The state of a job. `cut off`: its processes ended without a result, because of a kill or a machine stop."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CUT_OFF = "cut off"


@dataclass(frozen=True, slots=True)
class JobStep:
    """A job's progress: `done` of `total` in the named step."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Job:
    """The last job of a kind: its subject, who started it, its state, and the last line that it printed."""

    kind: str
    subject: str
    actor: str
    started: datetime
    state: JobState
    ended: datetime | None
    step: JobStep | None
    last_line: str


class Jobs:
    """The jobs of one folder, which is created with the first job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(
        self,
        kind: str,
        command: Sequence[str],
        *,
        subject: str,
        actor: str,
        folder: Path | None = None,
        environ: Mapping[str, str] | None = None,
        umask: int = USUAL_UMASK,
    ) -> Job:
        """Run a command in the background, in `folder`. Raises Conflict while a job of the same kind runs.

        It inherits what `inheritance.inherit` lets through, and has `environ` besides.
        Raises SourceUnavailable if the jobs' folder is not writable or the command cannot be run.
        """
        place = self._place(kind)
        with _explained(place):
            place.mkdir(parents=True, exist_ok=True)
            lock = take_lock(place / "lock", patience_s=_CHECK_S)
            if lock is None:
                raise _runs_already(self.find(kind), kind)
            try:
                for name in ("exit", "cancelled", "pid"):
                    (place / name).unlink(missing_ok=True)
                about = {"subject": subject, "actor": actor, "started": datetime.now(UTC).isoformat()}
                _write(place / "job.json", json.dumps(about))
                process = _spawn(command, place, lock, folder, inherit(os.environ) | dict(environ or {}), umask)
                _write(place / "pid", str(process.pid))
            finally:
                os.close(lock)  # the job has its own descriptor
        threading.Thread(target=process.wait, name=f"quarterdeck-job-{kind}", daemon=True).start()
        found = self.find(kind)
        assert found
        return found

    def check_free(self, kind: str) -> None:
        """Raise Conflict while a job of that kind runs, as `start` would."""
        found = self.find(kind)
        if found and found.state is JobState.RUNNING:
            raise _runs_already(found, kind)

    def find(self, kind: str) -> Job | None:
        """Return the running or last job of that kind, or None. Raises SourceUnavailable."""
        place = self._place(kind)
        with _explained(place):
            if not (place / "job.json").is_file():
                return None
            about = json.loads((place / "job.json").read_text())
            state = _state_of(place)
            lines = _tail(place / "log").splitlines()
            ended = None if state is JobState.RUNNING else _last_touched(place)
        step = next((found for found in map(_read_step, reversed(lines)) if found), None)
        last = next((line for line in reversed(lines) if line.strip() and not _PROGRESS.match(line)), "")
        return Job(
            kind, about["subject"], about["actor"], datetime.fromisoformat(about["started"]), state, ended, step,
            " ".join(last.split()),
        )  # fmt: skip

    def read_log(self, kind: str) -> str:
        """Return the end of what the job printed, without its lines of progress and secrets; "" for nothing."""
        place = self._place(kind)
        with _explained(place):
            lines = _tail(place / "log").splitlines()
        return "\n".join(line for line in lines if not _PROGRESS.match(line))

    def cancel(self, kind: str, *, patience_s: float = _PATIENCE_S) -> bool:
        """Stop the job and all its processes, by force if necessary; False if none runs."""
        place = self._place(kind)
        with _explained(place):
            if not (place / "job.json").is_file() or not is_locked(place / "lock"):
                return False
            _write(place / "cancelled", "")
            for number in (signal.SIGTERM, signal.SIGKILL):
                _signal(place, number)
                if _wait_until_free(place / "lock", patience_s):
                    return True
        raise SourceUnavailable(f"{kind} does not stop; its process group id is in {place / 'pid'}")

    def _place(self, kind: str) -> Path:
        """Return the folder of a kind. Raises SourceUnavailable for links in it: some lie in a repository of others."""
        place = self._folder / kind
        for name in _FILES:
            for each in (place / name, place / f"{name}.part"):
                refuse_links(self._folder, each)
        return place


def format_step(step: str, done: int, total: int) -> str:
    """Return the line by which a command reports its progress."""
    return f"progress: {step} {done} of {total}"


def _read_step(line: str) -> JobStep | None:
    found = _PROGRESS.match(line)
    return JobStep(found[1], int(found[2]), int(found[3])) if found else None


def _spawn(
    command: Sequence[str], place: Path, lock: int, folder: Path | None, environ: Mapping[str, str], umask: int
) -> "subprocess.Popen[bytes]":
    with (place / "log").open("wb") as log:
        return subprocess.Popen(
            ["/bin/sh", "-c", _RUN, "job", str(place / "exit"), *command],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
            umask=umask,
        )


def _state_of(place: Path) -> JobState:
    if is_locked(place / "lock"):
        return JobState.RUNNING
    code = (place / "exit").read_text().strip() if (place / "exit").is_file() else ""
    if code == "0":
        return JobState.DONE
    if (place / "cancelled").is_file():
        return JobState.CANCELLED
    return JobState.FAILED if code else JobState.CUT_OFF


def _wait_until_free(path: Path, patience_s: float) -> bool:
    end = time.monotonic() + patience_s
    while is_locked(path):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _signal(place: Path, number: int) -> None:
    """Signal the job's process group. While the lock is held, its number cannot be reused."""
    try:
        os.killpg(int((place / "pid").read_text()), number)
    except (ProcessLookupError, FileNotFoundError):
        return  # it ended by itself


def _tail(path: Path) -> str:
    """Return the end of a log as a terminal would show it, its secrets hidden: everybody who may look reads it."""
    if not path.is_file():
        return ""
    with path.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - _TAIL_BYTES))
        text = log.read().decode("utf-8", "replace")
    if size > _TAIL_BYTES:
        text = text.partition("\n")[2]
    shown = "\n".join(_ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in text.split("\n"))
    return scrub(shown, list_secrets(os.environ))


def _last_touched(place: Path) -> datetime:
    names = [place / name for name in ("exit", "cancelled", "log", "job.json")]
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in names if path.exists()), UTC)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(text)
    partial.replace(path)


def _runs_already(job: Job | None, kind: str) -> Conflict:
    name = f"{kind} of {job.subject}, started by {job.actor}," if job else kind
    return Conflict(f"{name} is already running; wait for it, or cancel it")


@contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceUnavailable(f"jobs in {place}: {error.strerror or error}") from error
    except (json.JSONDecodeError, KeyError) as error:
        raise SourceUnavailable(f"jobs in {place}: job.json cannot be read ({error}); remove the folder") from error
