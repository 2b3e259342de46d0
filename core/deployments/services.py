"""Gateway to the file that lists the services deployed in two colors on this machine, and how to run them.

Commands and paths stay in this file: the shared store, which many may write to, never says what is run here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from core.deployments.colors import Color
from core.errors import InvalidInput, NotFound, SourceUnavailable

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_ADDRESS = re.compile(r"[A-Za-z0-9._-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
_HEALTH = re.compile(r"/[!-~]*")
_REQUIRED = ("command", "blue", "green", "upstream", "address")


class DriverKind(StrEnum):
    """How a release is brought up: as a process of this machine, or by Docker Compose."""

    PROCESS = "process"
    COMPOSE = "compose"


@dataclass(frozen=True, slots=True)
class Service:
    """One service in two colors.

    `command` starts a release (process) or is the head of a compose command. `blue` and `green` are where the deployer
    finds each, `blue_upstream` and `green_upstream` where nginx does. `upstream` is the file that is rewritten,
    `address` where nginx answers for the service, `nginx` the command that takes -t and -s reload.
    """

    name: str
    driver: DriverKind
    command: tuple[str, ...]
    directory: Path
    blue: str
    green: str
    blue_upstream: str
    green_upstream: str
    upstream: Path
    address: str
    nginx: tuple[str, ...]
    health: str
    start_timeout_s: float
    drain_timeout_s: float
    keep_minutes: float

    def find(self, color: Color) -> str:
        """Where the deployer finds a color, as host:port."""
        return self.blue if color is Color.BLUE else self.green

    def find_upstream(self, color: Color) -> str:
        """Where nginx finds a color, as host:port."""
        return self.blue_upstream if color is Color.BLUE else self.green_upstream


def load_services(path: Path) -> tuple[Service, ...]:
    """Return the services that the file defines, by name; none when there is no such file.

    Raises InvalidInput, naming the service and the field, and SourceUnavailable when the file cannot be read.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceUnavailable(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(str(path), f"is not YAML: {' '.join(str(error).split())}") from error
    services = document.get("services") if isinstance(document, dict) and document.keys() == {"services"} else None
    if not isinstance(services, dict) or not services:
        raise InvalidInput(str(path), "must hold one key `services`, a service by name under it")
    return tuple(_Fields(str(name), values, path.parent).read() for name, values in sorted(services.items()))


def get_service(path: Path, name: str | None) -> Service:
    """Return the service of that name, or the only one there is. Raises NotFound, and what `load_services` raises."""
    services = load_services(path)
    if not services:
        raise NotFound(f"{path} does not exist; docs/deploying.md says what belongs into it")
    found = [service for service in services if name in (service.name, None)]
    if len(found) != 1:
        names = ", ".join(service.name for service in services)
        raise NotFound(
            f"service: {'which one? give --service' if name is None else f'no {name!r}'}; there are: {names}"
        )
    return found[0]


class _Fields:
    """The fields of one service, each checked when it is read."""

    def __init__(self, name: str, values: Any, folder: Path) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidInput("services", f"{name!r} must be lower-case letters, digits and dashes, 40 at most")
        if not isinstance(values, Mapping):
            raise InvalidInput(name, "must be a mapping of fields")
        self._name, self._values, self._folder = name, values, folder
        if missing := [field for field in _REQUIRED if field not in values]:
            raise self._error(missing[0], "is missing")
        known = {*Service.__dataclass_fields__, "driver"} - {"name"}
        if unknown := [field for field in values if field not in known]:
            raise self._error(str(unknown[0]), f"is not a field; there are: {', '.join(sorted(known))}")

    def read(self) -> Service:
        blue, green = self._address("blue"), self._address("green")
        if blue == green:
            raise self._error("green", "must differ from blue")
        return Service(
            name=self._name,
            driver=self._driver(),
            command=self._words("command"),
            directory=self._folder / self._text("directory", "."),
            blue=blue,
            green=green,
            blue_upstream=self._address("blue_upstream", blue),
            green_upstream=self._address("green_upstream", green),
            upstream=self._folder / self._text("upstream"),
            address=self._url("address"),
            nginx=self._words("nginx", ["nginx"]),
            health=self._matching("health", _HEALTH, "must be a path that starts with a slash", "/healthz"),
            start_timeout_s=self._number("start_timeout_s", 60),
            drain_timeout_s=self._number("drain_timeout_s", 30),
            keep_minutes=self._number("keep_minutes", 30),
        )

    def _driver(self) -> DriverKind:
        given = self._text("driver", DriverKind.PROCESS)
        if given not in list(DriverKind):
            raise self._error("driver", f"must be one of {', '.join(DriverKind)}, not {given!r}")
        return DriverKind(given)

    def _address(self, field: str, default: str | None = None) -> str:
        return self._matching(field, _ADDRESS, "must be host:port, like 127.0.0.1:8601", default)

    def _url(self, field: str) -> str:
        return self._matching(
            field, re.compile(r"http://[A-Za-z0-9._\[\]:-]+"), "must be like http://127.0.0.1:8080, without a path"
        )

    def _matching(self, field: str, pattern: re.Pattern[str], problem: str, default: str | None = None) -> str:
        text = self._text(field, default)
        if not pattern.fullmatch(text):
            raise self._error(field, f"{problem}, not {text!r}")
        return text

    def _text(self, field: str, default: str | None = None) -> str:
        value = self._values.get(field, default)
        if not isinstance(value, str) or not value or "\x00" in value:
            raise self._error(field, f"must be a text, not {value!r}")
        return value

    def _words(self, field: str, default: list[str] | None = None) -> tuple[str, ...]:
        value = self._values.get(field, default)
        if not isinstance(value, list) or not value or not all(isinstance(word, str) and word for word in value):
            raise self._error(field, "must be a list of words, like [nginx, -c, /etc/nginx/nginx.conf]")
        return tuple(value)

    def _number(self, field: str, default: float) -> float:
        value = self._values.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100_000:
            raise self._error(field, f"must be a number from 0 to 100,000, not {value!r}")
        return float(value)

    def _error(self, field: str, problem: str) -> InvalidInput:
        return InvalidInput(f"{self._name}.{field}", problem)
