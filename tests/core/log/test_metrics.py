"""Numbers by day and segment, read from the rollups: compared with plain sums over the same rows, in every log."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from core.audit.acts import Act
from core.log.metrics import MetricSums, list_metric_days, list_metric_segments
from core.log.retrievals import Window
from core.log.scores import apply_scores
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from quarterdeck.clock import now_ms
from quarterdeck.exposures import store_scores
from quarterdeck.log import as_log
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.rollups import bin_of
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.backends import BACKENDS, copy_empty_store, make_url

ANSWERS, OTHER = Scope("production", "answers"), Scope("production", "other")
START = datetime(2026, 3, 1, 1, tzinfo=UTC)
WINDOW = Window(date(2026, 3, 1), date(2026, 3, 3))
RNG = np.random.default_rng(3)
LATENCIES = RNG.lognormal(6, 0.8, 300)


@pytest.fixture(params=BACKENDS)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store with a log of each kind: 300 rows of a service over three days, and some of another one."""
    url = copy_empty_store() if request.param == "postgresql" else f"sqlite:///{tmp_path}/deck.db"
    log_url = make_url("clickhouse", tmp_path) if request.param == "clickhouse" else None
    store = Store(url, create=True, log_url=log_url)
    rows = [
        Retrieval(
            START + timedelta(minutes=13 * n), f"q {n}", 0.5, retrieval_id=f"q-{n}", scope=ANSWERS,
            latency_ms=float(latency), cost_usd=0.001 * (n % 3), prompt_version="v1" if n % 4 else None,
        )
        for n, latency in enumerate(LATENCIES)
    ]  # fmt: skip
    append_retrievals(store, [*rows, Retrieval(START, "q", 0.5, scope=OTHER, latency_ms=9e9)])
    yield store
    as_log(store).close()
    store.close()


def days_of(hours_ahead: int = 0) -> list[date]:
    return [(START + timedelta(minutes=13 * n, hours=hours_ahead)).date() for n in range(300)]


def test_days_add_up_and_percentiles_are_within_five_percent(full: Store) -> None:
    found = list_metric_days(full, ANSWERS, ("latency_ms", "cost_usd", "tokens"), WINDOW)
    assert set(found) == {"latency_ms", "cost_usd"}
    days = days_of()
    for day, sums in found["latency_ms"].items():
        own = [latency for latency, at in zip(LATENCIES, days, strict=True) if at == day]
        assert (sums.count, sums.mean) == (len(own), pytest.approx(float(np.mean(own))))
        for share in (0.5, 0.95):
            exact = float(np.quantile(own, share, method="inverted_cdf"))
            assert sums.quantile(share) == pytest.approx(exact, rel=0.1)
    assert list(found["cost_usd"]) == sorted(set(days))


def test_segments_and_later_scores_are_read_too(full: Store) -> None:
    given = {"name": "relevancy", "source": "judge", "comment": "", "ts_ms": 1, **ANSWERS._asdict()}
    with full.begin() as connection:
        store_scores(connection, [{**given, "retrieval_id": f"q-{n}", "value": n / 10} for n in range(8)])
    assert apply_scores(full, now_ms=now_ms()).applied == 8
    found = list_metric_segments(full, ANSWERS, ("latency_ms", "relevancy"), WINDOW, "prompt_version")
    assert {value: sums["latency_ms"].count for value, sums in found.items()} == {"": 75, "v1": 225}
    assert found["v1"]["relevancy"].count == 6
    assert found["v1"]["relevancy"].mean == pytest.approx((1 + 2 + 3 + 5 + 6 + 7) / 60)
    one = list_metric_days(full, ANSWERS, ("latency_ms",), WINDOW, segment=("prompt_version", "v1"))
    assert sum(sums.count for sums in one["latency_ms"].values()) == 225


def test_days_are_those_of_the_services_zone(full: Store) -> None:
    save_service(full, ServiceSettings("answers", zone="Asia/Tokyo"), Act("ada", "their office"))
    found = list_metric_days(full, ANSWERS, ("cost_usd",), WINDOW)
    days = days_of(9)
    assert {day: sums.count for day, sums in found["cost_usd"].items() if sums.count} == {
        day: days.count(day) for day in set(days) if day <= WINDOW.last
    }


@pytest.mark.sqlite_only(reason="a rule")
def test_a_quantile_of_nothing_is_none_and_of_one_number_is_near_it() -> None:
    assert MetricSums().quantile(0.5) is None
    assert MetricSums().mean is None
    one = MetricSums()
    one.bins[bin_of(120.0)] = 1
    assert one.quantile(0.95) == pytest.approx(120.0, rel=0.05)
