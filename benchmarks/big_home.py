"""A home of full size for the benchmarks of the pages: the demo with 10 million rows, 10,000 runs and 20,000 files.

    python -m benchmarks.big_home FOLDER [--rows 10000000] [--runs 10000] [--files 20000]

Builds the demo in FOLDER, appends the seeded rows of `benchmarks.retrieval_log` as the 90 days until today, fills the
runs of `benchmarks.mlflow_runs` into its MLflow store (experiment `bench`), and puts the repository of
`benchmarks.corpus_browse`, 50 versions of 20,000 files, in place of its corpus.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.corpus_browse import VERSIONS, build_repository
from benchmarks.mlflow_runs import fill_store
from benchmarks.retrieval_log import END_MS, draw_rows
from quarterdeck.log import open_log

DAYS, SEED = 90, 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=20_000)
    options = parser.parse_args()
    home = options.folder.absolute()
    started = time.perf_counter()
    environ = {**os.environ, "QUARTERDECK_HOME": str(home)}
    subprocess.run([sys.executable, "-m", "quarterdeck", "demo", "--reset"], check=True, env=environ)
    fill_log(home, options.rows)
    fill_store(home / "mlflow" / "mlflow.db", runs=options.runs)
    shutil.rmtree(home / "corpus")
    build_repository(home / "corpus", files=options.files, versions=VERSIONS, objects=True)
    print(f"{home}: {options.rows:,} rows, {options.runs:,} runs, {options.files:,} files in {VERSIONS} versions, "
          f"after {time.perf_counter() - started:.0f} s")  # fmt: skip


def fill_log(home: Path, rows: int) -> None:
    """Append the seeded rows, the last of them dated now."""
    log = open_log(f"sqlite:///{home / 'quarterdeck.db'}")
    later = int(datetime.now(UTC).timestamp() * 1000) - END_MS
    for batch in draw_rows(rows, DAYS, SEED):
        log.append([(row[0] + later, *row[1:]) for row in batch])
    log.close()


if __name__ == "__main__":
    main()
