"""Gateway to what runs a colour's release: a process of this machine, or Docker Compose.

Whether a colour runs is asked of the system, never of a note that a killed deployer may have left: a process holds a
lock that ends with it, and Compose is asked.
"""

import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from core.colours import Colour
from core.errors import Conflict, SourceUnavailable
from core.inheritance import USUAL_UMASK, inherit
from core.scrubbing import list_secrets, scrub
from core.services import DriverKind, Service

STOP_S = 20.0
_PAUSE_S = 0.05
_PID_S = 10.0
_COMPOSE_S = 600.0
_LOG_LINES = 5

# The outer shell ends at once and leaves the inner one to init, so that nobody has to wait for it. The inner one notes
# its process id, and becomes the service.
_DETACH = '/bin/sh -c "$0" "$@" &'
_BECOME = 'echo "$$" > "$0.new" && mv "$0.new" "$0" && exec "$@"'


class Driver(Protocol):
    """Brings releases of one service up and down, a colour each."""

    def start(self, colour: Colour, release: str) -> None:
        """Have the release run in the colour: one that runs stays, another is stopped first."""

    def stop(self, colour: Colour) -> None:
        """Have nothing run in the colour."""

    def get_release(self, colour: Colour) -> str | None:
        """Return the release that runs in the colour, None when nothing does."""

    def count_connections(self, colour: Colour) -> int | None:
        """Return how many clients the colour serves now, None when that is not known."""

    def read_log(self, colour: Colour) -> str:
        """Return the last lines that the release wrote."""


def make_driver(service: Service, folder: Path) -> Driver:
    """Return the driver that the service asks for; it keeps its notes in `folder`."""
    return ProcessDriver(service, folder) if service.driver is DriverKind.PROCESS else ComposeDriver(service, folder)


class ProcessDriver:
    """A release is a process in a session of its own; its output goes to a file.

    The process inherits a locked file: the lock is free when it and all its heirs are gone, however they ended.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._folder = folder

    def start(self, colour: Colour, release: str) -> None:
        """See Driver. Raises Conflict when another program has the port, SourceUnavailable when nothing can be run."""
        folder = self._folder / colour
        folder.mkdir(parents=True, exist_ok=True)
        if self.get_release(colour) == release:
            return
        self.stop(colour)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(lock)
            _require_free(self._service.find(colour))
            (folder / "pid").unlink(missing_ok=True)
            _note(folder / "release", release)
            self._launch(colour, release, lock)
        finally:
            os.close(lock)

    def stop(self, colour: Colour) -> None:
        """See Driver: SIGTERM, and SIGKILL for its session when that was not enough."""
        if not self._is_running(colour):
            return
        pid = self._wait_for_pid(colour)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            if not self._wait_until_gone(colour, STOP_S):
                os.killpg(os.getpgid(pid), signal.SIGKILL)
        if not self._wait_until_gone(colour, STOP_S):
            raise SourceUnavailable(f"{self._service.name}: {colour} (process {pid}) does not end")

    def get_release(self, colour: Colour) -> str | None:
        """See Driver."""
        if not self._is_running(colour):
            return None
        return _read_note(self._folder / colour / "release")

    def count_connections(self, colour: Colour) -> int | None:
        """See Driver: established connections to the colour's port, of the process and its children."""
        import psutil

        if not self._is_running(colour):
            return 0
        port = int(self._service.find(colour).rpartition(":")[2])
        found = 0
        with suppress(psutil.Error):
            process = psutil.Process(self._wait_for_pid(colour))
            for each in (process, *process.children(recursive=True)):
                for connection in each.net_connections("tcp"):
                    if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port:
                        found += 1
        return found

    def read_log(self, colour: Colour) -> str:
        """See Driver."""
        try:
            lines = (self._folder / colour / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return scrub("\n".join(lines[-_LOG_LINES:]), list_secrets(os.environ))

    def _launch(self, colour: Colour, release: str, lock: int) -> None:
        values = _values(self._service, colour, release)
        command = [_fill(word, values) for word in self._service.command]
        folder = self._folder / colour
        with (folder / "log").open("wb") as log:
            try:
                subprocess.run(
                    ["/bin/sh", "-c", _DETACH, _BECOME, str(folder / "pid"), *command],
                    cwd=self._service.directory, env=_environment(self._service, values), stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, pass_fds=[lock], start_new_session=True, check=True, umask=USUAL_UMASK,
                )  # fmt: skip
            except (OSError, subprocess.CalledProcessError) as error:
                raise SourceUnavailable(f"{self._service.name}: {colour} could not be started: {error}") from error

    def _is_running(self, colour: Colour) -> bool:
        try:
            handle = os.open(self._folder / colour / "lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def _wait_for_pid(self, colour: Colour) -> int:
        ends = time.monotonic() + _PID_S
        while time.monotonic() < ends:
            if noted := _read_note(self._folder / colour / "pid"):
                return int(noted)
            time.sleep(_PAUSE_S)
        raise SourceUnavailable(f"{self._service.name}: {colour} runs, but {self._folder / colour / 'pid'} is missing")

    def _wait_until_gone(self, colour: Colour, seconds: float) -> bool:
        ends = time.monotonic() + seconds
        while self._is_running(colour):
            if time.monotonic() > ends:
                return False
            time.sleep(_PAUSE_S)
        return True


class ComposeDriver:
    """A release is a Compose project named `<service>-<colour>`; the file finds RELEASE, COLOUR and PORT set."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._folder = folder

    def start(self, colour: Colour, release: str) -> None:
        """See Driver. Raises SourceUnavailable with what Compose says."""
        if self.get_release(colour) not in (release, None):
            self.stop(colour)
        (self._folder / colour).mkdir(parents=True, exist_ok=True)
        _note(self._folder / colour / "release", release)
        self._compose(colour, "up", "--detach", "--remove-orphans")

    def stop(self, colour: Colour) -> None:
        """See Driver: the containers get SIGTERM, and their file's grace period."""
        self._compose(colour, "down", "--remove-orphans")

    def get_release(self, colour: Colour) -> str | None:
        """See Driver. The note is written only while nothing else runs, so that it holds for what does."""
        if not self._compose(colour, "ps", "--quiet", "--status", "running").strip():
            return None
        return _read_note(self._folder / colour / "release")

    def count_connections(self, colour: Colour) -> int | None:  # noqa: ARG002 - Compose does not tell
        """See Driver: not known, the containers' own grace period has to do."""
        return None

    def read_log(self, colour: Colour) -> str:
        """See Driver."""
        with suppress(SourceUnavailable):
            said = self._compose(colour, "logs", "--no-color", "--tail", str(_LOG_LINES)).strip()
            return scrub(said, list_secrets(os.environ))
        return ""

    def _compose(self, colour: Colour, *arguments: str) -> str:
        values = _values(self._service, colour, _read_note(self._folder / colour / "release") or "")
        command = [*self._service.command, "--project-name", f"{self._service.name}-{colour}", *arguments]
        said = f"`{' '.join(command)}` failed"
        try:
            done = subprocess.run(
                command, cwd=self._service.directory, env=_environment(self._service, values), capture_output=True,
                text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=_COMPOSE_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceUnavailable(f"{said}: {getattr(error, 'strerror', None) or 'no end within 10 min'}") from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise SourceUnavailable(f"{said}: {lines[-1] if lines else f'exit code {done.returncode}'}")
        return done.stdout


def _values(service: Service, colour: Colour, release: str) -> dict[str, str]:
    host, _, port = service.find(colour).rpartition(":")
    return {"release": release, "colour": str(colour), "host": host.strip("[]"), "port": port}


def _fill(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _environment(service: Service, values: Mapping[str, str]) -> dict[str, str]:
    given = {name.upper(): values[name] for name in ("release", "colour", "port")}
    return {**inherit(os.environ), **given, "SERVICE": service.name}


def _lock(handle: int) -> None:
    """Take the lock of a colour in which nothing runs; somebody who just looks holds it for no time."""
    ends = time.monotonic() + STOP_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > ends:
                raise Conflict("another deployer starts this colour at the same time") from error
            time.sleep(_PAUSE_S)


def _require_free(address: str) -> None:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise Conflict(f"port {address} is taken by another program: {error.strerror}") from error


def _note(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _read_note(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
