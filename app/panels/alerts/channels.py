"""The parts of the alerts page about channels: the table, adding, testing and removing one, and the deliveries."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import streamlit as st

from app import dialogs, ui
from app.panels.alerts.resources import forget_alerts
from app.resources import get_config, get_store
from app.text import plain
from app.visitor import lock, make_act
from core.alerts.channels import Channel, ChannelKind
from core.alerts.operations import delete_channel, resend_message, save_channel, try_channel
from core.alerts.queue import SendOutcome
from core.alerts.report import AlertOverview, ChannelDelivery, count_undelivered
from core.audit.actions import Action
from core.wording.counts import count_of
from quarterdeck.clock import from_ms

_KINDS = {
    "Signed webhook": ChannelKind.WEBHOOK,
    "Alertmanager's webhook format": ChannelKind.ALERTMANAGER,
    "Slack, Teams, mail, PagerDuty and others": ChannelKind.APPRISE,
}
_SAVED, _TRIED, _SENT = "alert-channel", "alert-test", "alert-resend"  # where outcomes are said
_HELP = "An http(s) address; for the others one that apprise understands, like mailtos:// or slack://."


def render_channels(found: AlertOverview, environment: str) -> None:
    """The channels, and the buttons that add, test and remove one."""
    channels = found.book.channels
    if channels:
        names = {kind: name for name, kind in _KINDS.items()}
        rows = [{"channel": each.name, "kind": names[each.kind], "goes to": each.shown} for each in channels]
        columns = {"goes to": st.column_config.TextColumn(help="The rest of an address is a secret, and is not shown.")}
        ui.show_table(rows, key="alert-channels", file_name="alert-channels.csv", column_config=columns)
    else:
        st.caption("There is no channel yet: alerts are shown here, and nobody is told.")
    with st.container(horizontal=True):
        dialogs.offer_dialog(
            "Add or change a channel", partial(_render_form, environment), place=_SAVED, icon=":material/add:"
        )
        if channels:
            dialogs.offer_dialog(
                "Test or remove a channel",
                partial(_render_test, [channel.name for channel in channels], environment),
                place=_TRIED,
                icon=":material/send:",
            )
    ui.render_said(_SAVED)
    ui.render_said(_TRIED)


def render_deliveries(found: Sequence[ChannelDelivery], problems: Sequence[str], environment: str) -> None:
    """Every message: whether it arrived, when it is tried again, and why it did not."""
    for problem in problems:
        st.warning(plain(problem))
    if not found:
        st.caption("No message was sent yet.")
        return
    retried, given_up = count_undelivered(found)
    told = [f"{count_of(retried, 'message')} failed so far and will be tried again"] if retried else []
    told += [f"{count_of(given_up, 'message')} could not be delivered within three days"] if given_up else []
    if told:
        st.caption(f"{'; '.join(told)}.")
    rows = [
        {
            "when": from_ms(each.delivery.made_ms), "channel": each.channel, "number": each.delivery.number,
            "message": each.delivery.title, "outcome": str(each.delivery.outcome), "attempts": each.delivery.attempts,
            "next attempt": _find_next(each), "problem": each.delivery.problem,
        }
        for each in found
    ]  # fmt: skip
    ui.show_table(rows, key="alert-deliveries", file_name="alert-deliveries.csv")
    open_ones = [each for each in found if each.delivery.message is not None]
    if open_ones:
        dialogs.offer_dialog(
            "Send a message again", partial(_render_resend, open_ones, environment), place=_SENT,
            icon=":material/redo:",
        )  # fmt: skip
    ui.render_said(_SENT)


def _find_next(each: ChannelDelivery) -> datetime | None:
    waits = each.delivery.outcome is SendOutcome.WAITING
    return from_ms(max(each.delivery.next_ms, each.delivery.made_ms)) if waits else None


def _render_form(environment: str, place: str) -> None:
    with st.form("alert-channel", border=False):
        left, right = st.columns(2)
        name = left.text_input("Channel name", max_chars=100)
        kind = right.selectbox("Kind", list(_KINDS))
        address = left.text_input("Address", type="password", max_chars=2_000, help=_HELP)
        secret = right.text_input("Secret that signs a webhook", type="password", max_chars=200)
        reason = st.text_input("Reason", key="alert_channel_reason", max_chars=500)
        saves = st.form_submit_button("Save channel", type="primary", **lock(Action.ALERT_CHANNEL, environment))
    if saves:

        def save() -> int:
            channel = Channel(name, _KINDS[kind], address.strip(), secret)
            return save_channel(get_store(), channel, make_act(reason, environment))

        said = "The address and the secret are not shown again."
        dialogs.submit(save, effect=said, place=place, forget=forget_alerts)


def _render_test(names: list[str], environment: str, place: str) -> None:
    with st.form("alert-test", border=False):
        left, right = st.columns(2)
        name = left.selectbox("Channel", names)
        reason = right.text_input("Reason", key="alert_test_reason", max_chars=500)
        with st.container(horizontal=True):
            tries = st.form_submit_button("Send a test", type="primary", **lock(Action.ALERT_TEST, environment))
            removes = st.form_submit_button("Remove channel", **lock(Action.ALERT_CHANNEL_DELETE, environment))
    if tries:

        def test() -> int:
            base, act = get_config().access.public_url, make_act(reason, environment)
            return try_channel(get_store(), name, act, now=datetime.now(UTC), base=base)

        dialogs.submit(test, effect=f"{plain(name)} took the message.", place=place, forget=forget_alerts)
    if removes:

        def remove() -> int:
            return delete_channel(get_store(), name, make_act(reason, environment))

        dialogs.submit(remove, effect=f"{plain(name)} is removed.", place=place, forget=forget_alerts)


def _render_resend(found: Sequence[ChannelDelivery], environment: str, place: str) -> None:
    named = {f"{each.channel} {each.delivery.number}: {each.delivery.title}": each for each in found}
    with st.form("alert-resend", border=False):
        chosen = named[st.selectbox("Message", list(named))]
        reason = st.text_input("Reason", key="alert_resend_reason", max_chars=500)
        sends = st.form_submit_button("Send again", type="primary", **lock(Action.ALERT_RESEND, environment))
    if sends:

        def resend() -> int:
            act, number = make_act(reason, environment), chosen.delivery.number
            return resend_message(get_store(), chosen.channel, number, act, now=datetime.now(UTC))

        said = "The server sends it within some seconds."
        dialogs.submit(resend, effect=said, place=place, forget=forget_alerts)
