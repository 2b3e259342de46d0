"""Gateway to what runs a color's release: a process on this machine, or Docker Compose.

It asks the system whether a color runs, never a note that a killed deployer may have left: a process holds a lock
that ends with it, and Compose is asked.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from core.deployments.colors import Color
from core.deployments.services import DriverKind, Service
from core.errors import Conflict, SourceUnavailable
from core.jobs.alone import is_locked, take_lock
from core.safety.inheritance import USUAL_UMASK, inherit
from core.safety.scrubbing import list_secrets, scrub

STOP_S = 20.0
_PAUSE_S = 0.05
_PID_S = 10.0
_COMPOSE_S = 600.0
_LOG_LINES = 5

# The outer shell exits at once and leaves the inner one to init, so nobody has to wait for it. The inner one records
# its process id and becomes the service.
_DETACH = '/bin/sh -c "$0" "$@" &'
_BECOME = 'echo "$$" > "$0.new" && mv "$0.new" "$0" && exec "$@"'


class Driver(Protocol):
    """Starts and stops releases of one service, one per color."""

    def start(self, color: Color, release: str) -> None:
        """Run the release in the color: keep it if it already runs, stop another one first."""

    def stop(self, color: Color) -> None:
        """Stop whatever runs in the color."""

    def get_release(self, color: Color) -> str | None:
        """Return the release that runs in the color, or None."""

    def count_connections(self, color: Color) -> int | None:
        """Return how many clients the color serves now, or None if unknown."""

    def read_log(self, color: Color) -> str:
        """Return the last lines of the release's output."""


def make_driver(service: Service, folder: Path) -> Driver:
    """Return the service's driver; it stores its state in `folder`."""
    return ProcessDriver(service, folder) if service.driver is DriverKind.PROCESS else ComposeDriver(service, folder)


class ProcessDriver:
    """A release is a process in its own session; its output goes to a file.

    The process inherits a locked file, so the lock is free when it and all its children are gone, however they ended.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._folder = folder

    def start(self, color: Color, release: str) -> None:
        """See Driver. Raises Conflict when another program uses the port, SourceUnavailable when nothing can be run."""
        folder = self._folder / color
        folder.mkdir(parents=True, exist_ok=True)
        if self.get_release(color) == release:
            return
        self.stop(color)
        lock = take_lock(folder / "lock", patience_s=STOP_S)
        if lock is None:
            raise Conflict("another deployer is starting this color")
        try:
            _require_free(self._service.find(color))
            (folder / "pid").unlink(missing_ok=True)
            _note(folder / "release", release)
            self._launch(color, release, lock)
        finally:
            os.close(lock)

    def stop(self, color: Color) -> None:
        """See Driver: SIGTERM, then SIGKILL for its session if needed."""
        if not self._is_running(color):
            return
        pid = self._wait_for_pid(color)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            if not self._wait_until_gone(color, STOP_S):
                os.killpg(os.getpgid(pid), signal.SIGKILL)
        if not self._wait_until_gone(color, STOP_S):
            raise SourceUnavailable(f"{self._service.name}: {color} (process {pid}) does not end")

    def get_release(self, color: Color) -> str | None:
        """See Driver."""
        if not self._is_running(color):
            return None
        return _read_note(self._folder / color / "release")

    def count_connections(self, color: Color) -> int | None:
        """See Driver: established connections to the color's port, of the process and its children."""
        import psutil

        if not self._is_running(color):
            return 0
        port = int(self._service.find(color).rpartition(":")[2])
        found = 0
        with suppress(psutil.Error):
            process = psutil.Process(self._wait_for_pid(color))
            for each in (process, *process.children(recursive=True)):
                for connection in each.net_connections("tcp"):
                    if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port:
                        found += 1
        return found

    def read_log(self, color: Color) -> str:
        """See Driver."""
        try:
            lines = (self._folder / color / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return scrub("\n".join(lines[-_LOG_LINES:]), list_secrets(os.environ))

    def _launch(self, color: Color, release: str, lock: int) -> None:
        values = _values(self._service, color, release)
        command = [_fill(word, values) for word in self._service.command]
        folder = self._folder / color
        with (folder / "log").open("wb") as log:
            try:
                subprocess.run(
                    ["/bin/sh", "-c", _DETACH, _BECOME, str(folder / "pid"), *command],
                    cwd=self._service.directory, env=_environment(self._service, values), stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, pass_fds=[lock], start_new_session=True, check=True, umask=USUAL_UMASK,
                )  # fmt: skip
            except (OSError, subprocess.CalledProcessError) as error:
                raise SourceUnavailable(f"{self._service.name}: {color} could not be started: {error}") from error

    def _is_running(self, color: Color) -> bool:
        return is_locked(self._folder / color / "lock")

    def _wait_for_pid(self, color: Color) -> int:
        ends = time.monotonic() + _PID_S
        while time.monotonic() < ends:
            if noted := _read_note(self._folder / color / "pid"):
                return int(noted)
            time.sleep(_PAUSE_S)
        raise SourceUnavailable(f"{self._service.name}: {color} runs, but {self._folder / color / 'pid'} is missing")

    def _wait_until_gone(self, color: Color, seconds: float) -> bool:
        ends = time.monotonic() + seconds
        while self._is_running(color):
            if time.monotonic() > ends:
                return False
            time.sleep(_PAUSE_S)
        return True


class ComposeDriver:
    """A release is a Compose project named `<service>-<color>`; RELEASE, COLOR and PORT are set for the file."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self._folder = folder

    def start(self, color: Color, release: str) -> None:
        """See Driver. Raises SourceUnavailable with Compose's message."""
        if self.get_release(color) not in (release, None):
            self.stop(color)
        (self._folder / color).mkdir(parents=True, exist_ok=True)
        _note(self._folder / color / "release", release)
        self._compose(color, "up", "--detach", "--remove-orphans")

    def stop(self, color: Color) -> None:
        """See Driver: the containers get SIGTERM, and their file's grace period."""
        self._compose(color, "down", "--remove-orphans")

    def get_release(self, color: Color) -> str | None:
        """See Driver. The release is recorded only while nothing else runs, so it is the running one."""
        if not self._compose(color, "ps", "--quiet", "--status", "running").strip():
            return None
        return _read_note(self._folder / color / "release")

    def count_connections(self, color: Color) -> int | None:  # noqa: ARG002 - Compose does not tell
        """See Driver: unknown, so the containers' own grace period applies."""
        return None

    def read_log(self, color: Color) -> str:
        """See Driver."""
        with suppress(SourceUnavailable):
            said = self._compose(color, "logs", "--no-color", "--tail", str(_LOG_LINES)).strip()
            return scrub(said, list_secrets(os.environ))
        return ""

    def _compose(self, color: Color, *arguments: str) -> str:
        values = _values(self._service, color, _read_note(self._folder / color / "release") or "")
        command = [*self._service.command, "--project-name", f"{self._service.name}-{color}", *arguments]
        said = f"`{' '.join(command)}` failed"
        try:
            done = subprocess.run(
                command, cwd=self._service.directory, env=_environment(self._service, values), capture_output=True,
                text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=_COMPOSE_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceUnavailable(
                f"{said}: {getattr(error, 'strerror', None) or 'it did not finish within 10 min'}"
            ) from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise SourceUnavailable(f"{said}: {lines[-1] if lines else f'exit code {done.returncode}'}")
        return done.stdout


def _values(service: Service, color: Color, release: str) -> dict[str, str]:
    host, _, port = service.find(color).rpartition(":")
    # services files of earlier releases use the spelling "colour"
    return {"release": release, "color": str(color), "colour": str(color), "host": host.strip("[]"), "port": port}


def _fill(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _environment(service: Service, values: Mapping[str, str]) -> dict[str, str]:
    given = {name.upper(): values[name] for name in ("release", "color", "colour", "port")}
    return {**inherit(os.environ), **given, "SERVICE": service.name}


def _require_free(address: str) -> None:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise Conflict(f"port {address} is used by another program: {error.strerror}") from error


def _note(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _read_note(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
