"""Rule: turns what any source recorded into dated changes in plain words, with the part of the log each can affect.

Audit entries, corpus versions and prompt versions come in as values: `changes.py` reads them, and `causes.py` decides
which change explains a drop.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Any, Protocol

from core.errors import InvalidInput
from core.tracking.runs import PRODUCTION, PromptVersion
from quarterdeck.definitions import read_rules, read_weights, rollout_pct

DIMENSIONS = ("arm", "prompt_version", "index_version")
MOST_AN_HOUR = 12
_ARMS = {"blue", "green"}
_NO_VERSION = "none"


class ChangeKind(StrEnum):
    """What was changed. `level` is somebody accepting a level of scores: shown, and never a cause."""

    FLAG = "flag"
    CANARY = "canary"
    EXPERIMENT = "experiment"
    INDEX = "index"
    CORPUS = "corpus"
    PROMPT = "prompt"
    DEPLOYMENT = "deployment"
    LEVEL = "level"


@dataclass(frozen=True, slots=True)
class TimelineChange:
    """One dated change. `touches` names the segments of the log it acts on; () means that they are not known.

    Values of one dimension in `touches` are alternatives. `reach` is the largest share (0 to 1) of users for whom
    anything can have changed: 0 for an index that was only built. `entry_id` is the audit entry, for the way back.
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


class AuditedEntry(Protocol):
    """What is read of an audit entry."""

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
    """What is read of a corpus version; the counts compare it with the version before and may be unknown."""

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
    """Return the change that an audit entry stands for, or None for one that changes nothing in the product.

    A flag tells which segment it acts on by a metadata entry named like a dimension, `{"prompt_version": "v3"}`; a
    canary acts on the arm green.
    """
    family, _, verb = entry.action.partition(".")
    describe = {
        "flag": _describe_flag,
        "canary": _describe_flag,
        "experiment": _describe_experiment,
        "index": _describe_index,
        "prompt": _describe_prompt,
        "deployment": _describe_deployment,
        "drift": _describe_level,
    }.get(family)
    if describe is None:
        return None
    kind, summary, touches, reach = describe(verb, entry)
    return TimelineChange(
        entry.ts, kind, entry.target, summary, entry.actor, entry.reason, touches, entry.entry_id, reach
    )


def fold_changes(changes: Iterable[TimelineChange]) -> tuple[TimelineChange, ...]:
    """Return the changes, with those of one thing that changed over twelve times within an hour of the clock as one.

    It has the time, the reason and the audit entry of the last of them.
    """
    hours: defaultdict[tuple[ChangeKind, str, datetime], list[TimelineChange]] = defaultdict(list)
    for change in changes:
        hours[change.kind, change.target, change.ts.replace(minute=0, second=0, microsecond=0)].append(change)
    folded = ([_fold(same)] if len(same) > MOST_AN_HOUR else same for same in hours.values())
    return tuple(chain.from_iterable(folded))


def summarize_versions(versions: Iterable[CommittedVersion]) -> tuple[TimelineChange, ...]:
    """Return a change a corpus version. What users get changes only once an index of it is live."""
    return tuple(
        TimelineChange(
            v.committed, ChangeKind.CORPUS, v.name, _say_version(v), v.author, v.message.partition("\n")[0].strip()
        )
        for v in versions
    )


def summarize_prompts(prompts: Iterable[PromptVersion]) -> tuple[TimelineChange, ...]:
    """Return a change a prompt version, at the time of its registration.

    MLflow does not say when an alias was moved: the version in production may have gone live at any time since.
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
        summary=f"{last.target} changed over {MOST_AN_HOUR} times within an hour, at last: {last.summary}",
        actor=", ".join(sorted({change.actor for change in changes})),
        touches=tuple(dict.fromkeys(touched for change in changes for touched in change.touches)),
        reach=max(change.reach for change in changes),
    )


_Told = tuple[ChangeKind, str, tuple[tuple[str, str], ...], float]


def _describe_flag(_verb: str, entry: AuditedEntry) -> _Told:
    definition = entry.after or entry.before or {}
    canary = set(definition.get("variants") or ()) == _ARMS
    kind = ChangeKind.CANARY if canary else ChangeKind.FLAG
    metadata = definition.get("metadata") or {}
    named = tuple((dimension, str(metadata[dimension])) for dimension in DIMENSIONS if dimension in metadata)
    touches = named or ((("arm", "green"),) if canary else ())
    name = f"canary {entry.target}" if canary else entry.target
    summary, reach = _compare_flags(name, entry.before, entry.after)
    return kind, summary, touches, reach


def _describe_experiment(verb: str, entry: AuditedEntry) -> _Told:
    """Its start and its stop move nobody; a decision reaches those who get another variant now."""
    before, after = entry.before or {}, entry.after or {}
    told = after.get("experiment")
    if verb == "start" and isinstance(told, Mapping):
        others = ", ".join(arm for arm in told["arms"] if arm != told["control"])
        summary = f"experiment {told['name']} started on {entry.target}: {told['metric']} of {others}"
        return ChangeKind.EXPERIMENT, f"{summary} against {told['control']}", (), 0.0
    if verb == "stop":
        return ChangeKind.EXPERIMENT, f"experiment {told} on {entry.target} stopped", (), 0.0
    shares = (before.get("flag") or {}, after.get("flag") or {})
    summary = f"experiment {told} decided: everybody gets {after.get('winner')} of {entry.target}"
    return ChangeKind.EXPERIMENT, summary, (), _compare_flags(entry.target, *shares)[1]


def _compare_flags(name: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> tuple[str, float]:
    """What changed between two definitions in words, and the share of users that it can have reached."""
    old, new = _share_on(before), _share_on(after)
    reach = 1.0 if old is None or new is None else abs(new - old) / 100
    if before is None:
        return f"{name} created{_at(after, new)}", 0.0 if not _is_on(after) else reach
    if after is None:
        return f"{name} deleted{f', was at {old:g}%' if old else ''}", 0.0 if not _is_on(before) else reach
    if _is_on(before) != _is_on(after):
        return f"{name} switched {'on' + _at(after, new) if _is_on(after) else 'off'}", reach
    served = 1.0 if _is_on(after) else 0.0
    if read_rules(before) != read_rules(after):
        return f"{name}: rules changed", served
    if old is not None and new is not None and old != new:
        verb = "rolled out" if new > old else "rolled back"
        return f"{name} {verb} from {old:g}% to {new:g}%", reach * served
    weights = _weights(before), _weights(after)
    if weights[0] and weights[1] and weights[0] != weights[1]:
        moved = sum(abs(weights[1].get(v, 0) - weights[0].get(v, 0)) for v in {*weights[0], *weights[1]}) / 200
        return f"{name}: shares from {_say_shares(weights[0])} to {_say_shares(weights[1])}", moved * served
    changed = [part for part in ("variants", "defaultVariant", "targeting") if before.get(part) != after.get(part)]
    if not changed:
        return f"{name}: description changed, nothing else", 0.0
    words = {"variants": "variants", "defaultVariant": "default", "targeting": "rules"}
    return f"{name}: {' and '.join(words[part] for part in changed)} changed", served


def _is_on(definition: Mapping[str, Any] | None) -> bool:
    return bool(definition) and (definition or {}).get("state") == "ENABLED"


def _share_on(definition: Mapping[str, Any] | None) -> float | None:
    """Percent of users who get what the flag brings: none where there is no flag or it is off; None if unknown."""
    if definition is None or not _is_on(definition):
        return 0.0
    return rollout_pct(definition)


def _at(definition: Mapping[str, Any] | None, share: float | None) -> str:
    if not _is_on(definition):
        return ", switched off"
    return "" if share is None else f" at {share:g}%"


def _weights(definition: Mapping[str, Any]) -> dict[str, float]:
    """The shares of an A/B split in percent; empty for a flag that is none."""
    try:
        return {name: weight / 1000 for name, weight in read_weights(definition).items()}
    except InvalidInput:
        return {}


def _say_shares(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:g}%" for name, share in weights.items())


def _describe_index(verb: str, entry: AuditedEntry) -> _Told:
    after = entry.after or {}
    if verb == "swap":
        new, old = after.get("index"), (entry.before or {}).get("index")
        summary = f"{entry.target} swapped from {old} to {new}" if old else f"{entry.target} set to {new}"
        return ChangeKind.INDEX, summary, (("index_version", str(new)),), 1.0
    if verb == "register":
        built = (
            f"index {entry.target} built from corpus {after.get('corpus_version')}: {after.get('chunks', 0):,} chunks"
        )
        return ChangeKind.INDEX, built, (("index_version", entry.target),), 0.0
    return ChangeKind.INDEX, f"index {entry.target}: {verb}", (), 0.0  # what is live is never retired nor removed


def _describe_prompt(verb: str, entry: AuditedEntry) -> _Told:
    """A promotion or its roll-back; with a flag, it reaches those for whom the flag changed."""
    before, after = entry.before or {}, entry.after or {}
    new, old = _label(after), _label(before)
    verbs = {"promote": f"{new} promoted", "rollback": f"rolled back to {new}"}
    was = f", was {old}" if old != _NO_VERSION else ""
    summary, reach = f"prompt {entry.target} {verbs.get(verb, verb)}{was}", 1.0
    if flag := after.get("flag"):
        said, reach = _compare_flags(flag["key"], (before.get("flag") or {}).get("definition"), flag.get("definition"))
        summary = f"{summary}; {said}"
    touched = old if verb == "rollback" else new
    return ChangeKind.PROMPT, summary, _prompt_touches(touched) if touched != _NO_VERSION else (), reach


def _label(side: Mapping[str, Any]) -> str:
    return str(side.get("label") or (f"v{side['version']}" if side.get("version") is not None else _NO_VERSION))


def _prompt_touches(version: str) -> tuple[tuple[str, str], ...]:
    number = version.removeprefix("v")
    return (("prompt_version", f"v{number}"), ("prompt_version", number))


def _describe_deployment(verb: str, entry: AuditedEntry) -> _Told:
    before, after = entry.before or {}, entry.after or {}
    if verb == "resume":
        return ChangeKind.DEPLOYMENT, f"{entry.target} made to follow {_say_color(after)} again", (), 0.0
    if verb in ("switch", "rollback"):
        word = "switched" if verb == "switch" else "rolled back"
        origin = f" from {_say_color(before)}" if before else ""
        return ChangeKind.DEPLOYMENT, f"{entry.target} {word}{origin} to {_say_color(after)}", (), 1.0
    summary = {
        "start": f"{after.get('release')} started in {after.get('in')}, without traffic",
        "fail": f"{before.get('release')} failed in {before.get('in')}, without traffic",
        "teardown": f"{before.get('release')} taken down in {before.get('in')}",
    }.get(verb, verb)
    return ChangeKind.DEPLOYMENT, f"{entry.target}: {summary}", (), 0.0


def _say_color(told: Mapping[str, Any]) -> str:
    if not told:
        return "no color"
    color = told.get("color") or told["colour"]  # entries of earlier releases spell it so
    return f"{color} ({told['release']})" if told.get("release") else str(color)


def _describe_level(_verb: str, entry: AuditedEntry) -> _Told:
    since = (entry.after or {}).get("accepted_on", "today")
    return ChangeKind.LEVEL, f"level accepted as normal from {since}", (), 0.0


def _say_version(version: CommittedVersion) -> str:
    counts = (
        (version.added, "+{} file{s}"), (version.removed, "−{} file{s}"), (version.modified, "{} modified"),
        (version.renamed, "{} renamed"),
    )  # fmt: skip
    told = [text.format(count, s="" if count == 1 else "s") for count, text in counts if count]
    return f"corpus {version.name} committed{': ' + ', '.join(told) if told else ''}"
