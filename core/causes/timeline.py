"""Rule: turns what any source recorded into dated changes in plain words, with the part of the log each can affect.

Audit entries, corpus versions and prompt versions come in as values: `changes.py` reads them, and `causes.py` decides
which change explains a drop.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from core.audit.actions import Action, Subject, subject_of, verb_of
from core.deployments.audited import IdleState, LiveState
from core.drift.audited import AcceptedLevel
from core.flags.definition import FlagDefinition
from core.indexes.audited import BuildState, SwapState
from core.prompts.audited import NO_VERSION, ProductionState
from core.rollouts.audited import ExperimentAudit
from core.tracking.runs import PRODUCTION, PromptVersion
from quarterdeck.index_canaries import read_arms

DIMENSIONS = ("arm", "prompt_version", "index_version")
MOST_AN_HOUR = 12
_ARMS = {"blue", "green"}


class ChangeKind(StrEnum):
    """What was changed. `level` is an accepted level of scores: shown, but never a cause."""

    FLAG = "flag"
    CANARY = "canary"
    EXPERIMENT = "experiment"
    INDEX = "index"
    CORPUS = "corpus"
    PROMPT = "prompt"
    DEPLOYMENT = "deployment"
    RELEASE = "release"
    FEED = "feed outage"
    PUSH = "push"
    OUTSIDE = "outside change"
    LEVEL = "level"


@dataclass(frozen=True, slots=True)
class TimelineChange:
    """One dated change. `touches` names the segments of the log that it affects; () means unknown.

    Values of one dimension in `touches` are alternatives. `reach` is the largest share (0 to 1) of users who can have
    been affected: 0 for an index that was only built. `entry_id` is the audit entry, used to undo it. `url` leads to
    the change in the system that reported it.
    """

    ts: datetime
    kind: ChangeKind
    target: str
    summary: str
    actor: str
    reason: str
    touches: tuple[tuple[str, str], ...] = ()
    entry_id: int | None = None
    reach: float = 1.0
    url: str = ""


class AuditedEntry(Protocol):
    """The fields of an audit entry that are read here."""

    @property
    def entry_id(self) -> int: ...
    @property
    def ts(self) -> datetime: ...
    @property
    def actor(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def before(self) -> dict[str, Any] | None: ...
    @property
    def after(self) -> dict[str, Any] | None: ...


class CommittedVersion(Protocol):
    """The fields of a corpus version that are read here; counts compare it with the one before and may be None."""

    @property
    def name(self) -> str: ...
    @property
    def committed(self) -> datetime: ...
    @property
    def author(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def added(self) -> int | None: ...
    @property
    def removed(self) -> int | None: ...
    @property
    def modified(self) -> int | None: ...
    @property
    def renamed(self) -> int | None: ...


def summarize_audit(entry: AuditedEntry) -> TimelineChange | None:
    """Return the change that an audit entry describes, or None if it changes nothing in the product.

    A flag names the segment that it affects by a metadata entry named like a dimension, `{"prompt_version": "v3"}`; a
    canary affects the arm green.
    """
    subject = subject_of(entry.action)
    if subject is None or subject not in _DESCRIBE or entry.action in (Action.PROMPT_MAP, Action.DRIFT_MAP):
        return None
    kind, summary, touches, reach = _DESCRIBE[subject](entry)
    return TimelineChange(
        entry.ts, kind, entry.target, summary, entry.actor, entry.reason, touches, entry.entry_id, reach
    )


def put_in_zone(changes: Iterable[TimelineChange], zone: str) -> tuple[TimelineChange, ...]:
    """Return the changes with their times in an IANA zone, so that their dates are those of its days."""
    info = ZoneInfo(zone)
    return tuple(replace(change, ts=change.ts.astimezone(info)) for change in changes)


def fold_changes(changes: Iterable[TimelineChange]) -> tuple[TimelineChange, ...]:
    """Merge the changes of any one thing that changed over twelve times within a clock hour into one change.

    It has the time, the reason and the audit entry of the last of them.
    """
    hours: defaultdict[tuple[ChangeKind, str, datetime], list[TimelineChange]] = defaultdict(list)
    for change in changes:
        hours[change.kind, change.target, change.ts.replace(minute=0, second=0, microsecond=0)].append(change)
    folded = ([_fold(same)] if len(same) > MOST_AN_HOUR else same for same in hours.values())
    return tuple(chain.from_iterable(folded))


def summarize_versions(versions: Iterable[CommittedVersion]) -> tuple[TimelineChange, ...]:
    """Return one change per corpus version. Users notice it only once an index of it is live."""
    return tuple(
        TimelineChange(
            v.committed, ChangeKind.CORPUS, v.name, _say_version(v), v.author, v.message.partition("\n")[0].strip()
        )
        for v in versions
    )


def summarize_prompts(prompts: Iterable[PromptVersion]) -> tuple[TimelineChange, ...]:
    """Return one change per prompt version, at the time of its registration.

    MLflow does not record when an alias was moved: the production version may have gone live at any time since.
    """
    changes = []
    for prompt in prompts:
        live = PRODUCTION in prompt.aliases
        summary = f"prompt {prompt.name} {prompt.label} registered{', now in production' if live else ''}"
        changes.append(
            TimelineChange(
                prompt.created, ChangeKind.PROMPT, prompt.name, summary, prompt.tags.get("mlflow.user", ""),
                prompt.commit_message, _prompt_touches(prompt.label), reach=1.0 if live else 0.0,
            )
        )  # fmt: skip
    return tuple(changes)


def _fold(changes: Sequence[TimelineChange]) -> TimelineChange:
    last = max(changes, key=lambda change: (change.ts, change.entry_id or 0))
    return replace(
        last,
        summary=f"{last.target} changed over {MOST_AN_HOUR} times within an hour; the last change: {last.summary}",
        actor=", ".join(sorted({change.actor for change in changes})),
        touches=tuple(dict.fromkeys(touched for change in changes for touched in change.touches)),
        reach=max(change.reach for change in changes),
    )


_Told = tuple[ChangeKind, str, tuple[tuple[str, str], ...], float]


def _describe_flag(entry: AuditedEntry) -> _Told:
    definition = FlagDefinition(entry.after or entry.before or {})
    canary = definition.own_variants == _ARMS
    kind = ChangeKind.CANARY if canary else ChangeKind.FLAG
    said = definition.metadata
    named = tuple((dimension, str(said[dimension])) for dimension in DIMENSIONS if dimension in said)
    touches = named or ((("arm", "green"),) if canary else ())
    name = f"canary {entry.target}" if canary else entry.target
    arms = [read_arms(entry.target, side) for side in (entry.before, entry.after)]
    is_new = arms[1] is not None and arms[0] != arms[1]  # the one before was over, or paused: it served nobody
    summary, reach = _compare_flags(name, None if is_new else entry.before, entry.after)
    return kind, f"{summary} with {arms[1].candidate}" if is_new and arms[1] else summary, touches, reach


def _describe_experiment(entry: AuditedEntry) -> _Told:
    """Start and stop affect nobody; a decision affects the users who get another variant now."""
    before, after = ExperimentAudit.read(entry.before), ExperimentAudit.read(entry.after)
    if entry.action != Action.EXPERIMENT_DECIDE:
        return ChangeKind.EXPERIMENT, _say_experiment(entry, after), (), 0.0
    summary = f"experiment {after.name} decided: everybody gets {after.winner} of {entry.target}"
    return ChangeKind.EXPERIMENT, summary, (), _compare_flags(entry.target, before.flag or {}, after.flag or {})[1]


def _say_experiment(entry: AuditedEntry, after: ExperimentAudit) -> str:
    """How an experiment began, or ended without a choice."""
    if entry.action == Action.EXPERIMENT_START:
        started, design = f"experiment {after.name} started on {entry.target}", after.design
        others = ", ".join(design.treatments) if design else ""
        return f"{started}: {design.metric} of {others} against {design.control}" if design else started
    verb = "stopped" if entry.action == Action.EXPERIMENT_STOP else verb_of(entry.action)
    return f"experiment {after.name} on {entry.target} {verb}"


def _compare_flags(name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[str, float]:
    """Return what changed between two definitions in words, and the largest share of users affected."""
    old, new = FlagDefinition(before or {}), FlagDefinition(after or {})
    was, is_now = old.share_pct, new.share_pct
    reach = 1.0 if was is None or is_now is None else abs(is_now - was) / 100
    if before is None:
        return f"{name} created{_at(new)}", reach if new.is_on else 0.0
    if after is None:
        return f"{name} deleted{f', was at {was:g}%' if was else ''}", reach if old.is_on else 0.0
    if old.is_on != new.is_on:
        return f"{name} switched {'on' + _at(new) if new.is_on else 'off'}", reach
    served = 1.0 if new.is_on else 0.0
    if old.rules != new.rules:
        return f"{name}: rules changed", served
    if was is not None and is_now is not None and was != is_now:
        verb = "rolled out" if is_now > was else "rolled back"
        return f"{name} {verb} from {was:g}% to {is_now:g}%", reach * served
    said, reach = _compare_targeting(old, new)
    return f"{name}: {said}", reach * served


def _compare_targeting(old: FlagDefinition, new: FlagDefinition) -> tuple[str, float]:
    """What else differs in what two definitions serve, and the share of users that it can have reached."""
    if old.weights and new.weights and old.weights != new.weights:
        moved = sum(abs(new.weights.get(v, 0) - old.weights.get(v, 0)) for v in {*old.weights, *new.weights}) / 200
        return f"shares from {_say_shares(old.weights)} to {_say_shares(new.weights)}", moved
    words = {"variants": "variants", "defaultVariant": "default", "targeting": "rules"}
    changed = [word for part, word in words.items() if old.raw.get(part) != new.raw.get(part)]
    return (f"{' and '.join(changed)} changed", 1.0) if changed else ("only the description changed", 0.0)


def _at(definition: FlagDefinition) -> str:
    if not definition.is_on:
        return ", switched off"
    return "" if definition.share_pct is None else f" at {definition.share_pct:g}%"


def _say_shares(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:g}%" for name, share in weights.items())


def _describe_index(entry: AuditedEntry) -> _Told:
    if entry.action == Action.INDEX_SWAP and (new := SwapState.read(entry.after)):
        old = SwapState.read(entry.before)
        moved = f"swapped from {old.index} to {new.index}" if old else f"set to {new.index}"
        return ChangeKind.INDEX, f"{entry.target} {moved}", (("index_version", new.index),), 1.0
    if entry.action == Action.INDEX_REGISTER:
        built = BuildState.read(entry.after)
        summary = f"index {entry.target} built from corpus {built.corpus_version}: {built.chunks:,} chunks"
        return ChangeKind.INDEX, summary, (("index_version", entry.target),), 0.0
    # what is live is never retired nor removed
    return ChangeKind.INDEX, f"index {entry.target}: {verb_of(entry.action)}", (), 0.0


def _describe_prompt(entry: AuditedEntry) -> _Told:
    """A promotion or rollback; with a flag, it affects the users for whom the flag changed."""
    before, after = ProductionState.read(entry.before), ProductionState.read(entry.after)
    new, old = after.partly or after.name, before.name
    promoted = f"{new} to a part of the users" if after.partly else f"{new} promoted"
    done: dict[str, str] = {Action.PROMPT_PROMOTE: promoted, Action.PROMPT_ROLLBACK: f"rolled back to {new}"}
    was = f", was {old}" if old != NO_VERSION else ""
    summary, reach = f"prompt {entry.target} {done.get(entry.action, verb_of(entry.action))}{was}", 1.0
    if after.flag:
        former = before.flag.definition if before.flag else None
        said, reach = _compare_flags(after.flag.key, former, after.flag.definition)
        summary = f"{summary}; {said}"
    touched = old if entry.action == Action.PROMPT_ROLLBACK else new
    return ChangeKind.PROMPT, summary, _prompt_touches(touched) if touched != NO_VERSION else (), reach


def _prompt_touches(version: str) -> tuple[tuple[str, str], ...]:
    number = version.removeprefix("v")
    return (("prompt_version", f"v{number}"), ("prompt_version", number))


def _describe_deployment(entry: AuditedEntry) -> _Told:
    if entry.action in (Action.DEPLOYMENT_SWITCH, Action.DEPLOYMENT_ROLLBACK, Action.DEPLOYMENT_RESUME):
        before, live = LiveState.read(entry.before), LiveState.read(entry.after) or "no color"
        if entry.action == Action.DEPLOYMENT_RESUME:
            return ChangeKind.DEPLOYMENT, f"{entry.target} made to follow {live} again", (), 0.0
        word = "switched" if entry.action == Action.DEPLOYMENT_SWITCH else "rolled back"
        origin = f" from {before}" if before else ""
        return ChangeKind.DEPLOYMENT, f"{entry.target} {word}{origin} to {live}", (), 1.0
    words: dict[str, str] = {
        Action.DEPLOYMENT_START: "started in {}, without traffic",
        Action.DEPLOYMENT_FAIL: "failed in {}, without traffic",
        Action.DEPLOYMENT_TEARDOWN: "taken down in {}",
    }
    run = IdleState.read(entry.after) or IdleState.read(entry.before)
    done = f"{run.release} {words[entry.action].format(run.color)}" if run and entry.action in words else ""
    return ChangeKind.DEPLOYMENT, f"{entry.target}: {done or verb_of(entry.action)}", (), 0.0


def _describe_level(entry: AuditedEntry) -> _Told:
    level = AcceptedLevel.read(entry.after)
    since = level.accepted_on.isoformat() if level else "today"
    return ChangeKind.LEVEL, f"level accepted as normal from {since}", (), 0.0


_DESCRIBE: Mapping[Subject, Callable[[AuditedEntry], _Told]] = {
    Subject.FLAG: _describe_flag,
    Subject.CANARY: _describe_flag,
    Subject.EXPERIMENT: _describe_experiment,
    Subject.INDEX: _describe_index,
    Subject.PROMPT: _describe_prompt,
    Subject.DEPLOYMENT: _describe_deployment,
    Subject.DRIFT: _describe_level,
}


def _say_version(version: CommittedVersion) -> str:
    counts = (
        (version.added, "+{} file{s}"), (version.removed, "−{} file{s}"), (version.modified, "{} modified"),
        (version.renamed, "{} renamed"),
    )  # fmt: skip
    told = [text.format(count, s="" if count == 1 else "s") for count, text in counts if count]
    return f"corpus {version.name} committed{': ' + ', '.join(told) if told else ''}"
