"""What the rollouts page reads, cached for some seconds: recent users, canaries and experiments."""

from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from app.resources import get_config, get_store
from core.arms.histories import ArmHistories, share_histories
from core.flags.preview import Knowledge, Users, find_knowledge, find_recent_users
from core.rollouts.canaries import CanaryReport, report_canaries
from core.rollouts.experiments import ExperimentReport, report_experiments
from core.rollouts.holdout import HoldoutReport, report_holdout


@st.cache_resource(ttl=60, max_entries=50, show_spinner="Looking for recent users …")
def load_users(environment: str, flag: str) -> Users:
    """Return the recent users for whom a change of the flag is previewed."""
    return find_recent_users(get_store(), environment, flag, now=datetime.now(UTC))


@st.cache_resource(ttl=60, max_entries=50, show_spinner="Looking for what is known of them …")
def load_knowledge(environment: str, names: tuple[str, ...]) -> Knowledge:
    """Return what the log knows of these attributes of recent users."""
    return find_knowledge(get_store(), environment, names, now=datetime.now(UTC))


def get_histories() -> ArmHistories:
    """Return the cached histories of arms, which the scheduler shares."""
    config = get_config()
    return share_histories(config.database_url, config.log_url).up_to(timedelta(seconds=10))


@st.cache_resource(refresh_mode="background", ttl=10, max_entries=10, show_spinner="Reading the canaries …")
def load_canaries(environment: str) -> tuple[CanaryReport, ...]:
    """Return the report of every canary."""
    return report_canaries(get_store(), get_histories(), environment, now=datetime.now(UTC))


@st.cache_resource(refresh_mode="background", ttl=10, max_entries=10, show_spinner="Reading the experiments …")
def load_experiments(environment: str) -> tuple[ExperimentReport, ...]:
    """Return the report of every experiment on a flag."""
    return report_experiments(get_store(), get_histories(), environment, now=datetime.now(UTC))


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=20, show_spinner="Comparing the held out …")
def load_holdout(environment: str, metric: str) -> HoldoutReport:
    """Return the report on the holdout that runs."""
    return report_holdout(get_store(), get_histories(), environment, metric, now=datetime.now(UTC))


@st.cache_resource(ttl=86_400, max_entries=2_000, show_spinner=False)
def open_draft(author: str, environment: str, key: str, name: str) -> list[Any]:  # noqa: ARG001 - they are its key
    """Return where one draft of a flag lies: empty until something is typed, and once it is saved or discarded."""
    return []
