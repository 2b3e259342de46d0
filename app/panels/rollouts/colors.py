"""The blue-green tab of the rollouts page: which color is live, since when, switch and rollback."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from app import ui
from app.panels.shared.rehearsals import render_rehearsal
from app.resources import get_config, get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action, Subject, subject_of, verb_of
from core.audit.trail import AuditFilter, list_audit
from core.deployments.audited import read_release
from core.deployments.colors import Color, Deployment, describe_deployment
from core.deployments.deployments import (
    Sight,
    Site,
    get_deployment,
    list_deployments,
    look,
    open_site,
    resume,
    roll_back,
    switch_color,
    tear_down,
)
from core.deployments.services import load_services
from core.rehearsals.report import rehearse_color

BADGES = {Color.BLUE: "blue", Color.GREEN: "green"}
FIRST = 'quarterdeck deploy release RELEASE --reason "the first"'


def render_colors(environment: str) -> None:
    """Draw the deployment of one service: intended state, observed state, actions, history."""
    here = {service.name: service for service in load_services(get_config().deployments)}
    names = sorted({*here, *(found.service for found in list_deployments(get_store(), environment))})
    if not names:
        ui.render_empty(
            "No service is deployed in two colors yet. Describe one in deployments.yaml (docs/deploying.md), then:",
            FIRST,
            link="",
        )
        return
    name = names[0]
    if len(names) > 1:
        name = st.selectbox("Service", names, key="deployed", bind="query-params") or name
    found = get_deployment(get_store(), environment, name)
    render_state(found)
    if name in here:
        site = open_site(here[name], get_config().home)
        sight = look(site)
        render_sight(found, site, sight)
        render_actions(found, site, sight)
    else:
        st.info(f"{plain(name)} is not defined on this server's machine: switch it where it runs.")
        st.code(f'quarterdeck deploy rollback --service {name} --reason "why"', language=None)
    ui.render_said(f"colors-{found.service}")
    render_history(found)


def render_state(found: Deployment) -> None:
    """The sentence: the intended state."""
    if found.live:
        st.markdown(f":{BADGES[found.live]}-badge[{ui.Mark.LIVE.icon} {found.live} is live]")
    else:
        st.markdown(f":gray-badge[{ui.Mark.UNKNOWN.icon} nothing is live]")
    st.markdown(f"**{plain(describe_deployment(found, now=datetime.now(UTC)))}**")


def render_sight(found: Deployment, site: Site, sight: Sight) -> None:
    """The observed state, and where it differs from the intended one."""
    if sight.proxy_problem:
        st.error(f"**nginx could not be reached** — {plain(sight.proxy_problem)}")
    elif sight.serving is not found.live and found.settled:
        st.error(
            f"**nginx follows {sight.serving or 'no color'}, not {found.live or 'none'} as intended** — somebody "
            "edited the upstream file."
        )
    rows = []
    for color in Color:
        run, running = found.run(color), sight.running[color]
        rows.append(
            {"color": str(color), "traffic": "all" if sight.serving is color else "none",
             "release": run.release if run else "—", "started": run.started if run else None,
             "state": _describe_color(sight, color), "address": site.service.find(color),
             "connections": sight.connections[color] if running else None}
        )  # fmt: skip
    ui.show_table(rows, key="colors-table", file_name="colors.csv")


def render_actions(found: Deployment, site: Site, sight: Sight) -> None:
    """A form for each possible action; each requires a reason."""
    if not found.settled or (sight.serving is not found.live and not sight.proxy_problem):
        render_form(
            Action.DEPLOYMENT_RESUME,
            f"Bring it in line: {found.name(found.live)} gets the traffic",
            found,
            call(resume, site),
        )
        return
    if found.run(found.idle) is None:
        st.caption(f"To bring a new release to {found.idle}, without traffic at first:")
        st.code(f'quarterdeck deploy start RELEASE --service {found.service} --reason "why"', language=None)
        return
    other = found.name(found.idle)
    if found.can_roll_back:
        render_form(
            Action.DEPLOYMENT_ROLLBACK, f"Roll back to {other}", found, call(roll_back, site, seen=found.version)
        )
        render_rehearsal(
            ("color", found.environment, found.service, found.version),
            lambda now: rehearse_color(get_store(), found, now=now), found.environment, key="colors-rehearsal",
        )  # fmt: skip
    else:
        render_form(Action.DEPLOYMENT_SWITCH, f"Switch to {other}", found, call(switch_color, site, seen=found.version))
    with st.expander(f"Take down {plain(other)}"):
        note = "It is kept for a rollback: after this, rolling back needs a new start." if found.can_roll_back else ""
        st.caption(f"Its process ends once it has answered its open requests. {note}")
        render_form(
            Action.DEPLOYMENT_TEARDOWN,
            f"Take down {other}",
            found,
            call(tear_down, site, early=True, seen=found.version),
        )


def call(change: Callable[..., Deployment], site: Site, **options: Any) -> Callable[[str, str], None]:
    """Return a callback that makes a change on the site."""

    def act(reason: str, environment: str) -> None:
        change(get_store(), site, make_act(reason, environment), **options)

    return act


def render_form(action: Action, label: str, found: Deployment, act: Callable[[str, str], None]) -> None:
    """One form: a reason and a button. The outcome is shown on the next run of the page."""
    key = f"colors-{verb_of(action)}-{found.service}-{found.version}"

    def change() -> int:
        act(st.session_state[f"{key}-reason"], found.environment)
        return list_audit(get_store(), AuditFilter(target=found.service, environment=found.environment), limit=1)[
            0
        ].entry_id

    with st.form(key):
        st.text_input("Reason", key=f"{key}-reason", max_chars=500)
        st.form_submit_button(
            plain(label),
            type="primary" if action in (Action.DEPLOYMENT_SWITCH, Action.DEPLOYMENT_ROLLBACK) else "secondary",
            on_click=ui.record_change,
            args=(change,),
            kwargs={
                "effect": "" if action is Action.DEPLOYMENT_TEARDOWN else "nginx follows it.",
                "place": f"colors-{found.service}",
            },
            **lock(action, found.environment),
        )


def render_history(found: Deployment) -> None:
    """The last changes of the service."""
    entries = list_audit(get_store(), AuditFilter(target=found.service, environment=found.environment), limit=10)
    if entries:
        st.caption("Last changes")
        ui.show_table(
            [
                {"when": e.ts, "who": e.actor, "what": verb_of(e.action),
                 "release": read_release(e.before, e.after), "why": e.reason}
                for e in entries if subject_of(e.action) is Subject.DEPLOYMENT
            ],
            key="colors-history", file_name="deployments.csv",
        )  # fmt: skip


def _describe_color(sight: Sight, color: Color) -> str:
    if sight.running[color] is None:
        return f"stopped: {sight.problems[color]}" if sight.problems[color] != "nothing runs" else "stopped"
    return f"not healthy: {sight.problems[color]}" if sight.problems[color] else "healthy"
