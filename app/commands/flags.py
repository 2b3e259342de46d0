"""The commands `flags …`: list, change, export and import feature flags."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from app.commands.common import common, open_store, show, show_rehearsal
from app.commands.schedules import schedule
from core.audit.acts import Act
from core.config import Config
from core.errors import InvalidInput
from core.flags.definition import FlagDefinition
from core.flags.operations import change_hash_version, change_rollout, import_flags, switch_flag
from core.flags.store import get_flag, list_flags
from core.wording.counts import count_of
from quarterdeck import definitions
from quarterdeck.hashing import BUCKETINGS


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
@click.option("--bucketing", type=click.Choice(tuple(BUCKETINGS)), help="Bucket users by flagd's older or newer hash.")
@click.option("--reason", required=True, help="Why: it goes into the audit trail.")
@common
def flags_set(
    config: Config, *, key: str, on: bool | None, rollout: float | None, bucketing: str | None, reason: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Switch a flag, change its rollout, or move it to another bucketing.

    `flags preview` shows who moves.

    Example: quarterdeck flags set new_prompt_v3 --rollout 50 --reason "no complaints at 20%"
    """
    if on is None and rollout is None and bucketing is None:
        raise InvalidInput("flags set", "give --on, --off, --rollout P or --bucketing NAME")
    store, act = open_store(config), Act(config.operator, reason, config.environment)
    if rollout is not None:
        change_rollout(store, get_flag(store, config.environment, key), rollout, act)
    if bucketing is not None:
        change_hash_version(store, get_flag(store, config.environment, key), BUCKETINGS[bucketing], act)
    if on is not None:
        switch_flag(store, get_flag(store, config.environment, key), act, on=on)
    flag = get_flag(store, config.environment, key)
    show(as_json, flag, [f"{key} is {_state(flag.view)} (version {flag.version})"])


@flags.command("preview")
@click.argument("key")
@click.option("--rollout", type=float, metavar="P", help="What if P percent of users (0 to 100) had it?")
@click.option("--bucketing", type=click.Choice(tuple(BUCKETINGS)), help="What if users were bucketed by this hash?")
@click.option("--off", is_flag=True, help="What if it was turned off: which questions would get worse or better?")
@common
def flags_preview(
    config: Config, *, key: str, rollout: float | None, bucketing: str | None, off: bool, as_json: bool
) -> None:
    """Show which recent users would get another answer. Nothing is changed.

    Example: quarterdeck flags preview new_prompt_v3 --bucketing string
    """
    from core.flags.preview import preview_change
    from core.rehearsals.report import rehearse_flag

    if off == (rollout is not None or bucketing is not None):
        raise InvalidInput("flags preview", "give --rollout P or --bucketing NAME, or --off alone")
    store = open_store(config)
    flag = get_flag(store, config.environment, key)
    if off:
        show_rehearsal(as_json, rehearse_flag(store, flag, now=datetime.now(UTC)), "")
        return
    wanted = flag.definition if rollout is None else definitions.set_rollout(flag.definition, rollout)
    wanted = wanted if bucketing is None else definitions.set_hash_version(wanted, BUCKETINGS[bucketing])
    impact, users = preview_change(
        store, config.environment, key, flag.definition, wanted, now=datetime.now(UTC)
    )  # fmt: skip
    who = "made-up users (none is known yet)" if impact.are_made_up else users.source
    lines = [f"{impact.changed:,} of {impact.asked:,} {who} would get another answer ({impact.share:.1%})"]
    lines += [
        f"{each.user}: {each.before or 'code default'} -> {each.after or 'code default'}" for each in impact.movers
    ]
    if impact.changed > len(impact.movers):
        lines.append(f"and {impact.changed - len(impact.movers):,} more")
    show(as_json, {"key": key, "asked": impact.asked, "changed": impact.changed, "share": impact.share,
                   "are_made_up": impact.are_made_up, "movers": impact.movers}, lines)  # fmt: skip


@flags.command("references")
@click.argument("folder", type=click.Path(path_type=Path))
@common
def flags_references(config: Config, *, folder: Path, as_json: bool) -> None:
    """Show where the keys of flags stand in the code below FOLDER, which are dead, and what to clean up.

    Example: quarterdeck flags references src
    """
    from core.flags.board import list_board
    from core.flags.cleanup import plan_cleanup, say_places
    from core.flags.references import find_references

    board = list_board(open_store(config), config.environment, environments=(), now=datetime.now(UTC))
    stale = {row.flag.key: row.staleness for row in board}
    read = find_references(folder, stale)
    plan = plan_cleanup(stale, read.found, where=config.environment)
    lines = [f"{count_of(len(stale), 'flag')} of {config.environment}, {read.files:,} files"]
    for key in stale:
        at = [each for each in read.found if each.key == key]
        lines.append(f"{key}: {say_places(at) if at else 'nowhere'}")
    lines += ["to clean up:" if plan else "nothing to clean up"]
    lines += [f"  {each.key}: {each.reason}: {each.action}" for each in plan]
    show(as_json, {"files": read.files, "references": read.found, "cleanup": plan}, lines)


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
    """Import flags from a flagd document, or from another tool's export.

    All flags of a flagd document are imported, or none if one is invalid. Flags of another tool that flagd cannot
    express are skipped, and each gets a line that says why; a note says what means something slightly different here.

    Example: quarterdeck flags import unleash-export.json --reason "move from Unleash"
    """
    from core.flags.exports import read_export

    act = Act(config.operator, reason, config.environment)
    document, converted = read_export(_read(file), config.environment)
    store = open_store(config, create=True)
    changed = import_flags(store, document, act) if document["flags"] or not converted.refused else ()
    lines = [f"{count_of(len(changed), 'flag')} changed: {', '.join(changed) or 'none'}"]
    lines += [f"left out: {each.key}: {each.reason}" for each in converted.refused]
    lines += [f"note: {each.key}: {each.text}" for each in converted.notes]
    if converted.are_drawn_anew:
        lines.append(f"Rollouts keep their shares but not their users: {converted.source} uses another hash.")
    told = {"left_out": converted.refused, "notes": converted.notes}
    show(as_json, {"changed": changed} | (told if any(told.values()) or converted.is_foreign else {}), lines)


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
