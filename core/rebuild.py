"""Shell that lets `dvc repro` run in the background, and says in one line how that ended.

One rebuild of a repository at a time, whichever server or user started it: the job lies in the repository itself.
"""

import os
import re
import sys
from pathlib import Path

from core.acts import Act, require
from core.boundary import refuse_links
from core.corpus import WORKSPACE, Corpus
from core.errors import InvalidInput
from core.jobs import Job, Jobs, JobState
from core.launches import Launch, cancel_job, start_job
from core.leftovers import remove_leftovers
from quarterdeck.store import Store

KIND = "rebuild"
_COMMAND = (sys.executable, "-m", "dvc", "repro")
_QUIET = {"DVC_NO_ANALYTICS": "1", "GIT_TERMINAL_PROMPT": "0"}

# What DVC prints about why it stopped, and what a person needs to know of it.
_ENDS = (
    (r"Unable to acquire lock", "DVC's lock is held: another DVC program works in this repository; wait for it to end"),
    (
        r"is busy, it is being blocked by:\s{0,20}\(PID (\d{1,9})\)",
        "DVC's lock is held: process {} works on the same files",
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
    """Return the rebuild that runs or ran last, None before the first."""
    return jobs_of(corpus).find(KIND)


def start_rebuild(store: Store, corpus: Corpus, by: Act) -> int:
    """Run `dvc repro` in the background; return the audit entry's id.

    What a killed DVC left of its lock is removed first. Raises SourceUnavailable when a `.dvc` file or the pipeline
    cannot be understood, InvalidInput when there is nothing to run, and Conflict while another rebuild of the
    repository runs.
    """
    require(by, "job.start")
    jobs = jobs_of(corpus)
    corpus.list_files(WORKSPACE)  # names a broken .dvc file, or data that are not there
    if not corpus.list_stages():
        raise InvalidInput("pipeline", "there is no stage in dvc.yaml to run")
    stale = [stage.name for stage in corpus.list_stale_stages()]
    if corpus.root is not None:
        remove_leftovers(corpus.root)
    launch = Launch(
        KIND, str(corpus.location), _COMMAND, corpus.root, _QUIET | {"PATH": _path_with_our_programs()}
    )  # fmt: skip
    return start_job(store, jobs, launch, by, after={"stale": stale})


def cancel_rebuild(store: Store, corpus: Corpus, by: Act) -> int:
    """End the rebuild with all that it started; return the audit entry's id. Raises Conflict when none runs."""
    return cancel_job(store, jobs_of(corpus), KIND, by)


def explain_end(job: Job, log: str) -> str:
    """Return in one line how a rebuild ended."""
    if job.state is JobState.CANCELLED:
        return "it was cancelled; the stage that ran is stale"
    if job.state is JobState.CUT_OFF:
        return "it was cut off: its processes were killed, or the machine stopped; start it again"
    if job.state is JobState.DONE:
        return "everything is up to date" if "up to date" in log else "every stage ran; commit dvc.lock to keep that"
    for pattern, words in _ENDS:
        found = re.search(pattern, log, re.MULTILINE)
        if found:
            return words.format(*(" ".join(group.split()) for group in found.groups()))
    return job.last_line or "it failed without a word"


def _path_with_our_programs() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
