"""The metrics under the tab Experiments: the table, the form that defines one, and its use in an experiment."""

import pytest
from streamlit.testing.v1 import AppTest

from core.audit.acts import Act
from core.audit.trail import list_audit
from core.metrics.definition import MetricDefinition, MetricSource, Statistic
from core.metrics.operations import add_metric
from core.metrics.records import list_own_metrics
from quarterdeck.store import Store
from tests.pages.opening import HOSTILE, open_page, text_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_streamlit")]


def shown(app: AppTest) -> str:
    return text_of(" ".join(m.value for m in app.markdown))


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if text_of(button.label) == label).click().run()


def test_a_metric_is_defined_and_removed_by_forms(empty_url: str, store: Store) -> None:
    app = open_page("rollouts", tab="Experiments")
    assert "can use 11 metrics, none of them defined here yet" in shown(app)
    app.text_input("metric-name").input("stars")
    app.text_input("metric-of").input("stars")
    app.text_input("metric-reason").input("what users give")
    press(app, "Define")
    assert not app.exception
    (metric,) = list_own_metrics(store, "production")
    assert (metric.name, metric.statistic, metric.margin) == ("stars", Statistic.MEAN, 0.05)
    assert list_audit(store, limit=1)[0].action == "metric.add"
    assert "1 of them defined here" in shown(app)
    app.text_input("metric-remove-reason").input("no longer")
    press(app, "Remove")
    assert not app.exception
    assert list_own_metrics(store, "production") == ()


def test_a_wrong_field_is_named_and_a_hostile_name_is_text(empty_url: str, store: Store) -> None:
    name = HOSTILE.translate({ord(letter): None for letter in ",=:"})[:50].strip()
    add_metric(store, MetricDefinition(name, MetricSource.SCORE, Statistic.MEAN, "stars"), Act("ada", "because"))
    app = open_page("rollouts", tab="Experiments")
    assert not app.exception
    app.text_input("metric-name").input("late")
    app.text_input("metric-reason").input("why")
    press(app, "Define")
    assert any("of: name the score" in text_of(each.value) for each in app.error)
