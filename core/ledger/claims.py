"""Rule: what was claimed about changes, as the audit trail keeps it: predictions, and effects measured for good.

A claim is about a thing, named `kind:target` as on the timeline; it holds for the next change of that thing, or for the
change that it names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.audit.actions import Action
from core.causes.timeline import AuditedEntry, ChangeKind, TimelineChange
from core.errors import InvalidInput
from core.ledger.effects import MeasuredEffect
from core.ledger.entries import METRICS, EffectPrediction
from quarterdeck.scope import DEFAULT_SERVICE

UNTOLD = frozenset({ChangeKind.LEVEL, ChangeKind.CORPUS})  # no change of what users get
INDEX_BUILT = "version"  # an index by its name, whichever alias it goes live under
THINGS = (*(str(kind) for kind in ChangeKind if kind not in UNTOLD), INDEX_BUILT)  # the kinds that claims are about
_MOST = 300


@dataclass(frozen=True, slots=True)
class EffectClaim:
    """A prediction: of which thing's next change (`about`), or of the change `change_id`; on a metric of a service."""

    entry_id: int
    at: datetime
    about: str
    service: str
    metric: str
    predicted: EffectPrediction
    change_id: str = ""


@dataclass(frozen=True, slots=True)
class SettledEffect:
    """An effect that was measured for good, as it is kept when the log is purged."""

    change_id: str
    service: str
    metric: str
    measured: MeasuredEffect


def name_change(change: TimelineChange) -> str:
    """Return the id of a change: its audit entry, else its kind, target and time."""
    if change.entry_id is not None:
        return str(change.entry_id)
    return f"{change.kind}:{change.target}:{change.ts.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def name_thing(change: TimelineChange) -> str:
    """Return what a claim about a change is about."""
    return f"{change.kind}:{change.target}"


def check_thing(about: str) -> str:
    """Return a claim's subject. Raises InvalidInput unless it is a known kind, a colon and a target."""
    kind, colon, target = about.partition(":")
    if kind not in THINGS or not colon or not 0 < len(target) <= _MOST or not target.isprintable():
        raise InvalidInput("change", f"must be KIND:NAME, such as flag:new_prompt; kinds are {', '.join(THINGS)}")
    return about


def check_metric(metric: str) -> str:
    """Return a metric. Raises InvalidInput for an unknown one."""
    if metric not in METRICS:
        raise InvalidInput("metric", f"must be one of {', '.join(METRICS)}, not {metric[:80]!r}")
    return metric


def read_claims(entries: Iterable[AuditedEntry], versions: Mapping[str, Sequence[str]]) -> tuple[EffectClaim, ...]:
    """Return the claims of audit entries: of `ledger.predict`, and of `prediction.save` about a corpus version.

    The latter is about each index that was built from the version: `versions` names them. Entries without an interval,
    as earlier releases wrote them, are none.
    """
    claims = []
    for entry in entries:
        after = entry.after or {}
        is_version = entry.action == Action.PREDICTION_SAVE
        predicted = EffectPrediction.read(after.get("score") if is_version else after)
        if predicted is None:
            continue
        service = str(after.get("service") or DEFAULT_SERVICE)
        metric, change_id = str(after.get("metric") or METRICS[0]), str(after.get("change_id") or "")
        built = versions.get(entry.target, ())
        subjects = [f"{INDEX_BUILT}:{index}" for index in built] if is_version else [entry.target]
        claims += [
            EffectClaim(entry.entry_id, entry.ts, about, service, metric, predicted, change_id) for about in subjects
        ]
    return tuple(sorted(claims, key=lambda claim: claim.entry_id))


def read_settled(entries: Iterable[AuditedEntry]) -> dict[tuple[str, str, str], SettledEffect]:
    """Return the settled effects of audit entries by change, service and metric; the first entry of each counts."""
    found: dict[tuple[str, str, str], SettledEffect] = {}
    for entry in entries:
        told = entry.after or {}
        try:
            size, low, high = (float(told[name]) for name in ("size", "low", "high"))
            measured = MeasuredEffect(size, low, high, int(told["before"]), int(told["after"]))
        except (KeyError, TypeError, ValueError):
            continue
        service, metric = str(told.get("service") or DEFAULT_SERVICE), str(told.get("metric") or METRICS[0])
        found.setdefault((entry.target, service, metric), SettledEffect(entry.target, service, metric, measured))
    return found


def write_settled(settled: SettledEffect) -> dict[str, Any]:
    """Return a settled effect as JSON knows it."""
    measured = settled.measured
    return {
        "service": settled.service, "metric": settled.metric, "size": round(measured.size, 5),
        "low": round(measured.low, 5), "high": round(measured.high, 5), "before": measured.before,
        "after": measured.after,
    }  # fmt: skip


def list_things(change: TimelineChange) -> tuple[str, ...]:
    """Return every name under which a claim can be about a change: its own, and the index that went live."""
    live = [f"{INDEX_BUILT}:{value}" for name, value in change.touches if name == "index_version"]
    return (name_thing(change), *(live if change.kind is ChangeKind.INDEX else ()))


def match_claims(
    changes: Sequence[TimelineChange], claims: Sequence[EffectClaim], *, service: str
) -> dict[tuple[str, str], tuple[EffectClaim, ...]]:
    """Return the claims about each change by its id and metric, the one that counts last.

    A claim that names no change is about the next change of its thing. The newest claim made before the change counts;
    without one, the newest that was made afterwards and names the change.
    """
    found: dict[tuple[str, str], list[EffectClaim]] = {}
    used: set[int] = set()
    own = [claim for claim in claims if claim.service == service]
    for change in sorted(changes, key=lambda each: each.ts):
        things, change_id = list_things(change), name_change(change)
        before = [
            claim for claim in own
            if claim.at <= change.ts and claim.entry_id not in used
            and (claim.change_id == change_id if claim.change_id else claim.about in things)
        ]  # fmt: skip
        used.update(claim.entry_id for claim in before)
        after = [claim for claim in own if claim.change_id == change_id and claim.at > change.ts]
        for claim in (*after, *before):
            found.setdefault((change_id, claim.metric), []).append(claim)
    return {name: tuple(listed) for name, listed in found.items()}
