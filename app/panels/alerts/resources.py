"""What the alerts page reads, cached for some seconds; a backtest for ten minutes."""

from datetime import UTC, date, datetime

import streamlit as st

from app.alerting import open_sources
from app.resources import get_config, get_store
from core.alerts.backtests import Backtest
from core.alerts.metrics import OWN
from core.alerts.report import AlertOverview, ChannelDelivery, backtest_rule, list_deliveries, report_alerts
from core.alerts.rules import AlertRule
from core.metrics.records import list_own_metrics
from quarterdeck.scope import Scope


@st.cache_resource(ttl=5, max_entries=20, show_spinner=False)
def load_alerts(environment: str) -> AlertOverview:
    """Return the alerts of an environment as of their last check."""
    return report_alerts(get_store(), environment, now=datetime.now(UTC))


@st.cache_resource(ttl=5, max_entries=20, show_spinner=False)
def load_deliveries(environment: str) -> tuple[tuple[ChannelDelivery, ...], tuple[str, ...]]:
    """Return the messages of all channels, newest first, and what could not be read."""
    return list_deliveries(get_store(), environment)


@st.cache_resource(ttl=600, max_entries=50, show_spinner="Replaying 90 days …")
def load_backtest(rule: AlertRule, scope: Scope, today: date) -> Backtest:
    """Return what a rule would have done; `today` is part of the name that it is cached under."""
    del today
    sources = open_sources(get_config(), get_store())
    return backtest_rule(get_store(), rule, sources, scope=scope, now=datetime.now(UTC))


@st.cache_resource(ttl=15, max_entries=20, show_spinner=False)
def list_own_names(environment: str) -> tuple[str, ...]:
    """Return the metrics that people defined in an environment, as rules name them."""
    return tuple(f"{OWN}{metric.name}" for metric in list_own_metrics(get_store(), environment))


def forget_alerts() -> None:
    """Drop what a change has made old."""
    load_alerts.clear()
    load_deliveries.clear()
