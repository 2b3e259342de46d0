"""Rows per second of `log_retrieval`, validated, redacted and rolled up, compared with a connection and commit per row.

    python -m benchmarks.recorder [--rows 200000] [--folder FOLDER]

The same rows go through the client of the former release, from its wheel, and rows with five documents and three
declared dimensions through this one. All write the same questions into new SQLite files in the same folder, one after
the other. The naive way is the usual first one: connect, CREATE TABLE IF NOT EXISTS, INSERT, commit. Ours runs until
`flush` says that all is durable. Every row is counted afterwards, in the log and in the rollups.
"""

import argparse
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from quarterdeck import Quarterdeck

NAIVE_S = 3.0
PROCESSES = 4
SLICE = 10_000  # rows between two flushes, so that a call never waits for room
RELEASES = Path(__file__).parents[1] / "tests" / "fixtures" / "releases"


def question(number: int) -> tuple[str, float, str]:
    """Return a question, its score and its session: every tenth question is new, as in a busy product."""
    text = f"how do I set the ring size {number}" if number % 10 == 0 else f"what is an mbuf pool {number % 500}"
    return text, number % 997 / 997, f"s{number // 3}"


def record(path: Path, rows: int, *, rich: bool = False) -> tuple[float, float]:
    """Log rows and flush; return the seconds that took, and those of the calls alone, which never wait for room."""
    with Quarterdeck(f"sqlite:///{path}") as deck:
        deck.log_retrieval("warm up", 0.5)
        deck.flush()
        spent = called = 0.0
        for start in range(0, rows, SLICE):
            asked = [question(number) for number in range(start, min(rows, start + SLICE))]
            further = [details(number) if rich else {} for number in range(start, start + len(asked))]
            before = time.perf_counter()
            for (text, score, session), more in zip(asked, further, strict=True):
                deck.log_retrieval(
                    text, score, session_id=session, arm="blue", prompt_version="v2", index_version="docs-v1", **more
                )
            called += time.perf_counter() - before
            deck.flush(300)
            spent += time.perf_counter() - before
        if deck.dropped:
            raise SystemExit(f"{deck.dropped} rows were dropped")
    return spent, called


def details(number: int) -> dict[str, Any]:
    """Return five documents of 2,000 and three attributes of a question."""
    hits = [(f"docs/guide/page-{(number * 7 + rank * 131) % 2_000}.md", 0.9 - rank / 10) for rank in range(5)]
    attributes = {"tenant": f"t{number % 20}", "locale": f"l{number % 12}", "channel": f"c{number % 5}"}
    return {"documents": hits, "attributes": attributes}


def declare(path: Path) -> None:
    """Make the three attributes dimensions of the service."""
    from core.audit.acts import Act
    from core.log.service_operations import save_service
    from core.log.services import ServiceSettings
    from quarterdeck.store import Store

    store = Store(f"sqlite:///{path}", create=True)
    service = ServiceSettings("default", dimensions=("tenant", "locale", "channel"))
    save_service(store, service, Act("benchmark", "measure"))
    store.close()


def record_elsewhere(path: Path, rows: int, folder: Path) -> tuple[float, float]:
    """Log plain rows with the client of the former release, in a process of its own."""
    release = max(RELEASES.glob("*.whl"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(release)]
    subprocess.run(install, check=True)
    told = subprocess.run(
        [sys.executable, str(Path(__file__)), "--write-to", str(path), "--rows", str(rows)],
        env={**os.environ, "PYTHONPATH": str(folder)}, cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    spent, called = map(float, told.stdout.split())
    return spent, called


def record_naively(path: Path, seconds: float) -> float:
    """Write for some seconds with a connection and a commit a row; return the rows a second."""
    columns = "ts REAL, query TEXT, score REAL, session_id TEXT, arm TEXT, prompt_version TEXT, index_version TEXT"
    before, number = time.perf_counter(), 0
    while (spent := time.perf_counter() - before) < seconds:
        connection = sqlite3.connect(path)
        connection.execute(f"CREATE TABLE IF NOT EXISTS retrievals ({columns})")
        values = (time.time(), *question(number), "blue", "v2", "docs-v1")
        connection.execute("INSERT INTO retrievals VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        connection.commit()
        connection.close()
        number += 1
    return number / spent


def check(path: Path, rows: int) -> None:
    """Raise unless the log and its rollups hold just so many rows, and the warm-ups."""
    with sqlite3.connect(path) as connection:
        counts = [
            connection.execute(f"SELECT {what}").fetchone()[0]
            for what in (
                "COUNT(*) FROM retrievals",
                "SUM(n) FROM rollups WHERE dimension = ''",
                "SUM(n) FROM rollups WHERE dimension = 'arm'",
            )
        ]
    connection.close()
    if set(counts) != {rows}:
        raise SystemExit(f"{rows:,} rows were logged, but the tables hold {counts}")


def record_in_processes(path: Path, rows: int) -> float:
    """Let four processes log at once; return the seconds of the slowest. A failure of one ends the run."""
    command = [sys.executable, "-m", "benchmarks.recorder", "--write-to", str(path), "--rows", str(rows)]
    writers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    slowest = 0.0
    for writer in writers:
        out, err = writer.communicate()
        if writer.returncode or err:
            raise SystemExit(f"a writer failed: {err}")
        slowest = max(slowest, float(out.split()[0]))
    return slowest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--write-to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write_to:
        print(*record(options.write_to, options.rows))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        naive = record_naively(folder / "naive.db", NAIVE_S)
        found = {
            "the former release's client, plain": record_elsewhere(
                folder / "former.db", options.rows, folder / "former"
            ),
            "log_retrieval, plain": record(folder / "one.db", options.rows),
        }
        check(folder / "one.db", options.rows + 1)
        declare(folder / "rich.db")
        found["with 5 documents and 3 dimensions"] = record(folder / "rich.db", options.rows, rich=True)
        check(folder / "rich.db", options.rows + 1)
        many = PROCESSES * options.rows / record_in_processes(folder / "four.db", options.rows)
        check(folder / "four.db", PROCESSES * (options.rows + 1))
    print(f"{'a connection and a commit a row':38}{naive:>10,.0f} rows/s")
    for kind, (spent, called) in found.items():
        rate, call_us = options.rows / spent, called / options.rows * 1e6
        print(f"{kind:38}{rate:>10,.0f} rows/s  {rate / naive:>8,.0f} times  {call_us:.1f} us a call")
    print(f"{'log_retrieval plain, four processes':38}{many:>10,.0f} rows/s  {many / naive:>8,.0f} times")


if __name__ == "__main__":
    main()
