"""Rows per second of `log_retrieval`, validated, redacted and rolled up, compared with a connection and commit per row.

    python -m benchmarks.recorder [--rows 200000] [--folder FOLDER]

Both write the same questions into new SQLite files in the same folder, one after the other. The naive way is the usual
first one: connect, CREATE TABLE IF NOT EXISTS, INSERT, commit. Ours runs until `flush` says that all is durable. Every
row is counted afterwards, in the log and in the rollups.
"""

import argparse
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from quarterdeck import Quarterdeck

NAIVE_S = 3.0
PROCESSES = 4


def question(number: int) -> tuple[str, float, str]:
    """Return a question, its score and its session: every tenth question is new, as in a busy product."""
    text = f"how do I set the ring size {number}" if number % 10 == 0 else f"what is an mbuf pool {number % 500}"
    return text, number % 997 / 997, f"s{number // 3}"


def record(path: Path, rows: int) -> float:
    """Log rows and flush; return the seconds that took."""
    with Quarterdeck(f"sqlite:///{path}") as deck:
        deck.log_retrieval("warm up", 0.5)
        deck.flush()
        before = time.perf_counter()
        for number in range(rows):
            text, score, session = question(number)
            deck.log_retrieval(
                text, score, session_id=session, arm="blue", prompt_version="v2", index_version="docs-v1"
            )
        deck.flush(300)
        spent = time.perf_counter() - before
        if deck.dropped:
            raise SystemExit(f"{deck.dropped} rows were dropped")
    return spent


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
        slowest = max(slowest, float(out))
    return slowest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--write-to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write_to:
        print(record(options.write_to, options.rows))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        naive = record_naively(folder / "naive.db", NAIVE_S)
        one = options.rows / record(folder / "one.db", options.rows)
        check(folder / "one.db", options.rows + 1)
        many = PROCESSES * options.rows / record_in_processes(folder / "four.db", options.rows)
        check(folder / "four.db", PROCESSES * (options.rows + 1))
    print(f"{'a connection and a commit a row':36}{naive:>12,.0f} rows/s")
    print(f"{'log_retrieval, one process':36}{one:>12,.0f} rows/s  {one / naive:>8,.0f} times")
    print(f"{'log_retrieval, four processes':36}{many:>12,.0f} rows/s  {many / naive:>8,.0f} times")


if __name__ == "__main__":
    main()
