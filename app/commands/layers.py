"""The commands `layers …` and `holdout …`: experiments that share no user, and users whom no rollout touches."""

from datetime import UTC, datetime
from typing import Any

import click

from app.commands.common import common, open_judged_store, open_store, show
from core.audit.acts import Act
from core.config import Config
from core.errors import NotFound
from quarterdeck.hashing import BUCKETINGS

_reason_option = click.option("--reason", required=True, help="Why: it goes into the audit trail.")
_bucketing_option = click.option(
    "--bucketing", type=click.Choice(sorted(BUCKETINGS)), default="cbor", show_default=True,
    help="How its flags hash users; a flag that hashes in another way cannot take part.",
)  # fmt: skip


@click.group()
def layers() -> None:
    """Layers: experiments of one layer never share a user."""


@layers.command("list")
@common
def layers_list(config: Config, *, as_json: bool) -> None:
    """List the layers: which flag has which share of the users, and what is free.

    Example: quarterdeck layers list
    """
    from core.rollouts.layers import report_layers

    found = report_layers(open_store(config), config.environment)
    lines = []
    for each in found:
        lines.append(f"{each.layer.name:<24} {each.free:.0%} free  {each.layer.description}".rstrip())
        lines += [
            f"  {use.share:>6.1%}  {use.flag}{f' (experiment {use.experiment})' if use.experiment else ''}"
            for use in each.uses
        ]
    show(as_json, found, lines or ["no layers: make one with `quarterdeck layers create`"])


@layers.command("create")
@click.argument("name")
@click.option("--description", default="", help="What its experiments have in common.")
@_bucketing_option
@_reason_option
@common
def layers_create(config: Config, *, name: str, description: str, bucketing: str, reason: str, as_json: bool) -> None:
    """Make a layer; experiments that start in it share no user.

    Example: quarterdeck layers create answers --reason "prompts and styles would mix"
    """
    from core.flags.layers import Layer
    from core.rollouts.layers import create_layer

    act = Act(config.operator, reason, config.environment)
    entry = create_layer(open_store(config), Layer(name, BUCKETINGS[bucketing], description.strip()), act)
    show(as_json, {"entry": entry}, [f"the layer {name} is made (audit entry {entry})"])


@layers.command("remove")
@click.argument("name")
@_reason_option
@common
def layers_remove(config: Config, *, name: str, reason: str, as_json: bool) -> None:
    """Remove a layer that no flag has users of.

    Example: quarterdeck layers remove answers --reason "no experiments left"
    """
    from core.flags.layer_store import get_layer
    from core.rollouts.layers import remove_layer

    store = open_store(config)
    layer = get_layer(store, config.environment, name)
    entry = remove_layer(store, layer, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"the layer {name} is removed (audit entry {entry})"])


@layers.command("leave")
@click.argument("key")
@_reason_option
@common
def layers_leave(config: Config, *, key: str, reason: str, as_json: bool) -> None:
    """Give a flag back to all users, and its part of the layer to other experiments.

    Example: quarterdeck layers leave answer_style --reason "its experiment was stopped"
    """
    from core.flags.store import get_flag
    from core.rollouts.layers import take_out

    store = open_store(config)
    flag, act = get_flag(store, config.environment, key), Act(config.operator, reason, config.environment)
    entry = take_out(store, flag, act, typed_name=key, now=datetime.now(UTC))
    show(as_json, {"entry": entry}, [f"{key} is for all users again (audit entry {entry})"])


@click.group()
def holdout() -> None:
    """The holdout: users whom no experiment and no canary touches."""


@holdout.command("show")
@common
def holdout_show(config: Config, *, as_json: bool) -> None:
    """Show the holdout that runs, and the flags that keep out of it.

    Example: quarterdeck holdout show
    """
    from core.flags.layer_store import get_holdout
    from core.rollouts.layers import list_held_out

    store = open_store(config)
    found, flags = get_holdout(store, config.environment), list_held_out(store, config.environment)
    lines = ["no holdout runs"]
    if found:
        began = f" since {found.since:%d %b %Y, %H:%M} UTC" if found.since else ""
        lines = [
            f"{found.name}: {found.share_pct:g}% of users are held out{began}",
            f"  flags that keep out of it: {', '.join(flags) or 'none'}",
        ]
    show(as_json, {"holdout": found, "flags": flags}, lines)


@holdout.command("report")
@click.option("--metric", default="score", show_default=True, help="Built in, or defined in the environment.")
@click.option("--service", "services", multiple=True, metavar="NAME", help="Whose rows count (default: all).")
@common
def holdout_report(config: Config, *, metric: str, services: tuple[str, ...], as_json: bool) -> None:
    """Compare the users who are held out with the rest: what all rollouts did together. Check it at any time.

    Example: quarterdeck holdout report --metric resolved
    """
    from core.arms.histories import ArmHistories
    from core.rollouts.holdout import HELD, REST, report_holdout

    store = open_judged_store(config)
    found = report_holdout(
        store, ArmHistories(store), config.environment, metric, now=datetime.now(UTC), services=services
    )
    users = f"{found.users[HELD]:,} users held out, {found.users[REST]:,} others, since {found.holdout.name} began"
    compared = found.compared
    told = {
        "holdout": found.holdout, "metric": str(found.metric), "users": found.users, "sentence": found.sentence,
        "mismatch_p": found.mismatch_p, "held_out": compared.stable if compared else None,
        "others": compared.other if compared else None, "harm": compared.harm if compared else None,
        "harm_at_least": compared.least_harm if compared and compared.difference else None,
        "harm_at_most": compared.most_harm if compared and compared.difference else None,
    }  # fmt: skip
    show(as_json, told, [found.sentence, f"  {users}"])


@holdout.command("start")
@click.argument("name")
@click.option("--share", "share_pct", required=True, type=float, help="The percentage of users to hold out, up to 50.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@_bucketing_option
@click.option("--reason", default="", help="Why: it goes into the audit trail.")
@common
def holdout_start(
    config: Config, *, name: str, share_pct: float, dry_run: bool, bucketing: str, reason: str, as_json: bool
) -> None:
    """Hold a share of the users out of every experiment and canary from now on.

    Example: quarterdeck holdout start 2026q4 --share 5 --reason "measure all changes of the quarter together"
    """
    from core.flags.layers import Holdout
    from core.rollouts.layers import preview_holdout, start_holdout

    store, wanted = open_store(config), Holdout(name, share_pct, BUCKETINGS[bucketing])
    effects = preview_holdout(store, config.environment, wanted, now=datetime.now(UTC))
    if dry_run:
        _show_effects(effects, as_json=as_json)
        return
    entry = start_holdout(store, wanted, Act(config.operator, reason, config.environment))
    said = f"{share_pct:g}% of users are held out (audit entry {entry})"
    show(as_json, {"entry": entry}, [said, *_describe_effects(effects)])


@holdout.command("end")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--reason", default="", help="Why: it goes into the audit trail.")
@common
def holdout_end(config: Config, *, dry_run: bool, reason: str, as_json: bool) -> None:
    """Let everybody into experiments and canaries again.

    Example: quarterdeck holdout end --reason "the quarter is measured"
    """
    from core.flags.layer_store import get_holdout
    from core.rollouts.layers import end_holdout, preview_holdout

    store = open_store(config)
    found = get_holdout(store, config.environment)
    if found is None:
        raise NotFound(f"holdout: none runs in {config.environment}")
    effects = preview_holdout(store, config.environment, found, now=datetime.now(UTC), ends=True)
    if dry_run:
        _show_effects(effects, as_json=as_json)
        return
    entry = end_holdout(store, found, Act(config.operator, reason, config.environment))
    show(as_json, {"entry": entry}, [f"the holdout {found.name} is over (audit entry {entry})"])


def _show_effects(effects: Any, *, as_json: bool) -> None:
    told = [{"flag": each.flag, "share": each.impact.share, "asked": each.impact.asked} for each in effects]
    show(as_json, told, _describe_effects(effects) or ["no flag would change"])


def _describe_effects(effects: Any) -> list[str]:
    return [
        f"  {each.flag}: {each.impact.share:.1%} of {each.impact.asked:,} "
        f"{each.users.source or 'made-up users (none are known)'} get another answer"
        for each in effects
    ]
