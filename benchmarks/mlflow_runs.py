"""Reading 10,000 and 100,000 MLflow runs (6 metrics, 6 parameters each) from SQLite: Quarterdeck and MLflow's client.

    .venv/bin/python -m benchmarks.mlflow_runs [--runs 10000 100000] [--keep FOLDER]

Prints both times of one run of this script, measured on one store, and their ratio; then what the runs tab of the
prompts page reads for one page, in four ways. Bars: 10,000 runs in under 0.5 s and 10 times faster than
`mlflow.search_runs`; any page of 100,000 in under 2 s. The store has MLflow's own schema, made by MLflow; its rows are
filled in by SQL because logging them through the client would take hours.
"""

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
METRICS = (
    "faithfulness_mean",
    "faithfulness_min",
    "relevancy_mean",
    "relevancy_min",
    "cost_usd_mean",
    "refusal_accuracy",
)
PARAMS = ("prompt", "version", "model", "top_k", "max_sentences", "embedding_model")

# Run in a fresh interpreter each time, so that nothing of the store is in memory yet. Imports are not counted.
OURS = """
import sys, time
sys.path.insert(0, sys.argv[2])
from core.tracking.gateway import Tracking
from core.tracking.runs import RunFilter
started = time.perf_counter()
runs = Tracking(sys.argv[1]).list_runs(RunFilter("bench"), limit=int(sys.argv[3]), offset=int(sys.argv[4]))
elapsed = time.perf_counter() - started
assert all(len(run.metrics) == 6 and len(run.params) == 6 for run in runs)
print(len(runs), elapsed)
"""
# What the runs tab reads: one page and the count of its runs, and the choices of its filters.
PAGE = """
import sys, time
sys.path.insert(0, sys.argv[2])
from core.tracking.gateway import Tracking
from core.tracking.runs import RunFilter, RunSort, SortKind, choose_columns
dear, small = RunSort(SortKind.METRIC, "cost_usd_mean"), RunSort(SortKind.PARAM, "top_k", descending=False)
where, sort, offset = {
    "newest": (RunFilter("bench"), RunSort(), 0),
    "last page": (RunFilter("bench"), RunSort(), int(sys.argv[3]) - 100),
    "by a metric": (RunFilter("bench"), dear, 0),
    "by a parameter": (RunFilter("bench"), small, 0),
    "filtered": (RunFilter("bench", prompt="prompt-3", tag=("team", "team-3")), dear, 0),
}[sys.argv[4]]
started = time.perf_counter()
tracking = Tracking(sys.argv[1])
page = tracking.page_runs(where, sort, limit=100, offset=offset)
choose_columns(page.runs)
tracking.list_runs(RunFilter("bench"), limit=1_000)
elapsed = time.perf_counter() - started
assert len(page.runs) == 100 and page.total <= int(sys.argv[3])
print(sys.argv[3], elapsed)
"""
PAGES = ("newest", "last page", "by a metric", "by a parameter", "filtered")
PEER = """
import sys, time
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.search_runs(experiment_names=["Default"])  # opens the store: its import and checks are not counted
started = time.perf_counter()
frame = mlflow.search_runs(experiment_names=["bench"], max_results=int(sys.argv[3]))
print(len(frame), time.perf_counter() - started)
"""


def main() -> None:
    """Fill a store and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--keep", type=Path, help="keep the store in this folder, and use it again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for runs in options.runs:
            database = folder / f"runs-{runs}.db"
            if not database.exists():
                fill_store(database, runs=runs)
            report(f"sqlite:///{database.absolute()}", runs)


def report(uri: str, runs: int) -> None:
    """Time both readers, three times each, in fresh processes; print the median and the ratio."""
    page = min(runs, 10_000)
    ours = _median(OURS, uri, page, 0)
    print(f"quarterdeck: newest {page:,} of {runs:,} runs, first read of a fresh process: {ours:.3f} s")
    if runs > page:
        print(f"quarterdeck: the oldest {page:,} of them: {_median(OURS, uri, page, runs - page):.3f} s")
    peer = _median(PEER, uri, page, 0)
    print(f"mlflow.search_runs: {page:,} of {runs:,} runs, store already open: {peer:.3f} s")
    print(f"ratio: {peer / ours:.1f} times")
    for which in PAGES:
        print(f"runs tab, 100 of {runs:,} runs, {which}: {_median(PAGE, uri, runs, which):.3f} s")


def fill_store(database: Path, *, runs: int) -> None:
    """Make a store with MLflow's schema and `runs` runs in the experiment `bench`."""
    uri = f"sqlite:///{database.absolute()}"
    make = "import sys; from mlflow import MlflowClient; print(MlflowClient(sys.argv[1]).create_experiment('bench'))"
    made = subprocess.run(
        [sys.executable, "-c", make, uri], check=True, capture_output=True, text=True, cwd=database.parent
    )
    rng = random.Random(0)
    ids = [f"{number:032x}" for number in range(runs)]
    with sqlite3.connect(database) as connection:
        connection.executemany(
            "INSERT INTO runs (run_uuid, name, start_time, end_time, experiment_id, status, lifecycle_stage,"
            " artifact_uri, source_type, user_id) VALUES (?, ?, ?, ?, ?, 'FINISHED', 'active', '', 'UNKNOWN', 'bench')",
            [(run, f"run-{n}", n * 60_000, n * 60_000 + 5, int(made.stdout)) for n, run in enumerate(ids)],
        )
        metrics = [(name, rng.random(), n, run) for n, run in enumerate(ids) for name in METRICS]
        for table in ("metrics", "latest_metrics"):
            columns = "key, value, timestamp, run_uuid, step, is_nan"
            connection.executemany(f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, 0, 0)", metrics)
        params = [(name, f"{name}-{n % 7}", run) for n, run in enumerate(ids) for name in PARAMS]
        connection.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", params)
        linked = '[{"name": "prompt-3", "version": "1"}]'
        tags = [
            row
            for n, run in enumerate(ids)
            for row in (
                ("mlflow.runName", f"run-{n}", run),
                ("team", f"team-{n % 7}", run),
                ("mlflow.linkedPrompts", linked, run),
            )
        ]
        connection.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", tags)
    connection.close()


def _median(script: str, uri: str, page: int, how: int | str) -> float:
    times = []
    for _ in range(3):
        command = [sys.executable, "-W", "ignore", "-c", script, uri, str(PROJECT), str(page), str(how)]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=Path(uri[len("sqlite:///") :]).parent
        )
        read, seconds = done.stdout.split()[-2:]
        assert int(read) == page, f"{read} runs read, {page} expected"
        times.append(float(seconds))
    return sorted(times)[1]


if __name__ == "__main__":
    main()
