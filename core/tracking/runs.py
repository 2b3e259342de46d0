"""Rule: runs and prompt versions: which of many runs to look at, and in what they differ.

Values only; `gateway.py` reads them.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

PRODUCTION = "production"
LINKED_PROMPTS = "mlflow.linkedPrompts"
LOGGED_ARTIFACTS = "mlflow.loggedArtifacts"
PARENT = "mlflow.parentRunId"
DESCRIPTION = "mlflow.note.content"
MOST_COMPARED = 8
_MOST_TABLES = 4  # files of other names that are read of each run
_LARGEST_TABLE = 20_000_000  # bytes
_OF_CASES = re.compile(r"case|eval|result|question|quer|score|row|table|predict", re.IGNORECASE)
EVALUATED = ("faithfulness_mean", "cost_usd_mean")  # the metrics that a run needs to be compared


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an experiment: the last value of each metric, parameters and tags. `started` is aware UTC."""

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
        """The run's description, such as a decision; "" without one."""
        return self.tags.get(DESCRIPTION, "")

    @property
    def parent(self) -> str:
        """The id of the run that this one is nested in; "" for none."""
        return self.tags.get(PARENT, "")

    @property
    def linked_prompts(self) -> tuple[tuple[str, int], ...]:
        """Names and versions of the registered prompts linked to the run."""
        return parse_links(self.tags.get(LINKED_PROMPTS, "[]"))


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One version of a registered prompt, its aliases, and the runs made with it."""

    name: str
    version: int
    text: str
    aliases: tuple[str, ...]
    commit_message: str
    created: datetime
    run_ids: tuple[str, ...]
    tags: Mapping[str, str]

    @property
    def label(self) -> str:
        """The version's common name, `v3`: that in the prompt's file, else the registry's number."""
        own = self.tags.get("version", "") or str(self.version)
        return f"v{own}" if own.isdigit() else own

    @property
    def spellings(self) -> frozenset[str]:
        """The possible spellings of this version in the retrieval log: `v3`, `3`, `qa-v3`, `qa-3`."""
        short = self.label.removeprefix("v") if self.label[1:].isdigit() else self.label
        return frozenset(each for own in (self.label, short) for each in (own, f"{self.name}-{own}"))


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to read. None does not restrict; `since` is inclusive and `until` is exclusive."""

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
        """The parameters that a run must have, by name."""
        wanted = {"prompt": self.prompt, "version": self.version, "model": self.model}
        return {key: value for key, value in wanted.items() if value is not None}


class SortKind(StrEnum):
    """What runs can be sorted by."""

    STARTED = "started"
    METRIC = "metric"
    PARAM = "param"


@dataclass(frozen=True, slots=True)
class RunSort:
    """The order of runs: by start, or by the metric or parameter `key`. Runs without it come last."""

    kind: SortKind = SortKind.STARTED
    key: str = ""
    descending: bool = True


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of the runs that match a filter. `total` is a lower bound unless `is_counted`."""

    runs: tuple[Run, ...]
    total: int
    is_counted: bool = True


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns in which several runs differ, and what is the same in all of them."""

    metrics: tuple[str, ...]
    params: tuple[str, ...]
    tags: tuple[str, ...]
    same: Mapping[str, str]


def list_differing_params(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the names of the parameters that differ between runs, sorted; a missing one differs.

    >>> list_differing_params([])
    ()
    """
    return _list_differing([run.params for run in runs])


def choose_columns(runs: Sequence[Run]) -> Columns:
    """Return the metrics, parameters and own tags in which the runs differ, the most frequent first.

    A metric that only some runs have differs. MLflow's own tags are left out. For a single run, everything is shown.
    """
    parts: dict[str, list[Mapping[str, str]]] = {
        "metrics": [{name: f"{value:.12g}" for name, value in run.metrics.items()} for run in runs],
        "params": [run.params for run in runs],
        "tags": [{k: v for k, v in run.tags.items() if not k.startswith("mlflow.")} for run in runs],
    }
    if len(runs) == 1:
        return Columns(**{part: tuple(rows[0]) for part, rows in parts.items()}, same={})
    differing = {part: _by_presence(_list_differing(rows), rows) for part, rows in parts.items()}
    same = {
        name: value
        for part in ("params", "metrics")
        for name, value in (parts[part][0] if runs else {}).items()
        if name not in differing[part]
    }
    return Columns(**differing, same=same)


def label_texts(names: Sequence[str], run_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the names, with the start of the run's id where names are equal.

    >>> label_texts(["qa", "qa", "other"], ["0123456789", "abcdefghij", "x"])
    ('qa (012345)', 'qa (abcdef)', 'other')
    """
    often = Counter(names)
    return tuple(
        name if often[name] == 1 else f"{name} ({run_id[:6]})" for name, run_id in zip(names, run_ids, strict=True)
    )


def parse_links(value: str) -> tuple[tuple[str, int], ...]:
    """Return the prompt versions in a run's tag. Anybody can write that tag, so invalid links are skipped."""
    try:
        return tuple((linked["name"], int(linked["version"])) for linked in json.loads(value))
    except (ValueError, KeyError, TypeError):
        return ()


def parse_tables(value: str) -> tuple[str, ...]:
    """Return the files of the tables that MLflow logged, by a run's tag; what is no list of files is skipped."""
    try:
        return tuple(str(each["path"]) for each in json.loads(value) if each.get("type") == "table")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


def choose_json(files: Mapping[str, int]) -> tuple[str, ...]:
    """Return which of a run's files, with their sizes, to read in search of a table of cases, likeliest names first.

    >>> choose_json({"config.json": 90, "per_question.json": 4_000, "MLmodel": 300, "dump.json": 90_000_000})
    ('per_question.json', 'config.json')
    """
    small = [path for path, size in files.items() if path.lower().endswith(".json") and size <= _LARGEST_TABLE]
    return tuple(sorted(small, key=lambda path: (not _OF_CASES.search(path), path)))[:_MOST_TABLES]


def _list_differing(rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    names = {name for row in rows for name in row}
    return tuple(sorted(name for name in names if len({row.get(name) for row in rows}) > 1))


def _by_presence(names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    present = Counter(name for row in rows for name in row)
    return tuple(sorted(names, key=lambda name: (-present[name], name)))
