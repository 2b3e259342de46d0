"""Shell: index canaries. Starts one, lets its candidate go live, and says why one is paused and what it compares.

It is a canary's flag like any other: `canaries.py` reports it, takes its steps and rolls it back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.arms.arms import ArmsReading, Metric
from core.arms.comparisons import Margin
from core.arms.histories import ArmHistories, Watched
from core.audit.actions import Action
from core.audit.acts import Act, Change, changing
from core.errors import Conflict, InvalidInput, NotFound
from core.flags.canary_plan import CANARY, SERVICES_FIELD, STABLE, Automation, read_plan, write_services
from core.flags.layer_store import get_holdout
from core.flags.layers import hold_out
from core.flags.operations import check_definition, save_definition
from core.flags.store import Flag, list_flags
from core.indexes.builds import find_fresh_probe
from core.indexes.operations import swap_index
from core.indexes.registry import Alias, IndexState, list_aliases, list_indexes, lock_alias, lock_index
from core.metrics.definition import MetricDefinition, MetricSource
from quarterdeck.clock import from_ms
from quarterdeck.definitions import canary_flag
from quarterdeck.index_canaries import PINNED, IndexArms, alias_of, canary_key, read_arms
from quarterdeck.store import Store

DIMENSION = "index_version"  # of the log: which index served a row
DEFAULT_STEPS = "5% for 24h, 25% for 24h, 50% for 24h, 100%"
_PLANNED = "canary_"


@dataclass(frozen=True, slots=True)
class PlannedIndexCanary:
    """An index canary before it starts: the flag in its place, the alias as it is, and the flag's new definition."""

    flag: Flag | None
    live: Alias
    arms: IndexArms
    definition: dict[str, Any]


def plan_index_canary(
    store: Store, alias: str, candidate: str, environment: str, *,
    steps: str | None = None, automation: Automation | None = None, services: Sequence[str] | None = None,
) -> PlannedIndexCanary:  # fmt: skip
    """Return the canary that lets a share of users search `candidate` instead of what `alias` points to.

    It begins with the first of the plan's `steps` ("5% for 24h, 100%"). What is None stays as in the alias's last
    canary. Nobody in the holdout searches the candidate. Raises InvalidInput for the live index and a wrong plan,
    NotFound for an alias that is not there, and Conflict while the alias has a canary that serves users.
    """
    live = _get_alias(store, alias)
    if candidate == live.index_name:
        raise InvalidInput("index", f"{candidate} is live under {alias} already; choose another one")
    flag = _find_flag(store, environment, canary_key(alias))
    if flag and flag.view.green_pct and not explain_pause(store, flag):
        raise Conflict(f"{flag.key} is at {flag.view.green_pct:g}% already; take its next step, or roll it back first")
    wanted = _define(live, candidate, _plan_metadata(flag, steps, automation, services))
    wanted = hold_out(get_holdout(store, environment), canary_key(alias), wanted)
    check_definition(canary_key(alias), wanted)
    return PlannedIndexCanary(flag, live, IndexArms(alias, live.index_name, candidate, live.version), wanted)


def start_index_canary(
    store: Store, alias: str, candidate: str, by: Act, *,
    steps: str | None = None, automation: Automation | None = None, services: Sequence[str] | None = None,
    unprobed: bool = False,
) -> int:  # fmt: skip
    """Start the canary that `plan_index_canary` describes; return the audit entry's id.

    Raises what that raises, InvalidInput unless the candidate passed a probe against the live index (`unprobed` skips
    this), NotFound for an index that is not there, and Conflict if the alias moves meanwhile.
    """
    planned = plan_index_canary(
        store, alias, candidate, by.environment, steps=steps, automation=automation, services=services
    )
    flag, live = planned.flag, planned.live
    if not unprobed and not (probe := find_fresh_probe(store, candidate, live=live.index_name)).passed:
        raise InvalidInput("index", f"{candidate} did not pass its probe; {probe.summary}")
    with changing(store, by) as change:
        check_arms(change, planned.arms)
        save_definition(change, flag or _empty_flag(change, alias), planned.definition)
        before = flag.definition if flag else None
        change.record(Action.CANARY_PROMOTE, canary_key(alias), before, planned.definition)
    return change.entry_id


def let_candidate_live(store: Store, flag: Flag, arms: IndexArms, by: Act) -> int:
    """Point the alias to the candidate of its canary, which ends it; return the audit entry's id.

    This moves the readers of every environment, also those that name no user. Raises Conflict if the alias was moved.
    """
    told = f"an index canary at {flag.view.green_pct:g}% of users in {flag.environment}"
    return swap_index(store, arms.alias, arms.candidate, by, expected=arms.live, probe=told)


def is_index_canary(flag: Flag) -> bool:
    """Whether the flag is an index canary, by its key, even if its definition cannot be read as one."""
    return alias_of(flag.key) is not None


def find_arms(flag: Flag) -> IndexArms | None:
    """Return the indexes that a canary compares; None for a canary of builds. Raises InvalidInput if unreadable."""
    if not is_index_canary(flag):
        return None
    if (arms := read_arms(flag.key, flag.definition)) is None:
        raise InvalidInput(
            "variants", f"{flag.key} names no two indexes, or no {PINNED}: clients do not follow it; start it again"
        )
    return arms


def explain_pause(store: Store, flag: Flag) -> str:
    """Say why nobody searches the candidate of an index canary, whatever its share; "" if its share does."""
    try:
        arms = find_arms(flag)
    except InvalidInput as error:
        return f"Paused: {error.problem}."
    if arms is None:
        return ""
    found = next((each for each in list_aliases(store) if each.alias == arms.alias), None)
    if found is None or not arms.holds(found.index_name, found.version):
        now = f"points to {found.index_name} since {found.updated:%d %b %Y, %H:%M} UTC" if found else "is gone"
        return (
            f"Paused: {arms.alias} {now}; this canary of {arms.candidate} against {arms.live} began before that, "
            "so everybody searches what it points to. Start the canary again, or remove its flag."
        )
    if arms.candidate not in {index.name for index in list_indexes(store)}:
        return f"Paused: {arms.candidate} is no longer registered, so everybody searches {arms.live}."
    return ""


def check_arms(change: Change, arms: IndexArms) -> None:
    """Lock the candidate and the alias until the change is committed.

    Raises NotFound unless the candidate can be searched, and Conflict if the alias is not as the canary wants it.
    """
    if lock_index(change.connection, arms.candidate) != IndexState.READY:
        raise NotFound(f"index: no index {arms.candidate!r} is registered; build it first")
    live = lock_alias(change.connection, arms.alias)
    if live is None or not arms.holds(live.index_name, live.version):
        raise Conflict(f"alias {arms.alias!r} was moved meanwhile; look again")


def read_index_arms(
    histories: ArmHistories, arms: IndexArms, watched: Watched, **until: Any
) -> tuple[ArmsReading, ...]:
    """Return the readings of the two indexes, called blue and green as the arms of every canary are."""
    by_index = replace(watched, dimension=DIMENSION, arms=(arms.live, arms.candidate))
    names = {arms.live: STABLE, arms.candidate: CANARY}
    return tuple(
        ArmsReading(
            look.start, look.at,
            {names[name]: arm for name, arm in look.arms.items()},
            {names[name]: stretch for name, stretch in look.last.items()},
        )
        for look in histories.read(by_index, **until)
    )  # fmt: skip


def have_one_scale(store: Store, arms: IndexArms) -> bool:
    """Whether one model made the vectors of both indexes; else their scores lie on different scales."""
    return len({index.model for index in list_indexes(store) if index.name in (arms.live, arms.candidate)}) < 2


def is_of_scores(margin: Margin) -> bool:
    """Whether a margin is one of similarity scores, which depend on the model's scale."""
    metric = margin.metric
    return metric is Metric.SCORE or (isinstance(metric, MetricDefinition) and metric.source is MetricSource.SIMILARITY)


def share_rows(flag: Flag, other: Flag) -> bool:
    """Whether two canaries are judged by the same values of the log, which then cannot tell them apart."""
    if not is_index_canary(flag) or not is_index_canary(other):
        return is_index_canary(flag) == is_index_canary(other)
    one, two = read_arms(flag.key, flag.definition), read_arms(other.key, other.definition)
    return bool(one and two and {one.live, one.candidate} & {two.live, two.candidate})


def _define(live: Alias, candidate: str, planned: Mapping[str, Any]) -> dict[str, Any]:
    plan = read_plan(planned, is_canary=True)
    metadata = {**planned, PINNED: live.version, DIMENSION: candidate}
    said = f"Searches {candidate} instead of {live.index_name}, which {live.alias} points to"
    made = canary_flag(plan.steps[0].share_pct if plan else 0.0, description=said, metadata=metadata)
    return {**made, "variants": {STABLE: live.index_name, CANARY: candidate}}


def _plan_metadata(
    flag: Flag | None, steps: str | None, automation: Automation | None, services: Sequence[str] | None
) -> dict[str, Any]:
    """The fields of the canary's plan: those of the last one, and over them what is given."""
    known = dict(flag.view.metadata) if flag else {}
    kept = {"canary_steps": DEFAULT_STEPS} | {name: known[name] for name in known if name.startswith(_PLANNED)}
    given = {
        "canary_steps": steps, "canary_automation": str(automation) if automation else None,
        SERVICES_FIELD: None if services is None else write_services(services),
    }  # fmt: skip
    if services is not None:
        kept.pop(SERVICES_FIELD, None)
    return kept | {name: value for name, value in given.items() if value is not None}


def _get_alias(store: Store, alias: str) -> Alias:
    known = list_aliases(store)
    for each in known:
        if each.alias == alias:
            return each
    names = ", ".join(each.alias for each in known) or "none"
    raise NotFound(f"alias: {alias!r} points to no index yet; there are: {names}")


def _find_flag(store: Store, environment: str, key: str) -> Flag | None:
    return next((flag for flag in list_flags(store, environment) if flag.key == key), None)


def _empty_flag(change: Change, alias: str) -> Flag:
    """The empty place where the canary will be."""
    return Flag(change.act.environment, canary_key(alias), {}, 0, from_ms(change.at_ms), change.act.actor)
