"""Any metric by day: compared with plain sums over the same rows and events, in every kind of log."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert

from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.errors import Conflict, InvalidInput, NotFound
from core.log.retrievals import Window
from core.log.scores import apply_scores
from core.metrics.builtin import find_builtin
from core.metrics.daily import get_metric, list_metrics, read_metric_days
from core.metrics.definition import MetricDefinition, MetricSource, Statistic
from core.metrics.operations import add_metric, remove_metric
from quarterdeck.clock import now_ms, to_ms
from quarterdeck.exposures import store_scores
from quarterdeck.log import as_log
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import tracked_events
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.backends import BACKENDS, copy_empty_store, make_url

ANSWERS, OTHER = Scope("production", "answers"), Scope("production", "other")
START = datetime(2026, 3, 1, 1, tzinfo=UTC)
WINDOW = Window(date(2026, 3, 1), date(2026, 3, 3))
RNG = np.random.default_rng(5)
LATENCIES = RNG.lognormal(6, 0.8, 200)
STARS = MetricDefinition("stars p50", MetricSource.SCORE, Statistic.PERCENTILE, "stars", percentile=50)
ACT = Act("ana", "we look at stars")


def at(n: int) -> datetime:
    return START + timedelta(minutes=19 * n)


def make_event(name: str, n: int, value: float | None) -> dict[str, object]:
    return {
        **ANSWERS._asdict(), "event": name, "ts_ms": to_ms(at(n)), "targeting_key": f"u-{n % 40}", "value": value,
        "attributes": "{}",
    }  # fmt: skip


@pytest.fixture(params=BACKENDS)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """200 questions of 40 users over three days, with later scores of a half, and events."""
    url = copy_empty_store() if request.param == "postgresql" else f"sqlite:///{tmp_path}/deck.db"
    log_url = make_url("clickhouse", tmp_path) if request.param == "clickhouse" else None
    store = Store(url, create=True, log_url=log_url)
    rows = [
        Retrieval(
            at(n), f"q {n}", None if n % 10 == 0 else 0.5, retrieval_id=f"q-{n}", scope=ANSWERS, user_id=f"u-{n % 40}",
            latency_ms=float(latency), cost_usd=0.001 * (n % 3), prompt_version="v1" if n % 4 else None,
        )
        for n, latency in enumerate(LATENCIES)
    ]  # fmt: skip
    append_retrievals(store, [*rows, Retrieval(START, "q", 0.5, scope=OTHER, latency_ms=9e9, retrieval_id="q-2")])
    given = {"name": "stars", "source": "judge", "comment": "", "ts_ms": to_ms(at(200)), **ANSWERS._asdict()}
    with store.begin() as connection:
        store_scores(connection, [{**given, "retrieval_id": f"q-{n}", "value": float(n % 5)} for n in range(0, 200, 2)])
        connection.execute(insert(tracked_events), [make_event("click", n, None) for n in range(0, 200, 4)])
        connection.execute(insert(tracked_events), [make_event("sale", n, n / 10) for n in range(0, 200, 20)])
    assert apply_scores(store, now_ms=now_ms()).applied == 100
    yield store
    as_log(store).close()
    store.close()


def by_day(numbers: dict[int, float]) -> dict[date, list[tuple[int, float]]]:
    found: dict[date, list[tuple[int, float]]] = defaultdict(list)
    for n, number in numbers.items():
        found[at(n).date()].append((n, number))
    return found


def read(store: Store, metric: MetricDefinition) -> dict[date, float]:
    return {each.day: each.value for each in read_metric_days(store, ANSWERS, metric, WINDOW)}


def test_own_metrics_by_day_are_those_of_plain_sums(full: Store) -> None:
    stars = by_day({n: float(n % 5) for n in range(0, 200, 2)})
    quantile = {day: float(np.quantile([v for _, v in of], 0.5, method="inverted_cdf")) for day, of in stars.items()}
    assert read(full, STARS) == quantile
    good = MetricDefinition("good", MetricSource.SCORE, Statistic.SHARE, "stars", at_least=3)
    assert read(full, good) == {day: pytest.approx(np.mean([v >= 3 for _, v in of])) for day, of in stars.items()}
    questions, clicks = by_day(dict.fromkeys(range(200), 1.0)), by_day(dict.fromkeys(range(0, 200, 4), 1.0))
    rate = MetricDefinition("clicks", MetricSource.EVENT, Statistic.RATIO, "click", per="questions")
    assert read(full, rate) == {day: pytest.approx(len(clicks[day]) / len(of)) for day, of in questions.items()}
    cost = MetricDefinition("cost per click", MetricSource.COST, Statistic.RATIO, per="click", is_higher_better=False)
    assert read(full, cost) == {
        day: pytest.approx(sum(0.001 * (n % 3) for n, _ in of) / len(clicks[day])) for day, of in questions.items()
    }
    users = {day: {n % 40 for n, _ in of} for day, of in questions.items()}
    clicked = MetricDefinition("clicked", MetricSource.EVENT, Statistic.SHARE, "click")
    assert read(full, clicked) == {
        day: pytest.approx(len({n % 40 for n, _ in clicks[day]}) / len(of)) for day, of in users.items()
    }
    sales = by_day({n: n / 10 for n in range(0, 200, 20)})
    revenue = MetricDefinition("revenue", MetricSource.EVENT, Statistic.RATIO, "sale", per="users", unit="EUR")
    assert read(full, revenue) == {
        day: pytest.approx(sum(v for _, v in sales[day]) / len(of)) for day, of in users.items()
    }


def test_built_in_metrics_are_read_under_their_names(full: Store) -> None:
    days = by_day({n: float(latency) for n, latency in enumerate(LATENCIES)})
    assert read(full, find_builtin("latency")) == {
        day: pytest.approx(np.mean([v for _, v in of])) for day, of in days.items()
    }
    p95 = read(full, find_builtin("latency p95"))
    assert p95 == {day: pytest.approx(np.quantile([v for _, v in of], 0.95), rel=0.2) for day, of in days.items()}
    errors = {day: pytest.approx(np.mean([n % 10 == 0 for n, _ in of])) for day, of in days.items()}
    assert read(full, find_builtin("error rate")) == errors
    assert sum(each.count for each in read_metric_days(full, ANSWERS, find_builtin("score"), WINDOW)) == 180
    part = read_metric_days(full, ANSWERS, find_builtin("latency"), WINDOW, segment=("prompt_version", "v1"))
    assert sum(each.count for each in part) == 150
    part = read_metric_days(full, ANSWERS, STARS, WINDOW, segment=("prompt_version", ""))
    assert sum(each.count for each in part) == 50


def test_metrics_are_added_and_removed_with_an_audit_entry(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/deck.db", create=True)
    entry = add_metric(store, STARS, ACT)
    assert list_audit(store, AuditFilter(target="stars p50"))[0].entry_id == entry
    assert list_metrics(store, ANSWERS)[-1] == STARS
    assert get_metric(store, ANSWERS, "STARS P50") == STARS
    assert STARS not in list_metrics(store, Scope("staging", "answers"))
    with pytest.raises(Conflict, match="already exists"):
        add_metric(store, STARS, ACT)
    with pytest.raises(InvalidInput, match="built-in"):
        add_metric(store, MetricDefinition("Latency", MetricSource.LATENCY, Statistic.MEAN), ACT)
    remove_metric(store, "Stars p50", ACT)
    assert STARS not in list_metrics(store, ANSWERS)
    with pytest.raises(NotFound, match="there are: none"):
        remove_metric(store, "stars p50", ACT)
    add_metric(store, STARS, ACT)  # again, at its next version
    store.close()
