"""The page Alerts: a channel, a rule with its backtest, what fires, and what became of the messages."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from streamlit.testing.v1 import AppTest

from app.panels.alerts.resources import forget_alerts
from core.alerts.book import read_book
from core.alerts.channels import Channel, ChannelKind
from core.alerts.checking import check_alerts
from core.alerts.operations import save_alert_rule, save_channel
from core.alerts.rules import AlertKind, AlertRule, LimitSide
from core.audit.acts import Act
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.core.alerts.receivers import SECRET, Listener
from tests.pages.opening import HOSTILE, assert_shown_as_text, open_page, shown_text, text_of, verdict

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]
ME = Act("ada", "because")


@pytest.fixture
def failing(empty_url: str) -> Iterator[Store]:
    """A log of 40 days in which a quarter failed yesterday, and ten days before."""
    store, now = Store(empty_url), datetime.now(UTC)
    append_retrievals(
        store,
        [
            Retrieval(
                now - timedelta(days=ago, seconds=n), f"q{n}", None if fails else 0.7, error=fails,
                scope=Scope("production", "answers"),
            )
            for ago in range(1, 41)
            for n in range(20)
            for fails in [ago in (1, 10) and n < 5]
        ],
    )  # fmt: skip
    yield store
    store.close()


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def fill(app: AppTest, **texts: str) -> None:
    for label, text in texts.items():
        next(field for field in app.text_input if field.label == label.replace("_", " ")).input(text)


def test_a_rule_is_tried_on_the_past_saved_and_fires(failing: Store) -> None:
    with Listener() as listener:
        app = open_page("alerts", environment="production")
        assert verdict(app).startswith("No rule watches anything here yet.")
        app = press(app, "Add or change a channel")
        fill(app, Channel_name="ops", Address=listener.url, Secret_that_signs_a_webhook=SECRET)
        next(field for field in app.text_input if field.key == "alert_channel_reason").input("on call")
        app = press(app, "Save channel")
        assert "not shown again" in app.success[0].value
        app = press(open_page("alerts", environment="production"), "Test or remove a channel")
        next(field for field in app.text_input if field.key == "alert_test_reason").input("try it")
        app = press(app, "Send a test")
        assert "took the message" in app.success[0].value and len(listener.requests) == 1
    app = press(open_page("alerts", environment="production"), "New rule")
    next(box for box in app.selectbox if box.label == "Metric").select("failed_share")
    app.run()
    fill(app, Name="failures")
    next(field for field in app.number_input if field.label == "Alert at").set_value(0.1)
    next(box for box in app.multiselect if box.label == "Channels").select("ops")
    app = press(app, "Backtest")
    assert not app.exception
    assert "It would have alerted 2 times in 90 days" in shown_text(app)
    assert "Expected false alarms:" in shown_text(app)
    next(field for field in app.text_input if field.label == "Reason").input("they matter")
    app = press(app, "Save rule")
    assert [text_of(said.value).partition(". ")[2] for said in app.success] == ["The rule is checked within a minute."]
    press(app, "Undo")
    assert read_book(failing, "production").rules == ()
    press(app, "Undo")
    check_alerts(failing, "production", now=datetime.now(UTC))
    forget_alerts()
    app = open_page("alerts", environment="production")
    assert verdict(app).startswith("failures about answers: Share that failed was 25.0% on ")
    links = [each.proto.label for each in app.get("page_link")]
    assert sum(label.startswith("See the questions of answers since ") for label in links) == 1
    app = press(app, "Snooze or resolve it")
    next(field for field in app.text_input if field.key == "alert_change_reason").input("known")
    app = press(app, "Snooze")
    assert verdict(app) == "1 alert is quiet, 1 of them snoozed."
    app = press(app, "Undo")
    assert verdict(app).startswith("failures about answers: ")
    app = press(app, "Snooze or resolve it")
    next(field for field in app.text_input if field.key == "alert_change_reason").input("known")
    app = press(app, "Snooze")
    app = open_page("alerts", environment="production")
    assert verdict(app) == "1 alert is quiet, 1 of them snoozed."


@pytest.mark.deep
def test_a_wrong_rule_names_its_field_and_names_are_shown_as_text(failing: Store) -> None:
    name = HOSTILE[:100]
    save_channel(failing, Channel(name, ChannelKind.WEBHOOK, "https://example.org/", SECRET), ME)
    rule = AlertRule(name, "failed_share", AlertKind.THRESHOLD, side=LimitSide.ABOVE, alert=0.1, channels=(name,))
    save_alert_rule(failing, rule, ME)
    check_alerts(failing, "production", now=datetime.now(UTC))
    app = open_page("alerts", environment="production")
    assert_shown_as_text(app)
    app = press(press(app, "New rule"), "Save rule")
    assert any("name: must be 1 to 100" in error.value.replace("\\", "") for error in app.error)
    assert [field for field in app.text_input if field.label == "Name"]  # the dialog stays, to be put right
    app = press(press(open_page("alerts", environment="production"), "Snooze or resolve it"), "Resolve")
    assert any("reason" in error.value for error in app.error)


@pytest.mark.deep
def test_the_page_reads_first_and_each_form_opens_by_a_click(failing: Store) -> None:
    save_channel(failing, Channel("ops", ChannelKind.WEBHOOK, "https://hooks.example.org/x", SECRET), ME)
    rule = AlertRule(
        "failures", "failed_share", AlertKind.THRESHOLD, side=LimitSide.ABOVE, alert=0.1, channels=("ops",)
    )  # fmt: skip
    save_alert_rule(failing, rule, ME)
    check_alerts(failing, "production", now=datetime.now(UTC))
    forget_alerts()
    app = open_page("alerts", environment="production")
    opening = {"New rule", "Snooze or resolve it", "Change its rule", "Remove its rule", "Add or change a channel"}
    assert {button.label for button in app.button} >= opening
    assert not [button for button in app.button if "FormSubmitter" in str(button.key)]


def test_a_rule_is_changed_from_what_it_is_and_removed(failing: Store) -> None:
    rule = AlertRule(
        "failures", "failed_share", AlertKind.THRESHOLD, service="answers", side=LimitSide.ABOVE, alert=0.1, for_days=2
    )  # fmt: skip
    save_alert_rule(failing, rule, ME)
    check_alerts(failing, "production", now=datetime.now(UTC))
    forget_alerts()
    app = press(open_page("alerts", environment="production"), "Change its rule")
    next(field for field in app.number_input if field.label == "Alert at").set_value(0.2)
    next(field for field in app.text_input if field.label == "Reason").input("too many alarms")
    app = press(app, "Save rule")
    assert not app.error
    assert read_book(failing, "production").rules == (replace(rule, alert=0.2),)
    app = press(app, "Remove its rule")
    next(field for field in app.text_input if field.label == "Reason").input("not needed")
    app = press(app, "Remove rule")
    assert read_book(failing, "production").rules == ()
    assert "failures is removed." in text_of(app.success[0].value)
