"""Rule: which vector indexes are kept: what an alias pointed to over time, and what may be removed.

Names and times in, names out; the swaps come from `registry.py`, and `builds.py` removes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

KEEP = 3
GRACE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Swap:
    """An alias was pointed to `index` instead of `former` (None: it was new)."""

    at: datetime
    former: str | None
    index: str
    is_rollback: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """An index that stays, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Retention:
    """What may be removed, longest unused first, and what is kept."""

    removable: tuple[str, ...]
    kept: tuple[Kept, ...]


def former_indexes(swaps: Sequence[Swap]) -> tuple[str, ...]:
    """Return what an alias can be rolled back to, the next first. `swaps` are all swaps of the alias, oldest first.

    A rollback undoes a swap and is not one itself, so the second in a row goes further back.

    >>> from datetime import UTC, datetime
    >>> day = datetime(2026, 3, 1, tzinfo=UTC)
    >>> former_indexes([Swap(day, None, "v1"), Swap(day, "v1", "v2"), Swap(day, "v2", "v3")])
    ('v2', 'v1')
    >>> former_indexes([Swap(day, None, "v1"), Swap(day, "v1", "v2"), Swap(day, "v2", "v1", is_rollback=True)])
    ()
    """
    stood: list[str] = []
    for swap in swaps:
        if swap.is_rollback and swap.index in stood:
            while stood[-1] != swap.index:
                stood.pop()
        else:
            stood.append(swap.index)
    live = stood.pop() if stood else None
    return tuple(name for name in dict.fromkeys(reversed(stood)) if name != live)


def decide_retention(
    built: Mapping[str, datetime],
    live: Iterable[str],
    swaps: Iterable[Sequence[Swap]],
    *,
    now: datetime,
    keep: int = KEEP,
    grace: timedelta = GRACE,
    canaried: Iterable[str] = (),
    left: Mapping[str, datetime] | None = None,
) -> Retention:
    """Return which of the indexes `built` (name -> when) may be removed.

    Keeps every index that an alias points to or would be rolled back to, the `keep` last used others, and those built
    or live within `grace`, whose name a reader may still have. `swaps` are those of each alias, oldest first.
    `canaried` are the indexes that canaries compare, `left` those that they searched, and until when.
    """
    histories = [tuple(each) for each in swaps]
    reasons = dict.fromkeys(canaried, "an index canary compares it") | dict.fromkeys(live, "live")
    for history in histories:
        former = next((name for name in former_indexes(history) if name in built), None)
        if former:
            reasons.setdefault(former, "an alias can be rolled back to it")
    used = dict(built)
    for swap in (swap for history in histories for swap in history):
        for name in (swap.former, swap.index):
            if name in used:
                used[name] = max(used[name], swap.at)
    for name, at in (left or {}).items():
        if name in used:
            used[name] = max(used[name], at)
    resting = sorted((name for name in built if reasons.get(name) != "live"), key=lambda name: used[name], reverse=True)
    for name in resting[:keep]:
        reasons.setdefault(name, f"one of the last {keep}")
    for name in resting[keep:]:
        if used[name] > now - grace:
            reasons.setdefault(name, "used recently")
    removable = tuple(name for name in reversed(resting) if name not in reasons)
    return Retention(removable, tuple(Kept(name, reasons[name]) for name in sorted(reasons) if name in built))
