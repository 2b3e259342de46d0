"""Shell: starts a job and writes its audit entry. Nothing runs in the background without one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.audit.actions import Action
from core.audit.acts import Act, changing, require
from core.errors import Conflict
from core.jobs.jobs import Jobs
from quarterdeck.store import Store


@dataclass(frozen=True, slots=True)
class Launch:
    """What is to run: a job of `kind` about `subject`, a command below `folder`, with settings of its own."""

    kind: str
    subject: str
    command: Sequence[str]
    folder: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


def start_job(store: Store, jobs: Jobs, launch: Launch, by: Act, *, after: dict[str, Any] | None = None) -> int:
    """Start a job; return the audit entry's id. Raises Conflict while one of its kind runs."""
    require(by, Action.JOB_START)
    with changing(store, by) as change:
        jobs.start(
            launch.kind, launch.command, subject=launch.subject, actor=by.actor, folder=launch.folder,
            environ=launch.environ,
        )  # fmt: skip
        try:
            change.record(Action.JOB_START, f"{launch.kind} of {launch.subject}", None, after)
        except BaseException:
            jobs.cancel(launch.kind)
            raise
    return change.entry_id


def cancel_job(store: Store, jobs: Jobs, kind: str, by: Act) -> int:
    """End a job with all that it started; return the audit entry's id. Raises Conflict when none runs."""
    require(by, Action.JOB_CANCEL)
    with changing(store, by) as change:
        job = jobs.find(kind)
        if job is None or not jobs.cancel(kind):
            raise Conflict(f"no {kind} runs any more")
        change.record(Action.JOB_CANCEL, f"{kind} of {job.subject}", None, None)
    return change.entry_id
