"""Shell that sets what each prompt version does in production beside what its evaluation promised."""

from dataclasses import dataclass

from core.log.retrievals import Log, Window, list_live_figures
from core.log.values import LiveFigures
from core.tracking.gateway import Tracking
from core.tracking.runs import PRODUCTION, PromptVersion, Run, RunFilter

NEWEST_QUERIES = 200_000
_LOOKED_AT = 1_000


@dataclass(frozen=True, slots=True)
class VersionBehavior:
    """One version: its newest evaluated run, and its queries in the log. Either may be missing; so may the version.

    `label` is what the log or the registry calls it; `prompt` is None for a version that no registry knows.
    """

    label: str
    prompt: PromptVersion | None
    offline: Run | None
    live: LiveFigures | None

    @property
    def is_in_production(self) -> bool:
        """Whether the alias `production` points at it."""
        return self.prompt is not None and PRODUCTION in self.prompt.aliases


@dataclass(frozen=True, slots=True)
class BehaviorReport:
    """Every version with its figures, the newest registered first; `queries` of the window were read.

    `is_cut` tells that the window holds more queries than were read: the figures are then those of the newest.
    """

    versions: tuple[VersionBehavior, ...]
    queries: int
    is_cut: bool


def report_behavior(log: Log, tracking: Tracking, name: str, *, experiment: str, window: Window) -> BehaviorReport:
    """Return what each version of a prompt does in production. Raises SourceUnavailable.

    A version is recognized in the log by `v3`, `3`, `qa-v3` or `qa-3`; what is spelled otherwise has a line of its own.
    """
    live = {row.value: row for row in list_live_figures(log, "prompt_version", window, most=NEWEST_QUERIES)}
    newest = _newest_runs(tracking, name, experiment)
    found = []
    for prompt in tracking.list_prompts(name, with_runs=False):
        # Services that spell one version in two ways keep two lines: means cannot be told apart once they are mixed.
        spelled: list[LiveFigures | None] = [live.pop(value) for value in sorted(prompt.spellings) if value in live]
        offline = newest.get((prompt.name, prompt.version))
        found += [VersionBehavior(prompt.label, prompt, offline, row) for row in spelled or [None]]
    found += [VersionBehavior(row.value, None, None, row) for row in live.values()]
    queries = sum(each.live.queries for each in found if each.live)
    return BehaviorReport(tuple(found), queries, queries >= NEWEST_QUERIES)


def _newest_runs(tracking: Tracking, name: str, experiment: str) -> dict[tuple[str, int], Run]:
    newest: dict[tuple[str, int], Run] = {}
    for run in tracking.list_runs(RunFilter(experiment, prompt=name), limit=_LOOKED_AT):
        if run.is_evaluated:
            for link in run.linked_prompts:
                newest.setdefault(link, run)
    return newest
