"""What the documents rollup costs to read: 20,000 documents, each found every day, over 90 days.

    python -m benchmarks.documents [--documents 20000] [--days 90] [--backends sqlite postgresql]

The rows of `document_days` are written as the writers write them, a day at a time, and packed as the server does it.
Compared with the sum by the database itself; both must agree. One window ends with a day that is not packed yet.
"""

import argparse
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from benchmarks.retrieval_log import median_ms
from core.log.documents import list_documents, pack_documents
from quarterdeck.clock import DAY_MS, to_ms
from quarterdeck.registry import registry_of
from quarterdeck.schema import SUMS, document_days, rollups
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store
from tests.backends import make_url

LAST = date(2026, 9, 30)
END_MS = to_ms(datetime(2026, 10, 1, tzinfo=UTC))


def fill(store: Store, documents: int, days: int) -> None:
    """Write each document's sums of each day, and the hour that says how many questions there were."""
    rng = np.random.default_rng(1)
    names = [column.name for column in document_days.c]
    for day in range(days):
        start_ms = END_MS - (days - day) * DAY_MS
        counts = rng.poisson(3, (documents, 10))
        with store.begin() as connection:
            scope_id = registry_of(store).lend().find_ids(connection, [DEFAULT_SCOPE])[DEFAULT_SCOPE]
            rows = []
            for at, tenths in enumerate(counts.tolist()):
                n = sum(tenths)
                sums_of_one = (n, n // 5, 3 * n, n, 0.6 * n, 0, *tenths)
                rows.append(dict(zip(names, (scope_id, start_ms, f"docs/page-{at}.md", *sums_of_one), strict=True)))
            connection.execute(document_days.insert(), rows)
            sums = dict.fromkeys(SUMS, 0) | {"n": int(counts.sum()), "total": 0.6 * float(counts.sum())}
            hour = {"scope_id": scope_id, "dimension": "", "value": "", "start_ms": start_ms}
            connection.execute(rollups.insert().values(hour | sums))


def sum_in_database(store: Store) -> dict[str, int]:
    """Return how many questions each document was found for, by a sum over all rows."""
    c = document_days.c
    with store.read() as connection:
        found = connection.execute(select(c.document, func.sum(c.n)).group_by(c.document))
        return {str(name): int(n) for name, n in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--backends", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    for backend in options.backends:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(make_url(backend, Path(folder)), create=True)
            fill(store, options.documents, options.days)
            print(f"{backend}: {options.documents:,} documents, {options.days} days: {measure(store, options.days)}")
            store.close()


def measure(store: Store, days: int) -> str:
    """Return the figures of one store as a sentence."""
    first, yesterday = LAST - timedelta(days=days - 1), LAST - timedelta(days=1)
    before = time.perf_counter()
    packed = pack_documents(store, now=datetime(2026, 10, 1, tzinfo=UTC))
    packing_ms = (time.perf_counter() - before) / packed * 1000
    whole_ms = median_ms(lambda: list_documents(store, DEFAULT_SCOPE, first=first - timedelta(days=1), last=yesterday))
    today_ms = median_ms(lambda: list_documents(store, DEFAULT_SCOPE, first=first, last=LAST))
    sum_ms = median_ms(lambda: sum_in_database(store), 1)
    found = list_documents(store, DEFAULT_SCOPE, first=first, last=LAST)
    assert dict(zip(found.names, found.retrieved.astype(int), strict=True)) == sum_in_database(store)
    return (
        f"{whole_ms:.0f} ms for days that are over, {today_ms:.0f} ms with today; the database's own sum takes "
        f"{sum_ms:,.0f} ms; packing takes {packing_ms:.0f} ms a day"
    )


if __name__ == "__main__":
    main()
