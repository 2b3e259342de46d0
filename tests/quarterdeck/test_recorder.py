import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from core.log.retrievals import list_daily_scores
from quarterdeck import Quarterdeck
from quarterdeck.errors import SourceUnavailable
from quarterdeck.intake import IntakeCounter
from quarterdeck.recorder import Recorder, append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import dimension_values, metric_sums, retrievals, rollups, scopes
from quarterdeck.scope import Scope
from quarterdeck.store import Store

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def make(score: float | None = 0.5, **values: object) -> Retrieval:
    return Retrieval(**{"ts": NOON, "query": "what is an mbuf", "score": score} | values)  # type: ignore[arg-type]


def count_rows(store: Store) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(retrievals)) or 0


def read_rollups(store: Store) -> dict[str, list[tuple]]:
    tables = (rollups, metric_sums, dimension_values)
    with store.read() as connection:
        return {table.name: sorted(tuple(row) for row in connection.execute(select(table))) for table in tables}


def test_a_flush_returns_when_every_row_is_durable(url, store):
    recorder = Recorder(store)
    for _ in range(1_234):
        assert recorder.record(make())
    recorder.flush()
    with closing(Store(url)) as elsewhere:
        assert count_rows(elsewhere) == 1_234
    recorder.close()


def test_rows_land_after_the_time_limit_without_a_flush(store):
    recorder = Recorder(store, batch_s=0.01)
    recorder.record(make())
    for _ in range(400):
        if count_rows(store):
            break
        time.sleep(0.025)
    assert count_rows(store) == 1
    recorder.close()


def test_rollups_are_the_same_whether_we_or_another_program_inserts(store, tmp_path):
    rows = [
        make(0.1), make(0.999), make(1.0), make(None), make(0.37, arm="green", prompt_version="v3"),
        make(0.37, arm="green", prompt_version="v3", index_version="docs-v2", latency_ms=40.0, feedback=-1.0),
        make(0.25, arm="green", latency_ms=20.5, cost_usd=0.002),
    ]  # fmt: skip
    append_retrievals(store, rows)
    other = Store(f"sqlite:///{tmp_path / 'other.db'}", create=True)
    with other.begin() as connection:
        for r in rows:
            connection.execute(
                text(
                    "INSERT INTO retrievals (ts_ms, query, score, arm, prompt_version, index_version, latency_ms, "
                    "cost_usd, feedback) VALUES (:ts, :query, :score, :arm, :prompt, :index, :ms, :cost, :feedback)"
                ),
                {"ts": r.ts_ms, "query": r.query, "score": r.score, "arm": r.arm, "prompt": r.prompt_version,
                 "index": r.index_version, "ms": r.latency_ms, "cost": r.cost_usd, "feedback": r.feedback},
            )  # fmt: skip
    assert read_rollups(store) == read_rollups(other)
    found = read_rollups(store)["rollups"]
    assert {row[3] for row in found} == {1_772_366_400_000}  # noon
    assert [(row[4], row[10]) for row in found if row[1] == ""] == [(len(rows) - 1, 1)]
    other.close()


@pytest.mark.sqlite_only("it locks the file")
def test_a_full_queue_makes_the_caller_wait_and_then_counts_the_drop(store, caplog):
    with closing(sqlite3.connect(str(store.url.database), isolation_level=None)) as blocker, blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        recorder = Recorder(Store(str(store.url), wait_s=0.05), max_queue=3, block_s=0.05)
        with caplog.at_level(logging.WARNING, "quarterdeck"):
            assert [recorder.record(make()) for _ in range(5)] == [True, True, True, False, False]
        assert recorder.dropped == 2
        assert "dropped so far" in caplog.text
        with pytest.raises(SourceUnavailable, match="3 retrievals are not stored"):
            recorder.flush(timeout_s=0.2)
        blocker.execute("ROLLBACK")
    recorder.flush()
    assert count_rows(store) == 3
    recorder.close()


def test_an_id_is_taken_in_its_own_environment_and_service_alone(store):
    staging = Scope("staging", "default")
    for rows in ([make(retrieval_id="q-1")], [make(retrieval_id="q-1", scope=staging)] * 2, [make(retrieval_id="q-1")]):
        with closing(Recorder(store)) as recorder:
            for row in rows:
                recorder.record(row)
    assert append_retrievals(store, [make(retrieval_id=name, scope=staging) for name in ("q-1", "q-2")]) == 1
    with store.read() as connection:
        c = retrievals.c
        query = select(scopes.c.environment, c.retrieval_id).join(scopes, scopes.c.id == c.scope_id)
        assert sorted(map(tuple, connection.execute(query))) == [
            ("production", "q-1"), ("staging", "q-1"), ("staging", "q-2"),
        ]  # fmt: skip


def test_a_closed_recorder_takes_no_more_rows(store):
    recorder = Recorder(store)
    recorder.record(make())
    recorder.close()
    recorder.close()
    assert count_rows(store) == 1
    with pytest.raises(SourceUnavailable, match="closed"):
        recorder.record(make())


def test_what_is_queued_at_exit_is_stored(url, store):
    script = "from quarterdeck import Quarterdeck; import sys; d = Quarterdeck(sys.argv[1]); "
    script += "[d.log_retrieval('q', .5) for _ in range(700)]"
    subprocess.run([sys.executable, "-c", script, url], check=True, timeout=60)
    assert count_rows(store) == 700


@pytest.mark.deep
@pytest.mark.slow
def test_four_processes_at_once_lose_no_row_and_see_no_lock(url, store):
    script = "from quarterdeck import Quarterdeck; import sys; d = Quarterdeck(sys.argv[1])\n"
    script += "for i in range(2000): d.log_retrieval(f'q{i}', i / 2000, arm=sys.argv[2])\nd.close(); print(d.dropped)"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, url, arm], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for arm in "abcd"
    ]
    for writer in writers:
        out, err = writer.communicate(timeout=120)
        assert (out, err, writer.returncode) == ("0\n", "", 0)
    assert count_rows(store) == 8_000
    assert sum(row[4] for row in read_rollups(store)["rollups"] if row[1] == "") == 8_000


@pytest.mark.deep
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_its_own_rows_and_not_the_parents(url, store, tmp_path: Path):
    script = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from quarterdeck import Quarterdeck
deck = Quarterdeck(sys.argv[1])
for _ in range(10): deck.log_retrieval("parent", .5)
deck.flush()
child = os.fork()
deck.log_retrieval("child" if child == 0 else "parent", .5)
deck.close()
if child: os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script, url], check=True, timeout=60)
    with store.read() as connection:
        found = dict(connection.execute(text("SELECT query, COUNT(*) FROM retrievals GROUP BY query")).all())
    assert found == {"parent": 11, "child": 1}


@pytest.mark.deep
def test_a_query_is_redacted_before_it_is_stored_unless_that_is_turned_off(url, store):
    for client in (Quarterdeck(url), Quarterdeck(url, redact=str.upper), Quarterdeck(url, redact=None)):
        with client:
            client.log_retrieval("mail ada@example.org", 0.5)
    with store.read() as connection:
        plain, upper, kept = connection.scalars(text("SELECT query FROM retrievals ORDER BY id"))
    assert "ada@" not in plain
    assert plain.startswith("mail ")
    assert (upper, kept) == ("MAIL ADA@EXAMPLE.ORG", "mail ada@example.org")


def test_a_log_apart_from_the_store_takes_the_rows(url, store, tmp_path):
    apart = f"sqlite:///{tmp_path / 'log.db'}"
    with Quarterdeck(url, apart) as client:
        client.log_retrieval("q", 0.5)
    assert count_rows(store) == 0
    opened = Store(apart)
    assert count_rows(opened) == 1
    beside = Store(url, log_url=apart)
    assert sum(day.count for day in list_daily_scores(beside)) == 1
    opened.close()
    beside.close()


def test_threads_that_record_at_once_lose_no_row(store):
    recorder = Recorder(store, batch_rows=50, max_queue=500, block_s=60)
    threads = [
        threading.Thread(target=lambda: [recorder.record(make(arm="abcd"[n % 4])) for n in range(3_000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    assert (count_rows(store), recorder.dropped) == (12_000, 0)
    assert sum(row[4] for row in read_rollups(store)["rollups"] if row[1] == "") == 12_000


@pytest.mark.sqlite_only("it locks the file")
def test_a_store_that_comes_back_gets_what_was_queued_meanwhile(store):
    recorder = Recorder(Store(str(store.url), wait_s=0.01))
    with closing(sqlite3.connect(str(store.url.database), isolation_level=None)) as blocker, blocker:
        blocker.execute("BEGIN EXCLUSIVE")
        for _ in range(700):
            assert recorder.record(make())
        with pytest.raises(SourceUnavailable, match="700 retrievals are not stored.*locked"):
            recorder.flush(timeout_s=0.5)
        blocker.execute("ROLLBACK")
    recorder.flush()
    assert count_rows(store) == 700
    recorder.close()


def test_rows_that_no_store_can_hold_are_refused_alone_and_counted(store, caplog):
    counter = IntakeCounter(Scope())
    with closing(Recorder(store, intake=counter)) as recorder:
        for number in range(40):
            row = make(retrieval_id=f"r-{number}").row
            recorder.record_row((row[0], None, *row[2:]) if number in (3, 17) else row)
        recorder.flush()
        recorder.record(make(retrieval_id="after"))
    assert count_rows(store) == 39
    assert {counted.reason: n for counted, (n, _) in counter.take_all().items() if n} == {"": 39, "row": 2}
    assert "row: cannot be stored" in caplog.text


def test_an_unforeseen_fault_of_the_store_is_tried_again(store, monkeypatch, caplog):
    recorder, failures = Recorder(store), [MemoryError("later")]
    append = recorder.log.append

    def append_later(rows, within=None):
        if failures:
            raise failures.pop()
        return append(rows, within)

    monkeypatch.setattr(recorder.log, "append", append_later)
    recorder.record(make())
    recorder.close()
    assert count_rows(store) == 1
    assert "stay queued" in caplog.text
