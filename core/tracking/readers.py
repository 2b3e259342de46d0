"""Gateway to the readers of an MLflow store: what a reader answers, and which one an address gets.

A database is read by SQL (`core.tracking.sql`), a server through MLflow's client (`core.tracking.client`). Both are
held to the same answers by `tests/core/tracking/test_readers.py`, and so is a new one, once `open_reader` opens it and
the test has a store for it.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from core.tracking.addresses import is_server
from core.tracking.client import TrackingHttpReader
from core.tracking.runs import PromptVersion, Run, RunFilter, RunPage, RunSort
from core.tracking.sql import TrackingSqlReader
from core.tracking.tables import AssessedTrace


class TrackingReader(Protocol):
    """Reads the experiments, runs and prompts of one MLflow store, and never writes to it nor migrates it.

    Every method raises SourceUnavailable, in one line, for a store that cannot be read.
    """

    uri: str

    def list_experiments(self) -> tuple[str, ...]:
        """Return the names of the active experiments, sorted."""

    def list_runs(self, where: RunFilter, sort: RunSort, *, limit: int, offset: int) -> tuple[Run, ...]:
        """Return up to `limit` active runs of active experiments that pass the filter, in that order."""

    def count_runs(self, where: RunFilter) -> int:
        """Return how many active runs pass the filter."""

    def page_runs(self, where: RunFilter, sort: RunSort, *, limit: int, offset: int) -> RunPage:
        """Return one page of the runs that pass the filter, and how many there are, as far as that can be told."""

    def get_runs(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        """Return those of the runs that there are, in the order given."""

    def get_alias(self, name: str, alias: str) -> int | None:
        """Return the version of a registered model that the alias points at, or None."""

    def list_prompts(self, name: str | None = None, *, with_runs: bool = True) -> tuple[PromptVersion, ...]:
        """Return every version of every prompt (or of the one named), by name and then newest version first.

        Without `with_runs`, their `run_ids` are empty, and the answer does not take longer with more runs.
        """

    def list_assessed(self, runs: Sequence[Run]) -> Mapping[str, tuple[AssessedTrace, ...]]:
        """Return the assessed traces of these runs, by run id; runs without any are left out."""


def open_reader(uri: str) -> TrackingReader:
    """Return what reads this tracking URI: http(s), sqlite or postgresql. Opened by its first use."""
    return TrackingHttpReader(uri) if is_server(uri) else TrackingSqlReader(uri)
