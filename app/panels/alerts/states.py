"""The parts of the alerts page that show how alerts stand: the table, one alert with its history, snooze, resolve."""

from datetime import UTC, datetime, timedelta
from functools import partial

import streamlit as st

from app import dialogs, ui
from app.navigation import link_to
from app.panels.alerts.resources import forget_alerts
from app.panels.alerts.rules import offer_changes, say_changes
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.alerts.operations import resolve_alert, snooze_alert
from core.alerts.report import AlertLine, AlertOverview
from core.alerts.rules import say_condition
from core.alerts.states import AlertStatus
from core.audit.actions import Action
from quarterdeck.clock import from_ms

LOOKS = {
    AlertStatus.OK: ui.StatusLook("Quiet", "green", ui.Mark.FINE),
    AlertStatus.WARNING: ui.StatusLook("Warning", "orange", ui.Mark.WATCH),
    AlertStatus.FIRING: ui.StatusLook("Firing", "red", ui.Mark.FIRING),
    AlertStatus.NO_DATA: ui.StatusLook("No data", "orange", ui.Mark.UNKNOWN),
    AlertStatus.RESOLVED: ui.StatusLook("Resolved", "green", ui.Mark.FINE),
    AlertStatus.SNOOZED: ui.StatusLook("Snoozed", "gray", ui.Mark.SNOOZED),
}
_TABLE, _PLACE = "alert-states", "alert-change"
_SNOOZES = {"8 hours": 8, "1 day": 24, "3 days": 72, "1 week": 168, "not at all: bring it back": 0}


def describe_alerts(found: AlertOverview) -> tuple[str, ui.StatusLook]:
    """Return the page's sentence and its look."""
    alarmed = found.alarmed
    if alarmed:
        worst = alarmed[0]
        others = len(alarmed) - 1
        more = f" {others} more {'alert is' if others == 1 else 'alerts are'} on." if others else ""
        return f"{worst.rule.name} about {worst.service}: {worst.state.reason}{more}", LOOKS[worst.shown]
    count, snoozed = len(found.lines), sum(line.shown is AlertStatus.SNOOZED for line in found.lines)
    said = f"{count} {'alert is' if count == 1 else 'alerts are'} quiet"
    return f"{said}, {snoozed} of them snoozed." if snoozed else f"{said}.", LOOKS[AlertStatus.OK]


def render_states(found: AlertOverview) -> None:
    """Every rule about every service, worst first. A click in a row opens its alert."""
    names = tuple(name_of(line) for line in found.lines)
    rows = [
        {
            "state": LOOKS[line.shown].word,
            "rule": line.rule.name,
            "service": "all of them" if line.rule.watched.is_shared else line.service,
            "watches": say_condition(line.rule),
            "value": line.rule.watched.say(line.state.value),
            "since": from_ms(line.state.since_ms) if line.state.since_ms else None,
            "why": line.state.reason,
            "channels": ", ".join(line.rule.channels) or "none",
        }
        for line in found.lines
    ]
    ui.show_table(rows, key=_TABLE, file_name="alerts.csv", **ui.open_by_row(_TABLE, names, key="alert"))


def name_of(line: AlertLine) -> str:
    """Return what an alert goes by, in its choice and in the address."""
    return f"{line.rule.name} · {line.service}"


def render_alert(found: AlertOverview, frame: ui.Frame, services: list[str]) -> None:
    """One alert: its history, and the buttons that snooze or resolve it, and change or remove its rule."""
    lines = {name_of(line): line for line in found.lines}
    chosen = ui.choose_named("Alert", list(lines), key="alert", say_gone=_say_gone)
    if chosen is None:
        say_changes()
        return
    line = lines[chosen]
    render_questions(line, frame.environment)
    with st.container(horizontal=True):
        form = partial(_render_form, line, frame.environment)
        dialogs.offer_dialog("Snooze or resolve it", form, place=_PLACE, icon=":material/snooze:")
        offer_changes(line.rule, found, frame, services)
    ui.render_said(_PLACE)
    say_changes()
    render_history(line)


def _render_form(line: AlertLine, environment: str, place: str) -> None:
    named = plain(name_of(line))
    with st.form("alert-change", border=False):
        left, right = st.columns(2)
        hours = left.selectbox("Snooze for", list(_SNOOZES), help="Until then, channels are told only when it is over.")
        reason = right.text_input("Reason", key="alert_change_reason", max_chars=500)
        with st.container(horizontal=True):
            snoozes = st.form_submit_button("Snooze", type="primary", **lock(Action.ALERT_SNOOZE, environment))
            resolves = st.form_submit_button("Resolve", **lock(Action.ALERT_RESOLVE, environment))
    if snoozes:
        span = timedelta(hours=_SNOOZES[hours])
        is_new = span and line.shown is not AlertStatus.SNOOZED
        dialogs.submit(
            partial(snooze, line, span, reason, environment),
            effect=f"{named} is quiet for {hours}." if span else f"{named} is back.", place=place,
            undo=partial(snooze, line, timedelta(), "undone on the page", environment) if is_new else None,
            forget=forget_alerts,
        )  # fmt: skip
    if resolves:
        dialogs.submit(
            partial(resolve, line, reason, environment), effect=f"{named} is resolved.", place=place,
            forget=forget_alerts,
        )  # fmt: skip


def snooze(line: AlertLine, span: timedelta, reason: str, environment: str) -> int:
    """Put an alert off for some time; none brings it back."""
    now = datetime.now(UTC)
    act = make_act(reason, environment)
    return snooze_alert(get_store(), line.rule.name, line.service, act, until=now + span, now=now)


def resolve(line: AlertLine, reason: str, environment: str) -> int:
    """Call an alert over."""
    act = make_act(reason, environment)
    return resolve_alert(get_store(), line.rule.name, line.service, act, now=datetime.now(UTC))


def render_questions(line: AlertLine, environment: str) -> None:
    """The link to the questions of the service since an alert is on; none for what is about all services."""
    if line.rule.watched.is_shared or line.shown is AlertStatus.OK or not line.state.since_ms:
        return
    since = from_ms(line.state.since_ms).date()
    link_to(
        "questions", f"See the questions of {plain(line.service)} since {ui.format_day(since)}",
        since=since.isoformat(), days="90d", environment=environment, service=line.service,
    )  # fmt: skip


def render_history(line: AlertLine) -> None:
    """The latest changes of an alert's state, newest first."""
    if not line.state.history:
        st.caption("Nothing has happened yet.")
        return
    rows = [
        {
            "when": from_ms(each.at_ms), "state": str(each.status), "value": line.rule.watched.say(each.value),
            "why": each.reason, "by": each.by or "the rule",
        }
        for each in reversed(line.state.history)
    ]  # fmt: skip
    ui.show_table(rows, key="alert-history", file_name="alert-history.csv")


def _say_gone(name: str) -> str:
    return f"There is no alert {plain(ui.shorten(name, 60))} here any more."
