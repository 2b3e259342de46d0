"""Shell: runs `dvc repro` in the background and says in one line how it ended.

A repository has one rebuild at a time, whichever server or user started it: the job lies in the repository itself.
"""

import os
import re
import sys
from pathlib import Path

from core.audit.actions import Action
from core.audit.acts import Act, require
from core.corpus.corpus import WORKSPACE, Corpus
from core.corpus.leftovers import remove_leftovers
from core.errors import InvalidInput
from core.jobs.jobs import Job, Jobs, JobState
from core.jobs.launches import Launch, cancel_job, start_job
from core.safety.boundary import refuse_links
from quarterdeck.store import Store

KIND = "rebuild"
_COMMAND = (sys.executable, "-m", "dvc", "repro")
_QUIET = {"DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0"}

# DVC's messages on failure, and their meaning for a person.
_ENDS = (
    (r"Unable to acquire lock", "DVC's lock is held: another DVC process is running in this repository; wait for it"),
    (
        r"is busy, it is being blocked by:\s{0,20}\(PID (\d{1,9})\)",
        "DVC's lock is held: process {} is using the same files",
    ),
    (r"missing data 'source': (.{1,500})", "{} is not in the working copy; run there: dvc pull"),
    (
        r"failed to reproduce '(.{1,200}?)': failed to run: .{0,2000}, exited with (\d{1,9})",
        "stage {} failed with exit code {}",
    ),
    (r"failed to reproduce '(.{1,200}?)': (.{1,500})", "stage {} failed: {}"),
    (r"^ERROR: (.{1,500})", "{}"),
)


def jobs_of(corpus: Corpus) -> Jobs:
    """Return the jobs that lie in the repository.

    Raises InvalidInput when it has no working copy, SourceUnavailable when a link leads their folder elsewhere.
    """
    if corpus.root is None:
        raise InvalidInput(
            "corpus", "a repository without a working copy cannot be rebuilt: clone it, and set its path"
        )
    folder = corpus.root / ".dvc" / "tmp" / "quarterdeck"
    refuse_links(corpus.root, folder)
    return Jobs(folder)


def find_rebuild(corpus: Corpus) -> Job | None:
    """Return the running or last rebuild, or None."""
    return jobs_of(corpus).find(KIND)


def start_rebuild(store: Store, corpus: Corpus, by: Act) -> int:
    """Run `dvc repro` in the background; return the audit entry's id.

    First removes what a killed DVC process left in its lock. Raises SourceUnavailable for an invalid `.dvc` file or
    pipeline, InvalidInput when there is nothing to run, and Conflict while another rebuild of the repository runs.
    """
    require(by, Action.JOB_START)
    jobs = jobs_of(corpus)
    corpus.list_files(WORKSPACE)  # reports a broken .dvc file or missing data
    if not corpus.list_stages():
        raise InvalidInput("pipeline", "dvc.yaml has no stages to run")
    stale = [stage.name for stage in corpus.list_stale_stages()]
    if corpus.root is not None:
        remove_leftovers(corpus.root)
    launch = Launch(
        KIND, str(corpus.location), _COMMAND, corpus.root, _QUIET | {"PATH": _path_with_our_programs()}
    )  # fmt: skip
    return start_job(store, jobs, launch, by, after={"stale": stale})


def cancel_rebuild(store: Store, corpus: Corpus, by: Act) -> int:
    """Stop the rebuild and all its processes; return the audit entry's id. Raises Conflict if none runs."""
    return cancel_job(store, jobs_of(corpus), KIND, by)


def explain_end(job: Job, log: str) -> str:
    """Return in one line how a rebuild ended."""
    if job.state is JobState.CANCELLED:
        return "it was canceled; the interrupted stage is stale"
    if job.state is JobState.CUT_OFF:
        return "it was interrupted: its processes were killed, or the machine stopped; start it again"
    if job.state is JobState.DONE:
        return "everything is up to date" if "up to date" in log else "every stage ran; commit dvc.lock to keep this"
    for pattern, words in _ENDS:
        found = re.search(pattern, log, re.MULTILINE)
        if found:
            return words.format(*(" ".join(group.split()) for group in found.groups()))
    return job.last_line or "it failed without a message"


def _path_with_our_programs() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
