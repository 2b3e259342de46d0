"""What an experiment run and a prompt version are, and the rule that says in what several runs differ.

Values only: where they are read from is known to `core.experiments`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an experiment: its last value of each metric, its parameters and tags. `started` is aware UTC."""

    run_id: str
    name: str
    experiment: str
    status: str
    started: datetime
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    artifact_uri: str

    @property
    def description(self) -> str:
        """The text that people wrote about this run, a decision for instance; empty when nobody did."""
        return self.tags.get("mlflow.note.content", "")


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One version of a registered prompt, the aliases that point at it, and the runs that were made with it."""

    name: str
    version: int
    text: str
    aliases: tuple[str, ...]
    commit_message: str
    created: datetime
    run_ids: tuple[str, ...]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to read. An absent field does not restrict; `since` is inclusive and `until` is not."""

    experiment: str | None = None
    prompt: str | None = None
    version: str | None = None
    model: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    tag: tuple[str, str] | None = None

    @property
    def params(self) -> Mapping[str, str]:
        """The parameters that a run must carry, by name."""
        wanted = {"prompt": self.prompt, "version": self.version, "model": self.model}
        return {key: value for key, value in wanted.items() if value is not None}


def list_differing_params(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the names of the parameters that are not the same in all runs, sorted; a missing one differs.

    >>> list_differing_params([])
    ()
    """
    names = {name for run in runs for name in run.params}
    return tuple(sorted(name for name in names if len({run.params.get(name) for run in runs}) > 1))
