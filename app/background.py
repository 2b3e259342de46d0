"""Runs commands of our own command line in the background, on behalf of the visitor of a page."""

import sys

from app.commands.common import PROGRESS
from app.resources import get_config, get_jobs, get_store
from core.audit.acts import Act
from core.jobs.launches import Launch, cancel_job, start_job


def start_command(kind: str, *arguments: str, subject: str, act: Act) -> int:
    """Run `quarterdeck ARGUMENTS` in the background; return the audit entry's id.

    Raises Conflict while a command of that kind runs.
    """
    settings = {
        PROGRESS: "lines",
        "PYTHONUNBUFFERED": "1",
        "QUARTERDECK_DATABASE_URL": get_config().database_url,
        "QUARTERDECK_ENVIRONMENT": act.environment,
        "QUARTERDECK_OPERATOR": act.actor,
    }
    command = (sys.executable, "-m", "quarterdeck", *arguments)
    return start_job(get_store(), get_jobs(), Launch(kind, subject, command, environ=settings, is_own=True), act)


def cancel_command(kind: str, act: Act) -> int:
    """Cancel the command of that kind; return the audit entry's id. Raises Conflict when none runs."""
    return cancel_job(get_store(), get_jobs(), kind, act)
