"""Rule: a scope is an environment and a service in it; whatever a service reports belongs to one."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from quarterdeck.errors import InvalidInput

DEFAULT_ENVIRONMENT = "production"
DEFAULT_SERVICE = "default"
MOST_ENVIRONMENTS = 20
MOST_SERVICES = 100  # of one environment
_MAX_ENVIRONMENT, _MAX_SERVICE = 64, 128


class Scope(NamedTuple):
    """Whose rows these are. Make it with `make_scope`, which brings names into one form."""

    environment: str = DEFAULT_ENVIRONMENT
    service: str = DEFAULT_SERVICE


DEFAULT_SCOPE = Scope()
EVERYTHING = Scope("", "")  # for reading: an empty name stands for all of them


def make_scope(environment: str | None = None, service: str | None = None) -> Scope:
    """Return the scope of these names, casefolded; missing ones are production and default.

    OpenTelemetry's `unknown_service` is default. Raises InvalidInput, naming the field.

    >>> make_scope("Staging", "unknown_service:python")
    Scope(environment='staging', service='default')
    """
    named = _check("service", service, DEFAULT_SERVICE, _MAX_SERVICE)
    if named.startswith("unknown_service"):
        named = DEFAULT_SERVICE
    return Scope(_check("environment", environment, DEFAULT_ENVIRONMENT, _MAX_ENVIRONMENT), named)


def service_of_process(environ: Mapping[str, str] = os.environ) -> str | None:
    """Return the service that OpenTelemetry's variables name: OTEL_SERVICE_NAME, or OTEL_RESOURCE_ATTRIBUTES.

    >>> service_of_process({"OTEL_RESOURCE_ATTRIBUTES": "team=search,service.name=answers"})
    'answers'
    """
    if named := environ.get("OTEL_SERVICE_NAME", "").strip():
        return named
    pairs = (pair.partition("=") for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return next((value.strip() for name, _, value in pairs if name.strip() == "service.name" and value.strip()), None)


def _check(field: str, name: str | None, default: str, longest: int) -> str:
    if name is None or name == "":
        return default
    if not isinstance(name, str):
        raise InvalidInput(field, f"must be text, not {type(name).__name__}")
    folded = name.strip().casefold()
    if not 0 < len(folded) <= longest or not folded.isprintable():
        raise InvalidInput(field, f"must be 1 to {longest} printable characters")
    return folded
