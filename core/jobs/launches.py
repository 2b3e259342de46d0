"""Shell: starts a job and writes its audit entry. Nothing runs in the background without one."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.audit.actions import Action
from core.audit.acts import Act, changing, require
from core.errors import Conflict, QuarterdeckError
from core.jobs.jobs import Jobs
from core.safety.inheritance import USUAL_UMASK
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run: a job of `kind` about `subject`, its command, folder and environment.

    A command of the deck itself (`is_own`) has the deck's whole environment; others inherit little of it.
    """

    kind: str
    subject: str
    command: Sequence[str]
    folder: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    is_own: bool = False


def start_job(store: Store, jobs: Jobs, launch: Launch, by: Act, *, after: dict[str, Any] | None = None) -> int:
    """Start a job; return the audit entry's id. Raises Conflict while a job of the same kind runs.

    The entry is committed first, then the job starts. A start that fails gets a second entry with the reason.
    """
    require(by, Action.JOB_START)
    jobs.check_free(launch.kind)
    target = f"{launch.kind} of {launch.subject}"
    with changing(store, by) as change:
        change.record(Action.JOB_START, target, None, after)
    try:
        jobs.start(
            launch.kind, launch.command, subject=launch.subject, actor=by.actor, folder=launch.folder,
            environ={**os.environ, **launch.environ} if launch.is_own else launch.environ,
            umask=-1 if launch.is_own else USUAL_UMASK,
        )  # fmt: skip
    except QuarterdeckError as error:
        _record_failure(store, by, target, str(error))
        raise
    return change.entry_id


def _record_failure(store: Store, by: Act, target: str, problem: str) -> None:
    """Record that a job did not start. If that fails too, it is only logged: the caller raises the first error."""
    try:
        with changing(store, by) as change:
            change.record(Action.JOB_CANCEL, target, None, {"not_started": problem})
    except QuarterdeckError as error:
        logger.warning("%s did not start, and no audit entry says so: %s", target, error)


def cancel_job(store: Store, jobs: Jobs, kind: str, by: Act) -> int:
    """Stop a job and all its processes; return the audit entry's id. Raises Conflict when none runs."""
    require(by, Action.JOB_CANCEL)
    with changing(store, by) as change:
        job = jobs.find(kind)
        if job is None or not jobs.cancel(kind):
            raise Conflict(f"no {kind} is running")
        change.record(Action.JOB_CANCEL, f"{kind} of {job.subject}", None, None)
    return change.entry_id
