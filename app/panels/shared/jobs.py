"""The status of a background job, for any panel: progress and log while it runs, and how it ended."""

from collections.abc import Callable
from functools import partial

import streamlit as st

from app import ui
from app.background import cancel_command, start_command
from app.looks import Mark, StatusLook
from app.resources import get_config, get_jobs
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.jobs.jobs import Job, Jobs, JobState

_LOOKS = {
    JobState.RUNNING: StatusLook("runs", "blue", Mark.RUNNING),
    JobState.DONE: StatusLook("done", "green", Mark.FINE),
    JobState.FAILED: StatusLook("failed", "red", Mark.FAILED),
    JobState.CANCELLED: StatusLook("canceled", "gray", Mark.ENDED),
    JobState.CUT_OFF: StatusLook("interrupted", "orange", Mark.WARNING),
}


def render_command(kind: str, title: str, *, explain: Callable[[Job, str], str] | None = None) -> Job | None:
    """Draw the last job of a kind that runs our own command line, as `render_job` does."""
    return render_job(get_jobs(), kind, title, cancel=partial(_cancel_command, kind), explain=explain)


def start(kind: str, *arguments: str, subject: str, reason: str) -> None:
    """Run a command of ours in the background. Call it from a callback, before the page's script runs."""
    act = partial(make_act, reason, get_config().environment)
    ui.record_change(lambda: start_command(kind, *arguments, subject=subject, act=act()), place=place_of(kind))


def place_of(kind: str) -> str:
    """Where it is said what became of starting and of canceling a job: above its status."""
    return f"job-{kind}"


def _cancel_command(kind: str) -> int:
    return cancel_command(kind, make_act("canceled on the page", get_config().environment))


def render_job(
    jobs: Jobs,
    kind: str,
    title: str,
    *,
    cancel: Callable[[], int],
    explain: Callable[[Job, str], str] | None = None,
) -> Job | None:
    """Draw the last job of a kind, if there was one, and return it. It continues when the page is closed.

    `explain` words how it ended, from its log; without it, the log's last line is shown. `cancel` ends it and
    returns the audit entry's id.
    """
    ui.render_said(place_of(kind))
    job = jobs.find(kind)
    if job is None:
        return None
    if job.state is JobState.RUNNING:
        _watch(jobs, kind, title, cancel)
    else:
        log = jobs.read_log(kind)
        _render_badge(job, title, explain(job, log) if explain else last_line(job))
        if log:
            with st.expander("Log"):
                st.code(log, language=None, height=240 if log.count("\n") > 8 else "content")
    return job


@st.fragment(run_every=1.0)
def _watch(jobs: Jobs, kind: str, title: str, cancel: Callable[[], int]) -> None:
    """Draw a running job, refreshed every second; the page reruns when it ends."""
    job = jobs.find(kind)
    if job is None or job.state is not JobState.RUNNING:
        st.rerun()
        return
    _render_badge(job, title, "")
    if job.step and job.step.total:
        step = job.step
        st.progress(min(1.0, step.done / step.total), f"{plain(step.name)}: {step.done:,} of {step.total:,}")
    log = jobs.read_log(kind)
    if log:
        st.code(log, language=None, height=240)
    st.button(
        "Cancel",
        key=f"cancel-{kind}",
        on_click=ui.record_change,
        args=(cancel,),
        kwargs={"place": place_of(kind)},
        **lock(Action.JOB_CANCEL, get_config().environment),
    )


def _render_badge(job: Job, title: str, said: str) -> None:
    when = f"started {ui.format_ago(job.started)}" if job.ended is None else f"ended {ui.format_ago(job.ended)}"
    who = f"{plain(title)} of {plain(job.subject)}, {when}, by {plain(job.actor)}"
    st.markdown(
        f"{_LOOKS[job.state].badge} {who}{': ' + plain(said) if said else ''}",
        help=ui.say_instant(job.ended or job.started),
    )


def last_line(job: Job) -> str:
    """How a command of ours ended: the last line that it printed."""
    if job.state is JobState.CUT_OFF:
        return "its process was killed, or the machine stopped; start it again"
    return "" if job.state is JobState.CANCELLED else job.last_line.removeprefix("quarterdeck: ")
