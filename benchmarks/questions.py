"""How long the first page of questions takes for each filter, alone and with a week in the past.

    python -m benchmarks.questions [--rows 10000000] [--days 90] [--seed 1] [--backends sqlite postgresql clickhouse]
        [--folder FOLDER] [--cpu]

The rows are those of `benchmarks.retrieval_log`: five documents of 20,000 and three attributes each. In --folder,
SQLite's file is kept, also one that `retrieval_log` made. With --cpu, times are those of the processor, for a machine
with other work to do; PostgreSQL's is another process. Bars: 300 ms, for words and attributes 2 s. Also prints what
building the search index takes, and its size.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import text

from benchmarks.retrieval_log import DOCUMENTS, END_MS, LOW, SCOPE, fill, open_store
from core.log.filters import Order, QuestionFilter
from core.log.questions import count_questions, list_page
from core.log.retrievals import list_daily_scores
from core.log.search_index import fill_search_index
from quarterdeck.clock import DAY_MS
from quarterdeck.log import SqlLog, as_log
from quarterdeck.schema import metadata
from quarterdeck.scope import EVERYTHING, Scope
from quarterdeck.store import Store
from quarterdeck.triggers import make_triggers

PAGE = 50
MOST_COUNTED = 10_000
BARS_MS = {"words": 2_000, "attribute": 2_000}
BAR_MS = 300


def list_filters(store: Store, days: int) -> dict[str, QuestionFilter]:
    """Return the filters by name; the words before a colon say which bar holds."""
    half_ms = END_MS - days * DAY_MS // 2
    asked = list_page(store, QuestionFilter(scope=SCOPE, below=LOW), limit=400).questions
    topic = tuple(sorted({question.query for question in asked}))
    old = list_page(store, QuestionFilter(scope=SCOPE, end_ms=half_ms), limit=1).questions[0]
    found = {
        "low": QuestionFilter(below=LOW),
        "state: empty": QuestionFilter(states=("empty",)),
        "state: failed (none)": QuestionFilter(states=("failed",)),
        "topic": QuestionFilter(texts=topic, below=LOW, start_ms=END_MS - 7 * DAY_MS, end_ms=END_MS),
        "day": QuestionFilter(start_ms=half_ms, end_ms=half_ms + DAY_MS),
        "service": QuestionFilter(scope=Scope("", SCOPE.service)),
        "environment": QuestionFilter(scope=Scope(SCOPE.environment, "")),
        "session": QuestionFilter(session_id=old.session_id or ""),
        "user (none)": QuestionFilter(user_id="nobody"),
        "document: frequent": QuestionFilter(documents=("docs/guide/page-3.md",)),
        "document: rare": QuestionFilter(documents=(f"docs/guide/page-{DOCUMENTS - 1}.md",)),
        "document: none": QuestionFilter(documents=("docs/guide/none.md",)),
        "id": QuestionFilter(retrieval_id=old.retrieval_id),
        "arm": QuestionFilter(labels=(("arm", "green"),)),
        "prompt: gone for half the time": QuestionFilter(labels=(("prompt_version", "v1"),)),
        "index: gone for two thirds": QuestionFilter(labels=(("index_version", "docs-v1"),)),
        "tenant and low": QuestionFilter(attributes=(("tenant", "tenant-3"),), below=LOW),
        "attribute: channel": QuestionFilter(attributes=(("channel", "channel-3"),)),
        "attribute: none": QuestionFilter(attributes=(("source", "none"),)),
        "words: frequent": QuestionFilter(search="buffer"),
        "words: rare": QuestionFilter(search="ring number 4711"),
        "words: none": QuestionFilter(search="gnome"),
    }
    return {name: replace(each, scope=SCOPE) if each.scope == EVERYTHING else each for name, each in found.items()}


def list_cases(store: Store, days: int) -> dict[str, tuple[QuestionFilter, Order]]:
    """Return the filters by name, and some of them with the oldest and the lowest score first."""
    filters = list_filters(store, days)
    found = {name: (wanted, Order.NEWEST) for name, wanted in filters.items()}
    filters["everything"] = QuestionFilter(scope=SCOPE)
    for order in (Order.OLDEST, Order.LOWEST):
        for name in ("everything", "low", "arm", "document: frequent", "tenant and low", "words: frequent"):
            found[f"{order} first, {name}"] = (filters[name], order)
    return found


def median(read: Callable[[], Any], clock: Callable[[], float], times: int) -> float:
    """Return the median of warm reads in milliseconds of a clock."""
    read()
    spent = []
    for _ in range(times):
        before = clock()
        read()
        spent.append(clock() - before)
    return statistics.median(spent) * 1000


def build_index(store: Store) -> dict[str, str]:
    """Fill the search index; return what that took."""
    log = as_log(store)
    if not isinstance(log, SqlLog):
        return {}
    with log.store.begin() as connection:
        metadata.create_all(connection)  # a kept file may be older
        make_triggers(connection)
    now = datetime.now(UTC)
    fill_search_index(store, now=now)
    before, slices = time.process_time(), 0
    while done := fill_search_index(store, now=now + timedelta(minutes=1)):
        slices += done
    spent = time.process_time() - before
    with log.store.read() as connection:
        size = connection.scalar(text("SELECT SUM(LENGTH(packed)) FROM search_packs")) or 0
    return {
        "slices packed": f"{slices} in {spent:,.0f} s of the processor",
        "size of the index (MB)": f"{size / 1e6:,.0f}",
    }


def measure(backend: str, options: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Return the figures of one database by name, each page in milliseconds: alone, and in a week of the past."""
    store = open_store(backend, options, folder)
    if not list_daily_scores(store):
        fill(as_log(store), options)
    figures = build_index(store)
    log = as_log(store)
    if isinstance(log, SqlLog) and log.store.dialect == "postgresql":
        with log.store.begin() as connection:
            connection.execute(text("ANALYZE"))
    clock = time.process_time if options.cpu else time.perf_counter
    week_ms = END_MS - options.days * DAY_MS // 3
    for name, (wanted, order) in list_cases(store, options.days).items():
        alone = median(partial(list_page, store, wanted, limit=PAGE, order=order), clock, 3)
        counted = median(partial(count_questions, store, wanted, most=MOST_COUNTED), clock, 1)
        inside = wanted
        if wanted.start_ms is None:
            inside = replace(wanted, start_ms=week_ms - 7 * DAY_MS, end_ms=week_ms)
        ranged = median(partial(list_page, store, inside, limit=PAGE, order=order), clock, 3)
        bar = BARS_MS.get(name.split(":")[0], BAR_MS)
        over = " OVER" if max(alone, ranged) > bar else ""
        figures[name] = f"{alone:,.0f} / {ranged:,.0f} / {counted:,.0f}{over}"
        print(f"{backend}  {name:32} {figures[name]}", flush=True)
    store.close()
    log.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backends", nargs="+", default=["sqlite", "postgresql", "clickhouse"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    options.plain = False
    with tempfile.TemporaryDirectory() as folder:
        found = {backend: measure(backend, options, options.folder or Path(folder)) for backend in options.backends}
    print(
        f"\n{options.rows:,} rows over {options.days} days, seed {options.seed}: page / page of a past week / count, ms"
    )
    print(f"{'':34}" + "".join(f"{backend:>24}" for backend in found))
    for name in dict.fromkeys(name for figures in found.values() for name in figures):
        print(f"{name:34}" + "".join(f"{figures.get(name, ''):>24}" for figures in found.values()))


if __name__ == "__main__":
    main()
