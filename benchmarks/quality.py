"""How long the quality tab reads its numbers: rollups as 10 million rows of a service over 90 days leave them.

Their size depends on hours, metrics and values of dimensions, not on rows. `python -m benchmarks.quality FOLDER`.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from core.log.metrics import list_metric_days, list_metric_segments
from core.log.retrievals import last_days
from core.reviews.judged import JudgedAnswer, save_judged
from core.reviews.report import report_judged
from quarterdeck.clock import DAY_MS, HOUR_MS, to_ms
from quarterdeck.rollups import bin_of
from quarterdeck.schema import FIRST_SCOPE, metric_bins, metric_sums
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

DAYS, ROWS = 90, 10_000_000
NAMES = ("latency_ms", "cost_usd", "tokens", "feedback", "faithfulness", "relevancy")
SERIES = (
    ("", ""),
    *((name, f"{name}-{n}") for name in ("arm", "prompt_version", "model", "tenant") for n in range(10)),
)
BINS = tuple(bin_of(1.05**step) for step in range(0, 120, 2))
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def main() -> None:
    """Fill a store and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="", help="of an empty store in PostgreSQL, instead of a file in the folder")
    given = parser.parse_args()
    store = Store(given.url or f"sqlite:///{given.folder / 'quality.db'}", create=True)
    with store.begin() as connection:
        for table, rows in ((metric_sums, _sums()), (metric_bins, _bins())):
            connection.execute(insert(table), list(rows))
    judged = [
        JudgedAnswer(f"q-{n}", "faithfulness", to_ms(NOW) - n * 400_000, "offline v1", n % 5 / 5, "", 0.0, True)
        for n in range(18_000)
    ]
    save_judged(store, DEFAULT_SCOPE, judged, at_ms=to_ms(NOW))
    window = last_days(DAYS, until=NOW.date())
    _time("90 days of six numbers", lambda: list_metric_days(store, DEFAULT_SCOPE, NAMES, window))
    _time("ten values of a dimension", lambda: list_metric_segments(store, DEFAULT_SCOPE, NAMES, window, "tenant"))
    _time("18,000 judged answers", lambda: report_judged(store, DEFAULT_SCOPE, window))
    store.close()


def _sums() -> Iterator[dict[str, Any]]:
    first = to_ms((NOW - timedelta(days=DAYS - 1)).replace(hour=0))
    n = ROWS // (DAYS * 24)
    for dimension, value in SERIES:
        for name in NAMES:
            for hour in range(DAYS * 24):
                yield {
                    "scope_id": FIRST_SCOPE, "dimension": dimension, "value": value, "metric": name,
                    "start_ms": first + hour * HOUR_MS, "n": n, "total": n * 0.5, "total_squares": n * 0.3,
                }  # fmt: skip


def _bins() -> Iterator[dict[str, Any]]:
    first = to_ms((NOW - timedelta(days=DAYS - 1)).replace(hour=0))
    n = ROWS // DAYS // len(BINS)
    for dimension, value in SERIES:
        for name in NAMES:
            for day in range(DAYS):
                for number in BINS:
                    yield {
                        "scope_id": FIRST_SCOPE, "dimension": dimension, "value": value, "metric": name,
                        "day_ms": first + day * DAY_MS, "bin": number, "n": n,
                    }  # fmt: skip


def _time(what: str, read: Callable[[], object]) -> None:
    found = []
    for _ in range(5):
        start = time.perf_counter()
        read()
        found.append(time.perf_counter() - start)
    print(f"{what}: median {statistics.median(found) * 1000:.0f} ms of {', '.join(f'{each:.2f} s' for each in found)}")


if __name__ == "__main__":
    main()
