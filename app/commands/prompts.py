"""The commands `prompts …`: list the registered versions, promote one, and roll a promotion back."""

from typing import Any

import click

from app.commands.common import common, open_store, show
from core.audit.acts import Act
from core.config import Config
from core.errors import InvalidInput
from core.tracking.runs import PromptVersion


@click.group()
def prompts() -> None:
    """List prompt versions, promote one to production, roll a promotion back."""


@prompts.command("list")
@common
def prompts_list(config: Config, *, as_json: bool) -> None:
    """List the registered prompt versions, and which is in production.

    Example: quarterdeck prompts list
    """
    found = _open_tracking(config).list_prompts()
    lines = [
        f"{each.name:<20} {each.label:<8} version {each.version:<4} {len(each.run_ids)} runs  "
        f"{', '.join(each.aliases) or '-':<12} {each.commit_message}"
        for each in found
    ]
    show(as_json, found, lines or ["no prompt is registered yet; `quarterdeck eval` registers what it evaluates"])


@prompts.command("promote")
@click.argument("name")
@click.argument("version")
@click.option(
    "--run", "run_id", metavar="ID", help="The run that supports the decision (default: the version's newest)."
)
@click.option("--flag", metavar="KEY", help="The flag that serves it; created if it does not exist.")
@click.option("--rollout", type=click.FloatRange(0, 100), metavar="P", help="For P percent of users; needs --flag.")
@click.option("--reason", required=True, help="The decision: it is stored with the run and in the audit trail.")
@common
def prompts_promote(
    config: Config,
    *,
    name: str,
    version: str,
    run_id: str | None,
    flag: str | None,
    rollout: float | None,
    reason: str,
    as_json: bool,
) -> None:
    """Put VERSION (v3, or its number in the registry) of prompt NAME into production, and set its flag.

    Example: quarterdeck prompts promote qa v3 --flag new_prompt_v3 --rollout 20 --reason "as good, a third cheaper"
    """
    from core.prompts.promotion import Serving, promote

    if (flag is None) != (rollout is None):
        raise InvalidInput("prompts promote", "give --flag and --rollout together, or neither")
    tracking = _open_tracking(config)
    prompt = _find(tracking.list_prompts(name), name, version)
    live = tracking.production_version(name, with_runs=False)
    entry_id = promote(
        open_store(config),
        tracking,
        run_id or _newest_run(tracking, prompt),
        Act(config.operator, reason, config.environment),
        serving=Serving(flag, rollout) if flag is not None and rollout is not None else None,
        expected=live.version if live else None,
    )
    said = f"{name} {prompt.label} is in production (audit entry {entry_id}); was {live.label if live else 'none'}"
    show(as_json, {"prompt": name, "version": prompt.version, "audit_entry": entry_id}, [said])


@prompts.command("rollback")
@click.argument("name")
@click.option("--reason", required=True, help="Why: it is stored with the run and in the audit trail.")
@common
def prompts_rollback(config: Config, *, name: str, reason: str, as_json: bool) -> None:
    """Undo the last promotion of prompt NAME: restore the previous version and its flag.

    Example: quarterdeck prompts rollback qa --reason "complaints about short answers"
    """
    from core.prompts.promotion import roll_back

    tracking = _open_tracking(config)
    act = Act(config.operator, reason, config.environment)
    entry_id = roll_back(open_store(config), tracking, name, act)
    live = tracking.production_version(name, with_runs=False)
    said = f"in production of {name}: {live.label if live else 'none'} (audit entry {entry_id})"
    show(as_json, {"prompt": name, "version": live.version if live else None, "audit_entry": entry_id}, [said])


def _open_tracking(config: Config) -> Any:
    from core.tracking.gateway import Tracking

    return Tracking(config.tracking_uri)


def _find(known: tuple[PromptVersion, ...], name: str, version: str) -> PromptVersion:
    """The version with that label, else the one with that number in the registry."""
    for prompt in known:
        if version in prompt.spellings:
            return prompt
    for prompt in known:
        if version == str(prompt.version):
            return prompt
    labels = ", ".join(prompt.label for prompt in known) or "none"
    raise InvalidInput("version", f"{name!r} has no version {version!r}; there are: {labels}")


def _newest_run(tracking: Any, prompt: PromptVersion) -> str:
    runs = tracking.get_runs(prompt.run_ids)
    if not runs:
        raise InvalidInput("run", f"no run used {prompt.name} {prompt.label}; `quarterdeck eval` makes one")
    return str(max(runs, key=lambda run: run.started).run_id)
