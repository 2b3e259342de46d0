"""Shell: makes and removes layers, starts and ends the holdout, and reports who has which users.

`core.flags.layers` holds the rules; every flag that is saved is checked against them in its own change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import move_state_version
from core.errors import Conflict, NotFound
from core.flags.impact import Impact
from core.flags.layer_store import (
    find_holdout_version,
    find_layer_version,
    get_holdout,
    list_definitions,
    list_layers,
    save_holdout,
    save_layer,
)
from core.flags.layers import (
    Holdout,
    Layer,
    end_holdout_of,
    find_holdout,
    find_layer,
    hold_out,
    leave_layer,
    list_free,
)
from core.flags.operations import replace_definition, save_edit
from core.flags.preview import Users, preview_change
from core.flags.store import Flag, list_flags
from core.rollouts.experiment_records import find_running, list_experiments
from quarterdeck.clock import from_ms
from quarterdeck.store import Store
from quarterdeck.weights import TOTAL_WEIGHT


@dataclass(frozen=True, slots=True)
class LayerUse:
    """A flag that has users of a layer: which share of all, and the running experiment's name, "" if none runs."""

    flag: str
    share: float
    experiment: str = ""


@dataclass(frozen=True, slots=True)
class LayerReport:
    """A layer, the flags that have its users, and the share that is free, 0 to 1."""

    layer: Layer
    uses: tuple[LayerUse, ...]
    free: float


@dataclass(frozen=True, slots=True)
class HoldoutEffect:
    """What starting or ending a holdout does to one flag's users."""

    flag: str
    impact: Impact
    users: Users


def report_layers(store: Store, environment: str) -> tuple[LayerReport, ...]:
    """Return every layer of an environment with who has its users, by name."""
    flags = list_flags(store, environment)
    running = {each.design.flag: each.design.name for each in list_experiments(store, environment) if each.is_running}
    return tuple(_report(layer, flags, running) for layer in list_layers(store, environment))


def list_held_out(store: Store, environment: str) -> tuple[str, ...]:
    """Return the keys of the flags that keep out of a holdout, in alphabetical order."""
    return tuple(flag.key for flag in list_flags(store, environment) if find_holdout(flag.view))


def create_layer(store: Store, layer: Layer, by: Act) -> int:
    """Make a layer in the act's environment; return the audit entry's id. Raises Conflict if the name is taken."""
    if any(each.name == layer.name for each in list_layers(store, by.environment)):
        raise Conflict(f"layer: {layer.name!r} exists in {by.environment} already")
    version = find_layer_version(store, by.environment, layer.name)
    with changing(store, by) as change:
        save_layer(change.connection, by.environment, replace(layer, version=version))
        change.record(Action.LAYER_CREATE, layer.name, None, _describe(layer))
    return change.entry_id


def remove_layer(store: Store, layer: Layer, by: Act) -> int:
    """Remove a layer that no flag has users of; return the audit entry's id. Raises Conflict, naming the flags."""
    with changing(store, by) as change:
        move_state_version(change.connection)  # no flag can be saved from here on
        if used := sorted(list_definitions(change.connection, by.environment, space=layer.space)):
            raise Conflict(f"layer {layer.name}: {', '.join(used[:3])} has users of it; take the flag out first")
        save_layer(change.connection, by.environment, layer, gone=True)
        change.record(Action.LAYER_REMOVE, layer.name, _describe(layer), None)
    return change.entry_id


def take_out(store: Store, flag: Flag, by: Act, *, typed_name: str, now: datetime) -> int:
    """Give a flag back to all users, and its slice back to its layer; return the audit entry's id.

    A wide change in production needs the flag's key as `typed_name`. Raises InvalidInput, NotFound for a flag without a
    layer, and Conflict while an experiment runs on it.
    """
    if find_layer(flag.view) is None:
        raise NotFound(f"layer: {flag.key} has no users of a layer")
    if running := find_running(store, flag.environment, flag.key):
        raise Conflict(f"the experiment {running.design.name!r} runs on {flag.key}; decide or stop it first")
    return save_edit(store, flag, leave_layer(flag.definition), by, typed_name=typed_name, now=now)


def start_holdout(store: Store, holdout: Holdout, by: Act) -> int:
    """Keep a share of the users out of every experiment and canary, from now on; return the audit entry's id.

    Canaries and A/B splits that serve users keep out at once. Raises Conflict while an experiment or another holdout
    runs, and InvalidInput where a flag hashes in another way.
    """
    version = find_holdout_version(store, by.environment)
    with changing(store, by) as change:
        move_state_version(change.connection)  # no flag can be saved by others from here on
        if known := get_holdout(store, by.environment):
            raise Conflict(f"the holdout {known.name} runs in {by.environment} already; end it first")
        running = sorted(each.design.name for each in list_experiments(store, by.environment) if each.is_running)
        if running:
            raise Conflict(f"the experiment {running[0]!r} runs and would lose users; a holdout begins when none runs")
        began = replace(holdout, since=from_ms(change.at_ms))
        save_holdout(change.connection, by.environment, began, expected_version=version)
        for flag in list_flags(store, by.environment):
            wanted = hold_out(holdout, flag.key, flag.definition)
            if wanted != flag.definition:
                replace_definition(change, flag, wanted)
        change.record(Action.HOLDOUT_START, holdout.name, None, _tell(holdout))
    return change.entry_id


def end_holdout(store: Store, holdout: Holdout, by: Act) -> int:
    """Let everybody into experiments and canaries again; return the audit entry's id.

    The flag of a running experiment keeps its users as they are until the experiment ends.
    """
    with changing(store, by) as change:
        move_state_version(change.connection)
        save_holdout(change.connection, by.environment, None, expected_version=holdout.version)
        running = {each.design.flag for each in list_experiments(store, by.environment) if each.is_running}
        for flag in list_flags(store, by.environment):
            if find_holdout(flag.view) and flag.key not in running:
                replace_definition(change, flag, end_holdout_of(flag.definition))
        change.record(Action.HOLDOUT_END, holdout.name, _tell(holdout), None)
    return change.entry_id


def preview_holdout(
    store: Store, environment: str, holdout: Holdout, *, now: datetime, ends: bool = False
) -> tuple[HoldoutEffect, ...]:
    """Return for every flag that would change how many recent users get another answer at the start or the end."""
    found = []
    for flag in list_flags(store, environment):
        wanted = end_holdout_of(flag.definition) if ends else hold_out(holdout, flag.key, flag.definition)
        if wanted != flag.definition:
            found.append(
                HoldoutEffect(flag.key, *preview_change(store, environment, flag.key, flag.definition, wanted, now=now))
            )
    return tuple(found)


def _report(layer: Layer, flags: tuple[Flag, ...], running: Mapping[str, str]) -> LayerReport:
    uses = tuple(
        LayerUse(flag.key, each.share, running.get(flag.key, ""))
        for flag in flags
        for each in flag.view.slices
        if each.space == layer.space
    )
    taken = [each for flag in flags for each in flag.view.slices]
    free = sum(end - start for start, end in list_free(layer, taken)) / TOTAL_WEIGHT
    return LayerReport(layer, uses, free)


def _describe(layer: Layer) -> dict[str, str]:
    return {"hash_version": layer.hash_version, "description": layer.description}


def _tell(holdout: Holdout) -> dict[str, str | float]:
    return {"share_pct": holdout.share_pct, "hash_version": holdout.hash_version}
