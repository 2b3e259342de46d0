"""What ten million retrievals cost to add, and to read for the drift and coverage pages, compared with a scan.

    python -m benchmarks.retrieval_log [--rows 10000000] [--days 90] [--seed 1] [--backends sqlite postgresql]

The same seeded rows go into each database through the log's own `append`, rollups kept. Every figure of the rollups is
compared with the scan: counts exactly, means to 1e-9. Databases are made in --folder and removed afterwards.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import create_engine, text

from core.log.retrievals import (
    SEGMENTS,
    Window,
    count_states,
    get_span,
    last_days,
    list_daily_scores,
    list_questions,
    list_segment_scores,
)
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clock import DAY_MS
from quarterdeck.log import RetrievalLog, SqlLog, open_log
from quarterdeck.retrieval import Row
from tests.backends import make_url

LAST = date(2026, 9, 30)
END_MS = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp() * 1000)
BATCH = 50_000
DISTINCT = 200_000
LOW = 0.47  # about one query in ten
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


def draw_rows(count: int, days: int, seed: int) -> Iterator[list[Row]]:
    """Yield batches in the order of time: Zipf-like questions, two arms, three prompt and three index versions."""
    rng = np.random.default_rng(seed)
    texts = [
        f"how do I set the {WORDS[i % 13]} {WORDS[i // 13 % 13]} for {WORDS[i // 169 % 13]} number {i}"
        for i in range(DISTINCT)
    ]
    level = np.clip(rng.normal(0.66, 0.13, DISTINCT), 0.02, 0.99)
    popularity = 1 / np.arange(3, DISTINCT + 3) ** 0.8
    rng.shuffle(popularity)
    ends = np.cumsum(popularity / popularity.sum())
    start_ms = END_MS - days * DAY_MS
    for first in range(0, count, BATCH):
        size = min(BATCH, count - first)
        place = (first + np.arange(size)) / count
        asked = np.minimum(np.searchsorted(ends, rng.random(size)), DISTINCT - 1)
        scores = np.clip(level[asked] + rng.normal(0, 0.02, size), 0, 1)
        empty = rng.random(size) < 0.005
        arms = np.where(rng.random(size) < 0.1, "green", "blue").tolist()
        prompts = np.where(rng.random(size) < 0.3, "v3", np.where(place < 0.4, "v1", "v2")).tolist()
        versions = np.array(["docs-v1", "docs-v2", "docs-v3"])[(place * 3).astype(int)].tolist()
        moments = (start_ms + place * days * DAY_MS).astype(np.int64).tolist()
        yield [
            (ts, texts[at], None if none else score, f"s{ts // 60_000}", arm, prompt, version, None, None, None, None)
            for ts, at, score, none, arm, prompt, version in zip(
                moments, asked.tolist(), scores.tolist(), empty.tolist(), arms, prompts, versions, strict=True
            )
        ]


def fill(log: RetrievalLog, options: argparse.Namespace) -> list[float]:
    """Append all rows; return the rows a second of each million, the drawing not counted."""
    speeds, spent, since = [], 0.0, 0
    for rows in draw_rows(options.rows, options.days, options.seed):
        before = time.perf_counter()
        log.append(rows)
        spent += time.perf_counter() - before
        since += len(rows)
        if since >= min(1_000_000, options.rows):
            speeds.append(since / spent)
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


def read_drift_page(log: RetrievalLog) -> None:
    """Read all that the drift page shows: every day there is, every segment, empty hit lists, the span."""
    list_daily_scores(log)
    for dimension in SEGMENTS:
        list_segment_scores(log, dimension)
    count_states(log, last_days(7, until=LAST))
    get_span(log)


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


def check(log: RetrievalLog, window: Window) -> float:
    """Compare rollups with the scan; return the largest difference of a mean. Raises on any other difference."""
    truth = scan(log, window)
    largest = 0.0
    days = list_daily_scores(log, window=window)
    for day in days:
        at = int(datetime(day.day.year, day.day.month, day.day.day, tzinfo=UTC).timestamp() * 1000) // DAY_MS
        bins = [truth.get((at, number), (0, 0.0)) for number in range(50)]
        assert day.histogram == tuple(n for n, _ in bins), day.day
        largest = max(largest, abs(day.mean - sum(total for _, total in bins) / day.count))
    assert {day for day, _ in truth} == {int(d.day.toordinal()) - date(1970, 1, 1).toordinal() for d in days}
    assert count_states(log, window).scored == sum(n for n, _ in truth.values())
    assert largest <= 1e-9, largest
    return largest


def measure(backend: str, options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Return the figures of one database by name."""
    url = make_url(backend, folder)
    log = open_log(url, create=True)
    speeds = fill(log, options)
    if isinstance(log, SqlLog) and log.store.dialect == "postgresql":
        with create_engine(log.store.url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))  # the server does this automatically, a little later
    month, week, everything = (last_days(days, until=LAST) for days in (30, 7, options.days))
    histogram_ms = median_ms(lambda: list_daily_scores(log, window=month), 20)
    scan_ms = median_ms(lambda: scan(log, month), 1)
    figures = {
        "rows/s, first million": f"{speeds[0]:,.0f}",
        "rows/s, last million": f"{speeds[-1]:,.0f}",
        "rows/s, each million (thousands)": " ".join(f"{speed / 1000:.0f}" for speed in speeds),
        "drift page, everything (ms)": f"{median_ms(lambda: read_drift_page(log)):.1f}",
        "30-day daily histogram (ms)": f"{histogram_ms:.2f}",
        "the same by a scan of the rows (ms)": f"{scan_ms:,.0f}",
        "scan / rollup": f"{scan_ms / histogram_ms:,.0f}",
        "the 7 last days (ms)": f"{median_ms(lambda: list_daily_scores(log, window=week), 20):.2f}",
        "low queries of 7 days (ms)": f"{median_ms(lambda: list_questions(log, week, below=LOW), 3):,.0f}",
        "low queries of 30 days (ms)": f"{median_ms(lambda: list_questions(log, month, below=LOW), 3):,.0f}",
        "low queries of 30 days, threshold 0.7 (ms)": (
            f"{median_ms(lambda: list_questions(log, month, below=0.7), 1):,.0f}"
        ),
        "largest difference of a daily mean": f"{check(log, everything):.1e}",
    }
    purge_before = LAST - timedelta(days=options.days - 8)
    old_ms = int(datetime(purge_before.year, purge_before.month, purge_before.day, tzinfo=UTC).timestamp() * 1000)
    before = time.perf_counter()
    deleted = log.purge(old_ms)
    figures["purge of the oldest week, rows/s"] = f"{deleted / (time.perf_counter() - before):,.0f}"
    log.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backends", nargs="+", default=["sqlite", "postgresql", "clickhouse"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = {}
        for backend in options.backends:
            found[backend] = measure(backend, options, Path(folder))
            print(backend, found[backend], flush=True)
    print(f"\n{options.rows:,} rows over {options.days} days, seed {options.seed}")
    print(f"{'':46}" + "".join(f"{backend:>16}" for backend in found))
    for name in next(iter(found.values())):
        if "each million" not in name:
            print(f"{name:46}" + "".join(f"{figures[name]:>16}" for figures in found.values()))


if __name__ == "__main__":
    main()
