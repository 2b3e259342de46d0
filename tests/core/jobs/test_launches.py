"""A job runs after its audit entry was committed: nothing runs without one, and one that did not start says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.errors import Conflict, SourceUnavailable
from core.jobs.jobs import Jobs
from core.jobs.launches import Launch, cancel_job, start_job
from quarterdeck.store import Store

BY = Act("ada", "the new corpus")
SLEEP = Launch("build", "v2", ("/bin/sh", "-c", "sleep 300"))


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path / "jobs")
    yield made
    made.cancel("build")


def trail(store: Store) -> list[tuple[str, str, Any]]:
    """What the audit trail says, oldest first."""
    return [(entry.action, entry.target, entry.after) for entry in list_audit(store)][::-1]


@contextmanager
def failing_commits() -> Iterator[None]:
    """Let every transaction fail when it is to be committed."""

    def fail(_connection: Any) -> None:
        raise SourceUnavailable("the disk is full")

    event.listen(Engine, "commit", fail)
    try:
        yield
    finally:
        event.remove(Engine, "commit", fail)


def test_a_job_runs_once_its_entry_can_be_read(store: Store, jobs: Jobs, tmp_path: Path, url: str) -> None:
    seen: list[list[tuple[str, str, Any]]] = []

    class Looking(Jobs):
        def start(self, *arguments: Any, **options: Any) -> Any:
            other = Store(url)
            seen.append(trail(other))
            other.close()
            return super().start(*arguments, **options)

    entry_id = start_job(store, Looking(tmp_path / "jobs"), SLEEP, BY, after={"stale": ["ingest"]})
    assert seen == [[("job.start", "build of v2", {"stale": ["ingest"]})]]
    assert [entry.entry_id for entry in list_audit(store)] == [entry_id]
    cancel_job(store, jobs, "build", BY)
    assert [action for action, _, _ in trail(store)] == ["job.start", "job.cancel"]


def test_an_entry_that_cannot_be_committed_starts_nothing(store: Store, jobs: Jobs) -> None:
    with failing_commits(), pytest.raises(SourceUnavailable, match="the disk is full"):
        start_job(store, jobs, SLEEP, BY)
    assert jobs.find("build") is None
    assert trail(store) == []


def test_a_start_that_fails_is_taken_back_in_the_trail(store: Store, jobs: Jobs, tmp_path: Path) -> None:
    missing = Launch("build", "v2", ("/bin/true",), folder=tmp_path / "nowhere")
    with pytest.raises(SourceUnavailable) as caught:
        start_job(store, jobs, missing, BY)
    assert trail(store) == [
        ("job.start", "build of v2", None),
        ("job.cancel", "build of v2", {"not_started": str(caught.value)}),
    ]


def test_while_one_runs_another_is_refused_without_an_entry(store: Store, jobs: Jobs) -> None:
    start_job(store, jobs, SLEEP, BY)
    with pytest.raises(Conflict, match="build of v2, started by ada, is already running"):
        start_job(store, jobs, SLEEP, BY)
    assert [action for action, _, _ in trail(store)] == ["job.start"]


def test_two_that_start_at_once_leave_one_running_and_the_other_taken_back(
    store: Store, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_job(store, jobs, SLEEP, BY)
    monkeypatch.setattr(jobs, "check_free", lambda _kind: None)  # the first had not begun when the second looked
    with pytest.raises(Conflict, match="is already running"):
        start_job(store, jobs, SLEEP, Act("bob", "me too"))
    assert [action for action, _, _ in trail(store)] == ["job.start", "job.start", "job.cancel"]
    running = jobs.find("build")
    assert running is not None
    assert running.actor == "ada"
