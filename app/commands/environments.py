"""The commands `environments …`: each has its own set of flags."""

import click

from app.commands.common import common, open_store, show
from core.audit.acts import Act
from core.audit.environments import list_environments
from core.audit.operations import add_environment
from core.config import Config
from core.log.retrievals import list_scopes
from quarterdeck.scope import fold_environment


@click.group()
def environments() -> None:
    """List and add environments; every command takes --environment NAME."""


@environments.command("list")
@common
def environments_list(config: Config, *, as_json: bool) -> None:
    """List the environments: the configured one first, then those that were added, have flags or
    tokens, or were named by a service.

    Example: quarterdeck environments list
    """
    store = open_store(config)
    known = list_environments(store, config.environment)
    reporting = {fold_environment(scope.environment) for scope in list_scopes(store)}
    reporting -= {fold_environment(name) for name in known}
    found = [*known, *sorted(reporting)]
    show(as_json, found, found)


@environments.command("add")
@click.argument("name")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def environments_add(config: Config, *, name: str, reason: str, as_json: bool) -> None:
    """Add an environment before it has any flag.

    Example: quarterdeck environments add staging --reason "flags are tried there first"
    """
    entry = add_environment(open_store(config, create=True), name, Act(config.operator, reason, config.environment))
    show(as_json, {"name": name, "entry": entry}, [f"{name} is added (audit entry {entry})"])
