"""What ten million retrievals cost to add, and to read for the drift and coverage pages, compared with a scan.

    python -m benchmarks.retrieval_log [--rows 10000000] [--days 90] [--seed 1] [--backends sqlite postgresql]
        [--plain] [--folder FOLDER]

Each row has five documents of 20,000 and three attributes that the service declares as dimensions, of 20, 12 and 5
values; `--plain` leaves them out. The same seeded rows go into each database through the log's own `append`, rollups
kept, and their days are closed as the deck does it. Every figure of the rollups is compared with the scan: counts
exactly, means to 1e-9. In --folder, SQLite's file is kept: a later run only reads.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import create_engine, text

from core.audit.acts import Act
from core.drift.report import get_accepted_day, report_drift
from core.log.closing import close_days
from core.log.retrievals import (
    ScopeDays,
    Window,
    count_states,
    last_days,
    list_daily_scores,
    list_dimensions,
    list_questions,
    list_segment_scores,
)
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clock import DAY_MS
from quarterdeck.log import RetrievalLog, SqlLog, as_log
from quarterdeck.retrieval import Row, make_row
from quarterdeck.schema import LOW_SCORE_CEILING
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.backends import make_url

LAST = date(2026, 9, 30)
END_MS = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp() * 1000)
BATCH = 50_000
DISTINCT = 200_000
LOW = 0.47  # about one query in ten
DOCUMENTS = 20_000
DIMENSIONS = {"tenant": 20, "locale": 12, "channel": 5}
SCOPE = Scope("production", "docs")
WORDS = (
    "buffer",
    "packet",
    "ring",
    "queue",
    "memory",
    "pool",
    "driver",
    "core",
    "flow",
    "rule",
    "table",
    "hash",
    "poll",
)


def draw_rows(count: int, days: int, seed: int, *, plain: bool) -> Iterator[list[Row]]:
    """Yield batches in the order of time: Zipf-like questions and documents, two arms, three prompts and indexes."""
    rng = np.random.default_rng(seed)
    texts = [
        f"how do I set the {WORDS[i % 13]} {WORDS[i // 13 % 13]} for {WORDS[i // 169 % 13]} number {i}"
        for i in range(DISTINCT)
    ]
    level = np.clip(rng.normal(0.66, 0.13, DISTINCT), 0.02, 0.99)
    popularity = 1 / np.arange(3, DISTINCT + 3) ** 0.8
    rng.shuffle(popularity)
    ends = np.cumsum(popularity / popularity.sum())
    names = [f"docs/guide/page-{i}.md" for i in range(DOCUMENTS)]
    reach = np.cumsum(1 / np.arange(20, DOCUMENTS + 20) ** 0.5)
    start_ms = END_MS - days * DAY_MS
    for first in range(0, count, BATCH):
        size = min(BATCH, count - first)
        place = (first + np.arange(size)) / count
        asked = np.minimum(np.searchsorted(ends, rng.random(size)), DISTINCT - 1)
        scores = np.where(rng.random(size) < 0.005, np.nan, np.clip(level[asked] + rng.normal(0, 0.02, size), 0, 1))
        found = np.searchsorted(reach, rng.random((size, 5)) * reach[-1]).tolist()
        values = [[f"{name}-{at}" for at in rng.integers(most, size=size)] for name, most in DIMENSIONS.items()]
        columns = (
            (start_ms + place * days * DAY_MS).astype(np.int64).tolist(),
            asked.tolist(),
            scores.tolist(),
            np.where(rng.random(size) < 0.1, "green", "blue").tolist(),
            np.where(rng.random(size) < 0.3, "v3", np.where(place < 0.4, "v1", "v2")).tolist(),
            np.array(["docs-v1", "docs-v2", "docs-v3"])[(place * 3).astype(int)].tolist(),
        )
        rows = []
        for at, (ts, text_at, score, arm, prompt, version) in enumerate(zip(*columns, strict=True)):
            known = None if score != score else score
            hits = (
                None if plain or known is None else [(names[i], score - rank / 100) for rank, i in enumerate(found[at])]
            )
            noted = None if plain else {name: each[at] for name, each in zip(DIMENSIONS, values, strict=True)}
            rows.append(
                make_row(
                    ts, texts[text_at], known, f"s{ts // 60_000}", arm, prompt, version, None, None, None, None,
                    None, None, None, None, hits, noted, None, None, None, None, None, None, SCOPE,
                )
            )  # fmt: skip
        yield rows


def fill(log: RetrievalLog, options: argparse.Namespace) -> list[float]:
    """Append all rows; return the rows a second of each million, the drawing not counted."""
    speeds, spent, since = [], 0.0, 0
    for rows in draw_rows(options.rows, options.days, options.seed, plain=options.plain):
        before = time.perf_counter()
        log.append(rows)
        spent += time.perf_counter() - before
        since += len(rows)
        if since >= min(1_000_000, options.rows):
            speeds.append(since / spent)
            print(f"{len(speeds)}: {speeds[-1]:,.0f} rows/s", flush=True)
            spent, since = 0.0, 0
    return speeds


def median_ms(read: Callable[[], Any], times: int = 5) -> float:
    """Return the median of warm reads in milliseconds."""
    read()
    spent = []
    for _ in range(times):
        before = time.perf_counter()
        read()
        spent.append(time.perf_counter() - before)
    return statistics.median(spent) * 1000


def read_drift_page(store: Store) -> None:
    """Read all that the verdicts of the drift page are made of: the days of the scope, and of each of its segments."""
    opened = ScopeDays(store, SCOPE)
    opened.read("", "")
    for dimension in list_dimensions(store, SCOPE):
        list_segment_scores(store, dimension, scope=SCOPE, days=opened)
    get_accepted_day(store, SCOPE)


def scan(log: RetrievalLog, window: Window) -> dict[tuple[int, int], tuple[int, float]]:
    """Return count and sum by day and bin, from the rows themselves."""
    inside = f"ts_ms >= {window.start_ms} AND ts_ms < {window.end_ms} AND score IS NOT NULL GROUP BY 1, 2"
    if isinstance(log, ClickHouseLog):
        found = log.query(
            f"SELECT intDiv(ts_ms, {DAY_MS}) AS d, least(49, toInt32(floor(score * 50))) AS b, count(), sum(score) "
            f"FROM {log.database}.retrievals WHERE {inside}"
        )
    else:
        assert isinstance(log, SqlLog)
        number = "MIN(49, CAST(score * 50 AS INTEGER))"
        if log.store.dialect == "postgresql":
            number = "LEAST(49, FLOOR(score * 50)::int)"
        query = text(f"SELECT ts_ms / {DAY_MS}, {number}, COUNT(*), SUM(score) FROM retrievals WHERE {inside}")
        with log.store.read() as connection:
            found = [tuple(row) for row in connection.execute(query)]
    return {(int(day), int(number)): (int(n), float(total)) for day, number, n, total in found}


def check(store: Store, window: Window) -> float:
    """Compare rollups with the scan; return the largest difference of a mean. Raises on any other difference."""
    log = as_log(store)
    truth = scan(log, window)
    largest = 0.0
    days = list_daily_scores(log, window=window)
    for day in days:  # of every scope, so that no mean is capped
        at = int(datetime(day.day.year, day.day.month, day.day.day, tzinfo=UTC).timestamp() * 1000) // DAY_MS
        bins = [truth.get((at, number), (0, 0.0)) for number in range(50)]
        assert day.histogram == tuple(n for n, _ in bins), day.day
        largest = max(largest, abs(day.mean - sum(total for _, total in bins) / day.count))
    assert {day for day, _ in truth} == {int(d.day.toordinal()) - date(1970, 1, 1).toordinal() for d in days}
    assert count_states(log, window).scored == sum(n for n, _ in truth.values())
    assert largest <= 1e-9, largest
    return largest


def open_store(backend: str, options: argparse.Namespace, folder: Path) -> Store:
    """Return a store whose log is in a database of this kind. ClickHouse's settings are in an SQLite file."""
    settings = f"sqlite:///{folder / f'{backend}.db'}"
    if backend == "sqlite":
        store = Store(settings, create=True)
    elif backend == "clickhouse":
        store = Store(settings, create=True, log_url=make_url(backend, folder))
    else:
        store = Store(make_url(backend, folder), create=True)
    if list_dimensions(store, SCOPE)[-1] not in DIMENSIONS and not options.plain:
        save_service(store, ServiceSettings(SCOPE.service, dimensions=tuple(DIMENSIONS)), Act("benchmark", "measure"))
    return store


def count_bytes(log: RetrievalLog) -> int:
    """Return what a log takes on disk, indexes and rollups included."""
    if isinstance(log, ClickHouseLog):
        counted = f"SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = '{log.database}'"
        return int(log.query(counted)[0][0])
    assert isinstance(log, SqlLog)
    sizes = {"postgresql": "pg_database_size(current_database())"}
    size = sizes.get(log.store.dialect, "page_count * page_size FROM pragma_page_count(), pragma_page_size()")
    with log.store.read() as connection:
        return int(connection.scalar(text(f"SELECT {size}")) or 0)


def measure(backend: str, options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Return the figures of one database by name."""
    store = open_store(backend, options, folder)
    log, figures = as_log(store), dict[str, str]()
    if not list_daily_scores(store):
        speeds = fill(log, options)
        figures["rows/s, first million"] = f"{speeds[0]:,.0f}"
        figures["rows/s, last million"] = f"{speeds[-1]:,.0f}"
        before = time.perf_counter()
        while close_days(store, now=datetime(2026, 10, 1, 12, tzinfo=UTC)):
            pass
        figures["closing of all days, once (s)"] = f"{time.perf_counter() - before:,.0f}"
        figures["bytes a row on disk"] = f"{count_bytes(log) / options.rows:,.0f}"
    if isinstance(log, SqlLog) and log.store.dialect == "postgresql":
        with create_engine(log.store.url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))  # the server does this automatically, a little later
    month, week, everything = (last_days(days, until=LAST) for days in (30, 7, options.days))
    page_ms = median_ms(lambda: read_drift_page(store), 9)
    report_ms = median_ms(lambda: report_drift(store, scope=SCOPE, today=LAST + timedelta(days=1)))
    histogram_ms = median_ms(lambda: list_daily_scores(store, window=month, scope=SCOPE), 20)
    states_ms = median_ms(lambda: count_states(store, week, SCOPE), 20)
    scan_ms = median_ms(lambda: scan(log, month), 1)
    figures |= {
        "what the drift page reads (ms)": f"{page_ms:.1f}",
        "the same with all its verdicts (ms)": f"{report_ms:,.0f}",
        "30-day daily histogram (ms)": f"{histogram_ms:.2f}",
        "the same by a scan of the rows (ms)": f"{scan_ms:,.0f}",
        "scan / rollup": f"{scan_ms / histogram_ms:,.0f}",
        "states of the last 7 days (ms)": f"{states_ms:.2f}",
    }
    for name, window, below in (
        ("low queries of 7 days (ms)", week, LOW),
        ("low queries of 30 days (ms)", month, LOW),
        (f"low queries of 30 days, threshold {LOW_SCORE_CEILING} (ms)", month, LOW_SCORE_CEILING),
    ):
        read = partial(list_questions, store, window, below=below, scope=SCOPE)
        figures[name] = f"{median_ms(read, 1):,.0f}"
    figures["largest difference of a daily mean"] = f"{check(store, everything):.1e}"
    if options.folder is None:
        purge_before = END_MS - (options.days - 7) * DAY_MS
        before = time.perf_counter()
        deleted = log.purge(purge_before)
        figures["purge of the oldest week, rows/s"] = f"{deleted / (time.perf_counter() - before):,.0f}"
    store.close()
    log.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backends", nargs="+", default=["sqlite", "postgresql", "clickhouse"])
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for backend in options.backends:
            found[backend] = measure(backend, options, options.folder or Path(folder))
            print(backend, found[backend], flush=True)
    print(f"\n{options.rows:,} rows over {options.days} days, seed {options.seed}")
    print(f"{'':46}" + "".join(f"{backend:>16}" for backend in found))
    for name in dict.fromkeys(name for figures in found.values() for name in figures):
        print(f"{name:46}" + "".join(f"{figures.get(name, ''):>16}" for figures in found.values()))


if __name__ == "__main__":
    main()
