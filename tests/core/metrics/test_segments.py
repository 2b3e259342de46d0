"""Metrics by segment and day: plain sums in every kind of log, and the segment that carries a change."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from core.audit.acts import Act
from core.errors import InvalidInput
from core.log.dimensions import declare_dimensions
from core.log.retrievals import Window
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from core.metrics.builtin import find_builtin
from core.metrics.carrying import find_carrier, has_parts
from core.metrics.daily import read_metric_days, read_metric_segments
from core.metrics.definition import MetricDay, MetricDefinition, MetricSource, Statistic
from core.metrics.segments import report_metric_segments
from quarterdeck.log import as_log
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.backends import BACKENDS, copy_empty_store, make_url

ANSWERS = Scope("production", "answers")
START = datetime(2026, 3, 1, 1, tzinfo=UTC)
WINDOW = Window(date(2026, 3, 1), date(2026, 3, 14))
SLOW = MetricDefinition("slow", MetricSource.LATENCY, Statistic.SHARE, is_higher_better=False, at_least=500.0)
TENANTS = ("acme", "globex", "initech", None)
CUT = date(2026, 3, 8)


def at(n: int) -> datetime:
    return START + timedelta(minutes=67 * n)


def tenant_of(n: int) -> str | None:
    return TENANTS[n % 4]


def latency_of(n: int) -> float:
    """Half of the answers are slow; of globex, all are since the cut."""
    return 900.0 if n % 8 < 4 or (tenant_of(n) == "globex" and at(n).date() >= CUT) else 100.0


@pytest.fixture(params=BACKENDS)
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """300 questions of four tenants over two weeks; the service declares the tenant as a dimension."""
    url = copy_empty_store() if request.param == "postgresql" else f"sqlite:///{tmp_path}/deck.db"
    log_url = make_url("clickhouse", tmp_path) if request.param == "clickhouse" else None
    store = Store(url, create=True, log_url=log_url)
    save_service(store, ServiceSettings("answers", dimensions=("tenant", "beta")), Act("setup", "a test"))
    declare_dimensions(store)
    rows = [
        Retrieval(
            at(n), f"q {n}", 0.4 + 0.1 * (n % 3), scope=ANSWERS, user_id=f"u-{n % 40}", latency_ms=latency_of(n),
            prompt_version="v1" if n % 3 else None, attributes={"tenant": tenant_of(n), "beta": n % 2 == 0},
        )
        for n in range(300)
    ]  # fmt: skip
    append_retrievals(store, rows)
    yield store
    as_log(store).close()
    store.close()


def test_a_metric_by_a_declared_dimension_and_day_is_that_of_plain_sums(full: Store) -> None:
    for metric, of in ((SLOW, lambda n: float(latency_of(n) >= 500)), (find_builtin("latency"), latency_of)):
        expected: dict[str, dict[date, list[float]]] = defaultdict(lambda: defaultdict(list))
        for n in range(300):
            expected[tenant_of(n) or ""][at(n).date()].append(of(n))
        found = read_metric_segments(full, ANSWERS, metric, WINDOW, "tenant")
        assert {value: {d.day: (d.count, pytest.approx(d.value)) for d in days} for value, days in found.items()} == {
            value: {day: (len(numbers), np.mean(numbers)) for day, numbers in days.items()}
            for value, days in expected.items()
        }
    for value, days in read_metric_segments(full, ANSWERS, SLOW, WINDOW, "tenant").items():
        assert read_metric_days(full, ANSWERS, SLOW, WINDOW, segment=("tenant", value)) == days
    assert set(read_metric_segments(full, ANSWERS, SLOW, WINDOW, "beta")) == {"True", "False"}
    score = read_metric_segments(full, ANSWERS, find_builtin("score"), WINDOW, "prompt_version")
    assert {value: sum(d.count for d in days) for value, days in score.items()} == {"": 100, "v1": 200}


def test_the_segment_that_carries_a_change_is_named(full: Store) -> None:
    found = report_metric_segments(full, ANSWERS, SLOW, WINDOW, "tenant")
    assert found.recent_from == CUT
    assert found.carrier is not None
    assert (found.carrier.value, found.carrier.searched) == ("globex", 3)
    assert found.sentence.startswith("slow is 62")
    assert "points above before: tenant globex carries 1" in found.sentence
    by_value = {each.value: each for each in found.segments}
    assert by_value["globex"].recent == 1.0
    assert (by_value["acme"].change or 0.0) == pytest.approx(0.0, abs=0.15)
    quiet = report_metric_segments(full, ANSWERS, SLOW, WINDOW, "prompt_version")
    assert quiet.carrier is None
    assert quiet.sentence.endswith("No prompt version carries the change.")


@pytest.mark.sqlite_only("the answer is the same")
def test_what_has_no_segments_is_refused_and_what_has_no_parts_is_not_searched(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/deck.db", create=True)
    clicked = MetricDefinition("clicked", MetricSource.EVENT, Statistic.SHARE, "click")
    with pytest.raises(InvalidInput, match="clicked counts events, which belong to no segment"):
        report_metric_segments(store, ANSWERS, clicked, WINDOW, "model")
    with pytest.raises(InvalidInput, match="^dimension: must be one of arm, prompt_version"):
        report_metric_segments(store, ANSWERS, SLOW, WINDOW, "tenant")
    assert (
        report_metric_segments(store, ANSWERS, SLOW, WINDOW, "model").sentence
        == "slow has no figure since 08 Mar 2026."
    )
    assert not has_parts(find_builtin("latency p95"))
    store.close()


def draw(rng: np.random.Generator, *, carried: float) -> dict[str, tuple[MetricDay, ...]]:
    """Five segments over four weeks with weekdays and a change of all; one changes further."""
    days = [date(2026, 3, 1) + timedelta(days=number) for number in range(28)]
    common = 0.05 * np.sin(np.arange(28) * 2 * np.pi / 7) + rng.normal(0, 0.02, 28) + 0.1 * (np.arange(28) >= 21)
    found = {}
    for name in "abcde":
        own = carried * (np.arange(28) >= 21) if name == "c" else 0.0
        counts = rng.integers(40, 120, 28)
        shares = rng.binomial(counts, np.clip(0.3 + common + own, 0, 1)) / counts
        found[name] = tuple(MetricDay(d, int(n), float(v)) for d, n, v in zip(days, counts, shares, strict=True))
    return found


def test_what_changed_everywhere_alike_is_rarely_given_a_name_and_a_carrier_nearly_always() -> None:
    rng, recent = np.random.default_rng(7), date(2026, 3, 22)
    false = sum(find_carrier(draw(rng, carried=0.0), recent) is not None for _ in range(300))
    found = [find_carrier(draw(rng, carried=0.6), recent) for _ in range(50)]
    assert false <= 15
    assert sum(each is not None and each.value == "c" for each in found) >= 45
