"""The commands `flags …`: list, change, export and import feature flags."""

import json
from pathlib import Path

import click

from app.commands.common import common, open_store, show
from app.commands.schedules import schedule
from core.audit.acts import Act
from core.config import Config
from core.errors import InvalidInput
from core.flags.definition import FlagDefinition
from core.flags.operations import change_rollout, import_flags, switch_flag
from core.flags.store import get_flag, list_flags


@click.group()
def flags() -> None:
    """List, change, export and import feature flags."""


flags.add_command(schedule)


@flags.command("list")
@common
def flags_list(config: Config, *, as_json: bool) -> None:
    """List the flags of the environment.

    Example: quarterdeck flags list
    """
    found = list_flags(open_store(config), config.environment)
    lines = [f"{flag.key:<28} {_state(flag.view):<10} version {flag.version}" for flag in found]
    show(as_json, found, lines or ["no flags yet; `quarterdeck flags import FILE` imports some"])


@flags.command("set")
@click.argument("key")
@click.option("--on/--off", "on", default=None, help="Switch the flag.")
@click.option("--rollout", type=float, metavar="P", help="Roll out to P percent of users (0 to 100).")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def flags_set(config: Config, *, key: str, on: bool | None, rollout: float | None, reason: str, as_json: bool) -> None:
    """Switch a flag or change its rollout.

    Example: quarterdeck flags set new_prompt_v3 --rollout 50 --reason "no complaints at 20%"
    """
    if on is None and rollout is None:
        raise InvalidInput("flags set", "give --on, --off or --rollout P")
    store, act = open_store(config), Act(config.operator, reason, config.environment)
    if rollout is not None:
        change_rollout(store, get_flag(store, config.environment, key), rollout, act)
    if on is not None:
        switch_flag(store, get_flag(store, config.environment, key), act, on=on)
    flag = get_flag(store, config.environment, key)
    show(as_json, flag, [f"{key} is {_state(flag.view)} (version {flag.version})"])


@flags.command("export")
@common
def flags_export(config: Config, *, as_json: bool) -> None:  # noqa: ARG001 - always JSON
    """Print the environment's flags as a flagd document.

    Example: quarterdeck flags export > flags.json
    """
    from core.flags.store import export_flags

    click.echo(json.dumps(export_flags(open_store(config), config.environment), indent=2, ensure_ascii=False))


@flags.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--reason", default="imported from a file", show_default=True, help="Why: it goes into the audit trail.")
@common
def flags_import(config: Config, *, file: Path, reason: str, as_json: bool) -> None:
    """Import flags from a flagd document, or from an export of Unleash or GrowthBook.

    All flags of a flagd document are imported, or none if one is invalid. Flags of another tool that flagd cannot
    express are skipped, and each gets a line that says why.

    Example: quarterdeck flags import unleash-export.json --reason "move from Unleash"
    """
    from core.flags.exports import read_export

    act = Act(config.operator, reason, config.environment)
    document, converted = read_export(_read(file), config.environment)
    changed = import_flags(open_store(config, create=True), document, act) if document["flags"] or not converted else ()
    refused = converted.refused if converted else ()
    lines = [f"{len(changed)} flags changed: {', '.join(changed) or 'none'}"]
    lines += [f"left out: {each.key}: {each.reason}" for each in refused]
    if converted and converted.flags:
        lines.append(f"Rollouts keep their shares but not their users: {converted.source} uses another hash.")
    show(as_json, {"changed": changed} | ({"left_out": refused} if converted else {}), lines)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput("definitions", f"{file} cannot be read: {error.strerror}") from error


def _state(definition: FlagDefinition) -> str:
    if not definition.is_on:
        return "off"
    share = definition.rollout_pct
    return "on" if share is None or share == 100 else f"on {share:g}%"
