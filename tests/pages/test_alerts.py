"""The page Alerts: a channel, a rule with its backtest, what fires, and what became of the messages."""

from collections.abc import Iterator
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
        fill(app, Channel_name="ops", Address=listener.url, Secret_that_signs_a_webhook=SECRET)
        next(field for field in app.text_input if field.key == "alert_channel_reason").input("on call")
        app = press(app, "Save channel")
        assert "not shown again" in app.success[0].value
        app = open_page("alerts", environment="production")
        next(field for field in app.text_input if field.key == "alert_test_reason").input("try it")
        app = press(app, "Send a test")
        assert "took the message" in app.success[0].value and len(listener.requests) == 1
    app = open_page("alerts", environment="production")
    next(box for box in app.selectbox if box.key == "alert_metric").select("failed_share")
    app.run()
    fill(app, Name="failures")
    next(field for field in app.number_input if field.label == "Alert at").set_value(0.1)
    next(box for box in app.multiselect if box.label == "Channels").select("ops")
    app = press(app, "Backtest")
    assert not app.exception
    assert "It would have alerted 2 times in 90 days" in shown_text(app)
    assert "Expected false alarms:" in shown_text(app)
    next(field for field in app.text_input if field.key == "alert_rule_reason").input("they matter")
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
    next(field for field in app.text_input if field.key == "alert_change_reason").input("known")
    app = press(app, "Snooze")
    assert verdict(app) == "1 alert is quiet, 1 of them snoozed."
    app = press(app, "Undo")
    assert verdict(app).startswith("failures about answers: ")
    next(field for field in app.text_input if field.key == "alert_change_reason").input("known")
    app = press(app, "Snooze")
    app = open_page("alerts", environment="production")
    assert verdict(app) == "1 alert is quiet, 1 of them snoozed."


def test_a_wrong_rule_names_its_field_and_names_are_shown_as_text(failing: Store) -> None:
    name = HOSTILE[:100]
    save_channel(failing, Channel(name, ChannelKind.WEBHOOK, "https://example.org/", SECRET), ME)
    rule = AlertRule(name, "failed_share", AlertKind.THRESHOLD, side=LimitSide.ABOVE, alert=0.1, channels=(name,))
    save_alert_rule(failing, rule, ME)
    check_alerts(failing, "production", now=datetime.now(UTC))
    app = open_page("alerts", environment="production")
    assert_shown_as_text(app)
    app = press(app, "Save rule")
    assert any("name: must be 1 to 100" in error.value.replace("\\", "") for error in app.error)
    app = press(app, "Resolve")
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
    assert {each.label for each in app.expander} >= {"Snooze or resolve it", "Add or change a rule", "Remove a rule"}
    assert [each.label for each in app.expander if each.proto.expanded] == []
    inside = {button.key for each in app.expander for button in each.button}
    assert {button.key for button in app.button if "FormSubmitter" in str(button.key)} <= inside
