"""Shell that starts a job and writes its audit entry: nothing runs in the background without one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.acts import Act, changing, require
from core.errors import Conflict
from core.inheritance import USUAL_UMASK
from core.jobs import Jobs
from quarterdeck.store import Store


@dataclass(frozen=True, slots=True)
class Launch:
    """What is to run: a job of `kind` about `subject`, a command below `folder`, with settings of its own.

    A command of the deck itself (`is_own`) has the deck's whole environment; others inherit little of it.
    """

    kind: str
    subject: str
    command: Sequence[str]
    folder: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    is_own: bool = False


def start_job(store: Store, jobs: Jobs, launch: Launch, by: Act, *, after: dict[str, Any] | None = None) -> int:
    """Start a job; return the audit entry's id. Raises Conflict while one of its kind runs."""
    require(by, "job.start")
    with changing(store, by) as change:
        jobs.start(
            launch.kind, launch.command, subject=launch.subject, actor=by.actor, folder=launch.folder,
            environ={**os.environ, **launch.environ} if launch.is_own else launch.environ,
            umask=-1 if launch.is_own else USUAL_UMASK,
        )  # fmt: skip
        try:
            change.record("job.start", f"{launch.kind} of {launch.subject}", None, after)
        except BaseException:
            jobs.cancel(launch.kind)
            raise
    return change.entry_id


def cancel_job(store: Store, jobs: Jobs, kind: str, by: Act) -> int:
    """End a job with all that it started; return the audit entry's id. Raises Conflict when none runs."""
    require(by, "job.cancel")
    with changing(store, by) as change:
        job = jobs.find(kind)
        if job is None or not jobs.cancel(kind):
            raise Conflict(f"no {kind} runs any more")
        change.record("job.cancel", f"{kind} of {job.subject}", None, None)
    return change.entry_id
