"""Rule: a scope is an environment and a service in it; whatever a service reports belongs to one."""

import os
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from quarterdeck.errors import InvalidInput

DEFAULT_ENVIRONMENT = "production"
DEFAULT_SERVICE = "default"
MOST_ENVIRONMENTS = 20
MOST_SERVICES = 100  # of one environment
ALIASES_VARIABLE = "QUARTERDECK_ENVIRONMENT_ALIASES"
DEFAULT_ALIASES = MappingProxyType({"prod": "production", "prd": "production", "stage": "staging", "stg": "staging"})
_MAX_ENVIRONMENT, _MAX_SERVICE = 64, 128


class Scope(NamedTuple):
    """Whose rows these are. Make it with `make_scope`, which brings names into one form."""

    environment: str = DEFAULT_ENVIRONMENT
    service: str = DEFAULT_SERVICE


DEFAULT_SCOPE = Scope()
EVERYTHING = Scope("", "")  # for reading: an empty name stands for all of them


def make_scope(environment: str | None = None, service: str | None = None) -> Scope:
    """Return the scope of these names, casefolded; missing ones are production and default.

    An alias stands for its environment (`prod` is production), and OpenTelemetry's `unknown_service` is default.
    Raises InvalidInput, naming the field.

    >>> make_scope("Staging", "unknown_service:python")
    Scope(environment='staging', service='default')
    >>> make_scope("Prod", "answers")
    Scope(environment='production', service='answers')
    """
    named = _check("service", service, DEFAULT_SERVICE, _MAX_SERVICE)
    if named.startswith("unknown_service"):
        named = DEFAULT_SERVICE
    return Scope(fold_environment(_check("environment", environment, DEFAULT_ENVIRONMENT, _MAX_ENVIRONMENT)), named)


def fold_environment(name: str) -> str:
    """Return the environment that a name stands for in the record: casefolded, and no alias.

    >>> fold_environment("PRD"), fold_environment("QA")
    ('production', 'qa')
    """
    folded = name.casefold()
    return read_aliases().get(folded, folded)


def read_aliases(environ: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return which environment each alias stands for: DEFAULT_ALIASES, unless QUARTERDECK_ENVIRONMENT_ALIASES is set.

    Raises InvalidInput, naming the variable.

    >>> dict(read_aliases({"QUARTERDECK_ENVIRONMENT_ALIASES": "live=production, uat=staging"}))
    {'live': 'production', 'uat': 'staging'}
    >>> dict(read_aliases({"QUARTERDECK_ENVIRONMENT_ALIASES": "off"}))
    {}
    """
    text = environ.get(ALIASES_VARIABLE)
    return _parse_aliases(text) if text else DEFAULT_ALIASES


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


@lru_cache(8)
def _parse_aliases(text: str) -> Mapping[str, str]:
    aliases: dict[str, str] = {}
    for pair in text.split(",") if text != "off" else ():
        alias, equals, meant = (part.strip().casefold() for part in pair.partition("="))
        if not (alias and equals and meant) or max(len(alias), len(meant)) > _MAX_ENVIRONMENT or "=" in meant:
            raise InvalidInput(ALIASES_VARIABLE, f"must be like prod=production,uat=staging, or off, not {pair[:80]!r}")
        if alias == DEFAULT_ENVIRONMENT:
            raise InvalidInput(ALIASES_VARIABLE, f"{alias} is the environment of rows that name none, and no alias")
        aliases[alias] = meant
    if chained := aliases.keys() & set(aliases.values()):
        raise InvalidInput(ALIASES_VARIABLE, f"{min(chained)} must be an alias or an environment, not both")
    return MappingProxyType(aliases)
