"""Shell: compares what each prompt version does in production with what its evaluation promised."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from core.log.retrievals import (
    Log,
    ScopeDays,
    Window,
    calendar_of,
    find_newest,
    list_live_figures,
    list_scopes,
    list_user_sums,
)
from core.log.values import LiveFigures, UserRow, add_figures
from core.prompts.live import LiveDifference, compare_live
from core.tracking.conventions import read_evaluation
from core.tracking.gateway import Tracking
from core.tracking.runs import PRODUCTION, PromptVersion, Run, RunFilter
from quarterdeck.scope import EVERYTHING, Scope

NEWEST_QUERIES = 200_000
_LOOKED_AT = 1_000
_DIMENSION = "prompt_version"


@dataclass(frozen=True, slots=True)
class VersionBehavior:
    """One version: its newest evaluated run and its queries in the log; either may be missing.

    `differences` compare it with the report's `compared_with`, figure by figure, on the days that both answered.

    `label` is its name in the log or the registry; `prompt` is None if the version is not registered.
    """

    label: str
    prompt: PromptVersion | None
    offline: Run | None
    live: LiveFigures | None
    differences: tuple[LiveDifference, ...] = ()

    @property
    def is_in_production(self) -> bool:
        """Whether the alias `production` points to it."""
        return self.prompt is not None and PRODUCTION in self.prompt.aliases


@dataclass(frozen=True, slots=True)
class BehaviorReport:
    """Every version with its figures, the newest registered first; `queries` counts the queries read of the window.

    `is_cut` says that the window has more queries than were read; the figures are then of the newest ones.
    `compared_with` is the version that the others are compared with: the one in production, else the one with most
    queries; None where only one answers.
    """

    versions: tuple[VersionBehavior, ...]
    queries: int
    is_cut: bool
    compared_with: VersionBehavior | None = None


def report_behavior(
    log: Log, tracking: Tracking, name: str, *, experiment: str, window: Window, scope: Scope = EVERYTHING
) -> BehaviorReport:
    """Return how each version of a prompt performs in production. Raises SourceUnavailable.

    The log may call a version `v3`, `3`, `qa-v3` or `qa-3`; any other spelling gets a row of its own. Queries of
    services that do not use the prompt are left out.
    """
    prompts = tracking.list_prompts(name, with_runs=False)
    scopes = _find_users(log, window, scope, frozenset().union(*(prompt.spellings for prompt in prompts)))
    live = _read_live(log, window, scopes)
    newest = _newest_runs(tracking, name, experiment)
    found = []
    for prompt in prompts:
        # Services that spell one version in two ways keep two rows: mixed means could not be separated again.
        spelled: list[LiveFigures | None] = [live.pop(value) for value in sorted(prompt.spellings) if value in live]
        offline = newest.get((prompt.name, prompt.version))
        found += [VersionBehavior(prompt.label, prompt, offline, row) for row in spelled or [None]]
    found += [VersionBehavior(row.value, None, None, row) for row in live.values()]
    queries = sum(each.live.queries for each in found if each.live)
    named = [each for each in found if each.live and each.live.value]
    known = [each for each in named if each.is_in_production] or named
    first = max(known, key=lambda each: each.live.queries if each.live else 0) if len(named) > 1 else None
    if first:
        found = _compare_all(log, found, first, window, scopes)
    return BehaviorReport(tuple(found), queries, queries >= NEWEST_QUERIES, first)


def _find_users(log: Log, window: Window, scope: Scope, spellings: frozenset[str]) -> tuple[Scope, ...]:
    """Return the scopes whose services named a version of the prompt in a window.

    Where none did, those that named any version; where nobody names versions, the whole `scope`.
    """
    within = [each for each in list_scopes(log) if scope.environment in ("", each.environment)]
    if scope.service or len(within) < 2:
        return (scope,)
    named = {
        each: {value for value, _ in ScopeDays(log, each).read(_DIMENSION, None, window)} - {""} for each in within
    }
    users = [each for each, values in named.items() if values & spellings]
    return tuple(users or [each for each, values in named.items() if values]) or (scope,)


def _read_live(log: Log, window: Window, scopes: Iterable[Scope]) -> dict[str, LiveFigures]:
    """Return the figures of all scopes together, by version."""
    live: dict[str, LiveFigures] = {}
    for scope in scopes:
        for row in list_live_figures(log, _DIMENSION, window, most=NEWEST_QUERIES, scope=scope):
            live[row.value] = add_figures(live[row.value], row) if row.value in live else row
    return live


def _compare_all(
    log: Log, versions: list[VersionBehavior], first: VersionBehavior, window: Window, scopes: Sequence[Scope]
) -> list[VersionBehavior]:
    """Compare each version with the first one, over the newest NEWEST_QUERIES of the window in each scope."""
    values = [each.live.value for each in versions if each.live and each.live.value]
    rows: list[UserRow] = []
    for scope in scopes:
        start_ms, end_ms = find_newest(log, window, most=NEWEST_QUERIES, scope=scope)
        span = {"start_ms": start_ms, "end_ms": end_ms}
        rows += list_user_sums(log, _DIMENSION, values, **span, hourly=True, scope=scope)
    calendar, other = calendar_of(log, scopes[0]), first.live.value if first.live else ""
    return [
        replace(each, differences=compare_live(rows, each.live.value, other, day_of=calendar.day_of))
        if each.live and each.live.value in values and each.live.value != other
        else each
        for each in versions
    ]


def _newest_runs(tracking: Tracking, name: str, experiment: str) -> dict[tuple[str, int], Run]:
    newest: dict[tuple[str, int], Run] = {}
    for run in tracking.list_runs(RunFilter(experiment), limit=_LOOKED_AT):
        if read_evaluation(run).faithfulness is not None:
            for link in run.linked_prompts:
                if link[0] == name:
                    newest.setdefault(link, run)
    return newest
