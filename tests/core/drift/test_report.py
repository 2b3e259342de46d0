"""The verdict of a scope over a real store."""

from datetime import UTC, datetime, timedelta

import numpy as np

from core.audit.acts import Act
from core.drift.operations import accept_level
from core.drift.report import report_drift
from core.drift.verdict import DriftStatus
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
TODAY = NOW.date()
ME = Act("ada", "because")
STAGING = Scope("staging", "default")


def write(
    store: Store, levels: list[float | None], *, scope: Scope = DEFAULT_SCOPE, per_day: int = 100, **more
) -> None:
    """Write whole days of a service that end yesterday, each around its level; None is a search that found nothing."""
    rng = np.random.default_rng(3)
    append_retrievals(
        store,
        [
            Retrieval(
                NOW - timedelta(days=len(levels) - day, seconds=60 * n), f"q{n}",
                None if level is None else float(np.clip(rng.normal(level, 0.05), 0, 1)), scope=scope, **more,
            )
            for day, level in enumerate(levels)
            for n in range(per_day)
        ],
    )  # fmt: skip


def test_a_drop_in_staging_or_in_another_service_is_no_drop_here(store: Store) -> None:
    write(store, [0.7] * 40)
    write(store, [0.7] * 35 + [0.3] * 5, scope=STAGING)
    write(store, [0.7] * 35 + [0.3] * 5, scope=Scope("production", "search"))
    found = {
        scope: report_drift(store, scope=scope, today=TODAY)
        for scope in (DEFAULT_SCOPE, STAGING, Scope("production", "search"))
    }
    assert [each.report.status for each in found.values()] == [
        DriftStatus.STABLE, DriftStatus.DRIFTING, DriftStatus.DRIFTING,
    ]  # fmt: skip
    assert sum(day.count for day in found[DEFAULT_SCOPE].days) == 4_000


def test_a_level_is_accepted_for_one_service_alone(store: Store) -> None:
    search = Scope("production", "search")
    for scope in (DEFAULT_SCOPE, search):
        write(store, [0.7] * 35 + [0.3] * 5, scope=scope)
    accept_level(store, TODAY - timedelta(days=5), ME, service="search")
    assert report_drift(store, scope=DEFAULT_SCOPE, today=TODAY).report.status is DriftStatus.DRIFTING
    assert report_drift(store, scope=search, today=TODAY).report.status is not DriftStatus.DRIFTING


def test_an_environment_without_rows_has_no_verdict(store: Store) -> None:
    write(store, [0.7] * 40)
    found = report_drift(store, scope=STAGING, today=TODAY)
    assert (found.days, found.report.status) == ((), DriftStatus.INSUFFICIENT_DATA)
