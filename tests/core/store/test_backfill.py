"""Rows of an earlier release, and clients of it that go on writing, in the rollups of this one."""

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text

from core.config import PROJECT
from core.log.retrievals import list_daily_scores, list_days, list_segment_scores
from core.store.backfill import Progress, backfill, backfill_log, find_progress
from core.store.migrator import migrate
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.rollups import bin_of
from quarterdeck.schema import metric_bins, metric_sums
from quarterdeck.store import Store
from tests.backends import make_url
from tests.core.store.test_migrations import make_store_of

WHEEL = PROJECT / "tests" / "fixtures" / "releases" / "quarterdeck-0.1.0-py3-none-any.whl"
FORMER_ROWS = (
    "CREATE TABLE {}.retrievals (ts_ms Int64, query String, score Nullable(Float64), session_id Nullable(String), "
    "arm LowCardinality(Nullable(String)), prompt_version LowCardinality(Nullable(String)), "
    "index_version LowCardinality(Nullable(String)), latency_ms Nullable(Float64), cost_usd Nullable(Float64), "
    "faithfulness Nullable(Float64), feedback Nullable(Float64)) ENGINE = MergeTree "
    "PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(ts_ms, 'UTC')) ORDER BY ts_ms"
)
BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture
def open_former(tmp_path: Path) -> Callable[[str], Store]:
    def open_it(backend: str) -> Store:
        store = Store(make_store_of("0003", backend, tmp_path))
        with store.begin_schema() as (connection, _):
            rows = [{"ts": 1_772_366_400_000 + n, "ms": float(n % 7 * 10 + 1), "arm": "ab"[n % 2]} for n in range(500)]
            insert = "INSERT INTO retrievals (ts_ms, query, score, arm, latency_ms) VALUES (:ts, 'q', 0.5, :arm, :ms)"
            connection.execute(text(insert), rows)
        migrate(store)
        return store

    return open_it


def read_numbers(store: Store) -> list[tuple[object, ...]]:
    query = select(metric_sums).where(metric_sums.c.metric == "latency_ms").order_by(metric_sums.c.dimension)
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_numbers_of_old_rows_are_added_in_slices_and_once(
    backend: str, open_former: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_former(backend)
    monkeypatch.setattr("core.store.backfill._SLICE", 120)
    before = find_progress(store)
    assert (before.done, before.share) == (0, 0)
    said: list[Progress] = []

    def stop_in_the_middle(progress: Progress) -> None:
        said.append(progress)
        if len(said) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill(store, stop_in_the_middle)
    assert find_progress(store) == Progress(before.last, 240)
    assert backfill(store) == before.last - 240
    assert backfill(store) == 0
    values = [n % 7 * 10 + 1.0 for n in range(500)]
    whole = next(row for row in read_numbers(store) if row[1:3] == ("", "") and row[4] == 1_772_366_400_000)
    assert whole[5] >= 500
    with store.read() as connection:
        bins = dict(
            connection.execute(
                select(metric_bins.c.bin, metric_bins.c.n).where(
                    metric_bins.c.metric == "latency_ms", metric_bins.c.dimension == "arm", metric_bins.c.value == "a"
                )
            ).all()
        )
    assert bins[bin_of(1.0)] == sum(value == 1.0 for n, value in enumerate(values) if n % 2 == 0)
    store.close()


def test_a_new_store_has_nothing_to_add(store: Store) -> None:
    assert find_progress(store).share == 1
    assert backfill(store) == 0


@pytest.mark.deep
@pytest.mark.slow
def test_rows_that_clickhouse_holds_of_an_earlier_release_are_added_once(tmp_path: Path) -> None:
    url = make_url("clickhouse", tmp_path)
    former = ClickHouseLog(url)
    former._run("command", f"CREATE DATABASE {former.database}")
    former._run("command", FORMER_ROWS.format(former.database))
    values = [(1_772_366_400_000 + n, f"q {n}", 0.5, "green") for n in range(40)]
    former._run("insert", f"{former.database}.retrievals", values, ["ts_ms", "query", "score", "arm"])
    former.close()
    store = Store(f"sqlite:///{tmp_path / 'deck.db'}", create=True, log_url=url)
    append_retrievals(store, [Retrieval(datetime(2026, 3, 1, 12, tzinfo=UTC), "new", 0.7, arm="green")])
    assert (backfill_log(store), backfill_log(store)) == (True, False)
    assert [day.count for day in list_daily_scores(store)] == [41]
    assert [day.count for day in list_segment_scores(store, "arm")["green"]] == [41]
    store.close()


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_service_with_the_former_client_goes_on_logging(
    backend: str, open_former: Callable[[str], Store], tmp_path: Path
) -> None:
    """Its rows are counted by the triggers, with its labels, and its flags are answered."""
    store = open_former(backend)
    before = sum(day.count for day in list_daily_scores(store))
    venv.create(tmp_path / "former", system_site_packages=True, with_pip=True)
    python = tmp_path / "former" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", WHEEL], check=True, timeout=300)
    script = """
import json, sys
from quarterdeck import Quarterdeck
import quarterdeck.schema
deck = Quarterdeck(sys.argv[1], snapshot_path=None)
taken = [deck.log_retrieval(f"asked {n}", n / 10, arm="green", latency_ms=5.0) for n in range(10)]
deck.log_retrieval("nothing", None)
deck.flush()
print(json.dumps([all(taken), quarterdeck.schema.REVISION, deck.active_index(), deck.is_enabled("use_hyde", "user-1")]))
deck.close()
"""
    url = str(store.url.render_as_string(hide_password=False))
    site = next((Path(sys.prefix) / "lib").glob("python*/site-packages"))
    done = subprocess.run(
        [python, "-I", "-c", f"import sys; sys.path.append({str(site)!r})\n{script}", url],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    taken, revision, index, _flag = json.loads(done.stdout)
    assert (taken, revision, index) == (True, "0003", "docs-v1")
    assert sum(day.count for day in list_daily_scores(store)) == before + 10
    assert sum(day.empty for day in list_days(store)) == 2
    assert sum(day.count for day in list_segment_scores(store, "arm")["green"]) >= 10
    with store.read() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM retrievals WHERE scope_id = 1 AND rolled_up = 1")) >= 11
    store.close()
