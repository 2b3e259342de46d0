"""Gateway to the nginx in front of a service: writes the upstream file, reloads nginx, and asks which file it follows.

The file holds the upstream and a mark such as `green 17`, which nginx returns under MARK_PATH. So the deployer sees
what nginx really follows, not just what was written.
"""

import os
import subprocess
import tempfile
import time
from pathlib import Path
from string import Template

from core.deployments.colors import Color
from core.deployments.health import ask
from core.deployments.services import Service
from core.errors import SourceUnavailable
from core.safety.inheritance import inherit

# The spelling of nginx sites rendered by earlier releases; both sides of a switch must agree.
MARK_PATH = "/.quarterdeck-colour"
_MARK_VARIABLE = "colour"
FOLLOW_S = 20.0
_COMMAND_S = 30.0
_AGREEING, _PAUSE_S = 10, 0.03


class Proxy:
    """The nginx of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def write(self, color: Color | None, mark: str) -> None:
        """Replace the upstream file atomically, so readers see the old or the new content. None means no traffic.

        Raises SourceUnavailable when it cannot be written.
        """
        path = self._service.upstream
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace_file(path, render_upstream(self._service, color, mark))
        except OSError as error:
            raise SourceUnavailable(f"the upstream file {path} cannot be written: {error.strerror}") from error

    def exists(self) -> bool:
        """Whether the upstream file exists."""
        return self._service.upstream.exists()

    def check(self) -> None:
        """Make nginx check its configuration. Raises SourceUnavailable with its message."""
        self._run("-t")

    def reload(self) -> None:
        """Make nginx reload its configuration; old workers finish the requests they have started."""
        self._run("-s", "reload")

    def read_mark(self) -> str:
        """Return the mark that nginx follows now. Raises SourceUnavailable when it does not answer."""
        return ask(f"{self._service.address}{MARK_PATH}").strip()

    def wait_for(self, mark: str) -> None:
        """Wait until nginx follows the mark, a few tenths of a second after a reload. Raises SourceUnavailable.

        Because old workers still answer for a moment, several answers in a row have to agree.
        """
        ends, seen, agreed = time.monotonic() + FOLLOW_S, "", 0
        while time.monotonic() < ends:
            try:
                seen = self.read_mark()
            except SourceUnavailable as error:
                seen = str(error)
            agreed = agreed + 1 if seen == mark else 0
            if agreed == _AGREEING:
                return
            time.sleep(_PAUSE_S)
        raise SourceUnavailable(f"nginx did not follow {mark!r} within {FOLLOW_S:g} s: {seen}")

    def _run(self, *arguments: str) -> None:
        command = [*self._service.nginx, *arguments]
        said = f"`{' '.join(command)}` failed"
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_COMMAND_S, check=False,
                env=inherit(os.environ),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceUnavailable(
                f"{said}: {getattr(error, 'strerror', None) or 'it did not finish within 30 s'}"
            ) from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            worst = next((line for line in lines if "[emerg]" in line or "[error]" in line), lines[-1] if lines else "")
            raise SourceUnavailable(f"{said}: {worst or f'exit code {done.returncode}'}")


def read_color(mark: str) -> Color | None:
    """Return the color in a mark, or None."""
    word = mark.partition(" ")[0]
    return Color(word) if word in list(Color) else None


def render_upstream(service: Service, color: Color | None, mark: str) -> str:
    """Return the content of the upstream file. Without a color its only server is down, so nginx answers 502."""
    server = service.find_upstream(color) if color else "127.0.0.1:9 down"
    return (
        "# Written by `quarterdeck deploy`, and replaced by every switch: changes made here are lost.\n"
        f"upstream {service.name} {{\n    server {server};\n}}\n"
        f'map $host {_variable(service, _MARK_VARIABLE)} {{\n    default "{mark}";\n}}\n'
    )


def render_site(service: Service, template: str) -> str:
    """Return the service's server block, from the text of `deploy/nginx/site.conf.template`."""
    return Template(template).safe_substitute(
        SERVICE=service.name, LISTEN=service.address.removeprefix("http://"), UPSTREAM=service.upstream,
        MARK_PATH=MARK_PATH, MARK=_variable(service, _MARK_VARIABLE), CONNECTION=_variable(service, "connection"),
    )  # fmt: skip


def _variable(service: Service, name: str) -> str:
    return f"${service.name.replace('-', '_')}_{name}"


def _replace_file(path: Path, text: str) -> None:
    """Write a temporary file, fsync it, and rename it, so readers and crashes see the old or the new content."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
