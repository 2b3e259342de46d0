"""How much slower are page and API with 1,000 flags, 20 environments and 50 running experiments than with a few?

Run: `python -m benchmarks.many_flags [--flags 1000] [--environments 20] [--experiments 50]`. Two stores are made: a
large one, and one of 10 flags, 2 environments and 1 experiment, which the same code answers in turns in the same run.
The other peer is a bare `sqlite3` that reads and parses every definition of the large store. The lists of flags and of
experiments are also asked for over HTTP, from a server for each store. Times are of the processor (of the server, over
HTTP), the least of several turns, so that a busy machine changes the ratio little.
"""

import argparse
import json
import sqlite3
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from benchmarks.ofrep import read_cpu_s, serving
from core.arms.arms import Metric
from core.arms.histories import ArmHistories
from core.audit.acts import Act
from core.audit.environments import list_environments
from core.audit.operations import add_environment
from core.flags.board import list_board
from core.flags.layers import Layer
from core.flags.operations import change_rollout, import_flags
from core.flags.store import get_flag
from core.rollouts.experiment_design import plan_experiment
from core.rollouts.experiments import LayerPlace, report_experiments, start_experiment
from core.rollouts.layers import create_layer, report_layers
from quarterdeck.clock import now_ms
from quarterdeck.definitions import boolean_flag, canary_flag, split_flag
from quarterdeck.flags import FlagSet
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import flags
from quarterdeck.snapshot import read_snapshot
from quarterdeck.store import Store

ME = Act("bench", "a benchmark")
ENVIRONMENT = "production"
ROWS = 2_000  # retrievals that the experiments are judged by
ROUTES = {
    "GET /v1/flags, a page of 50": "/v1/flags",
    "GET /v1/flags, a page of 200": "/v1/flags?limit=200",
    "GET /v1/experiments": "/v1/experiments",
}
_TURNS, _REQUESTS = 3, 10  # requests in each turn: the system counts processor time by hundredths of a second
Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Size:
    """How much a store holds: flags of each environment, environments, running experiments."""

    flags: int
    environments: int
    experiments: int


FEW = Size(10, 2, 1)


def fill(url: str, size: Size) -> Store:
    """Make a store of this size; a third of the flags each are rollouts, A/B splits and canaries."""
    store = Store(url, create=True)
    document = {f"flag-{number}": _make_flag(number) for number in range(size.flags)}
    import_flags(store, {"flags": {"flag-0": document["flag-0"]}}, ME)
    names = [f"region-{number}" for number in range(1, size.environments)]
    for name in names:
        add_environment(store, name, ME)
    rows = [
        {
            "environment": name, "key": key, "definition": json.dumps(definition), "version": 1,
            "updated_ms": now_ms(), "updated_by": ME.actor,
        }
        for name in (ENVIRONMENT, *names)
        for key, definition in document.items()
        if (name, key) != (ENVIRONMENT, "flag-0")
    ]  # fmt: skip
    with store.begin() as connection:  # at once: an audit entry for each would take minutes
        connection.execute(insert(flags), rows)
    create_layer(store, Layer("all"), ME)
    for number in range(size.experiments):
        flag = get_flag(store, ENVIRONMENT, f"flag-{3 * number + 1}")
        design = plan_experiment(
            flag.key, flag.view, name=f"test {number}", metric=Metric.SCORE, effect=0.02, control="a"
        )
        start_experiment(store, flag, design, ME, place=LayerPlace("all", 100 / max(size.experiments, 2)))
    _log(store, url)
    return store


def measure(large: Store, few: Store) -> dict[str, tuple[float, float]]:
    """Return the milliseconds of each task, with the large store and with the few flags."""
    found = {}
    tasks = zip(_list_tasks(large).items(), _list_tasks(few).values(), strict=True)
    for (name, on_large), on_few in tasks:
        best = [float("inf"), float("inf")]
        for _ in range(_TURNS):
            for at, task in enumerate((on_large, on_few)):
                best[at] = min(best[at], _time(task))
        found[name] = (best[0], best[1])
    return found


def measure_http(large_url: str, few_url: str) -> dict[str, tuple[float, float]]:
    """Return the milliseconds of the server's processor for a request of each route, as `measure` does."""
    found = {}
    with serving("ours", large_url) as large, serving("ours", few_url) as few:
        for name, path in ROUTES.items():
            best = [float("inf"), float("inf")]
            for _ in range(_TURNS + 1):  # the first also fills what the server keeps in memory
                for at, (port, pid) in enumerate((large, few)):
                    before = read_cpu_s(pid)
                    for _ in range(_REQUESTS):
                        _get(f"http://127.0.0.1:{port}{path}")
                    best[at] = min(best[at], 1_000 * (read_cpu_s(pid) - before) / _REQUESTS)
            found[name] = (best[0], best[1])
    return found


def read_bare(path: Path) -> float:
    """Return the milliseconds in which `sqlite3` reads and parses every definition."""

    def read() -> object:
        with closing(sqlite3.connect(path)) as connection:
            return [json.loads(text) for (text,) in connection.execute("SELECT definition FROM flags")]

    return min(_time(read) for _ in range(_TURNS))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("flags", 1_000), ("environments", 20), ("experiments", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    size = Size(given.flags, given.environments, given.experiments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.db"
        urls = f"sqlite:///{path}", f"sqlite:///{folder}/few.db"
        large, few = fill(urls[0], size), fill(urls[1], FEW)
        bare = read_bare(path)
        print(f"{size} against {FEW}; bare sqlite3 reads every definition in {bare:.1f} ms")
        for name, (ours, small) in (measure(large, few) | measure_http(*urls)).items():
            print(f"{name:<44} {ours:8.1f} ms  {ours / small:6.1f} x few  {ours / bare:6.2f} x bare sqlite3")
        for store in (large, few):
            store.close()


def _list_tasks(store: Store) -> dict[str, Work]:
    now, histories = datetime.now(UTC), ArmHistories(store)
    environments = list_environments(store, ENVIRONMENT)
    snapshot = read_snapshot(store, ENVIRONMENT)
    parsed = FlagSet.from_definitions({"flags": snapshot.definitions})
    lenient = histories.up_to(timedelta(minutes=10))
    share = [10.0]

    def save() -> object:
        share[0] = 30.0 - share[0]
        return change_rollout(store, get_flag(store, ENVIRONMENT, "flag-0"), share[0], ME)

    return {
        "the list of flags, with every environment": lambda: list_board(
            store, ENVIRONMENT, environments=environments, now=now
        ),
        "the reports of all experiments": lambda: report_experiments(store, lenient, ENVIRONMENT, now=now),
        "the layers": lambda: report_layers(store, ENVIRONMENT),
        "a change of one flag": save,
        "a client's snapshot": lambda: read_snapshot(store, ENVIRONMENT),
        "1,000 evaluations of one flag": lambda: [
            parsed.evaluate("flag-1", "", {"targetingKey": f"user-{number}"}) for number in range(1_000)
        ],
    }


def _make_flag(number: int) -> dict[str, object]:
    if number % 3 == 0:
        return boolean_flag(on=True, rollout_pct=10, description=f"Flag {number}")
    if number % 3 == 1:
        return split_flag({"a": 1, "b": 1}, description=f"Split {number}")
    return canary_flag(5, description=f"Canary {number}")


def _log(store: Store, url: str) -> None:
    from quarterdeck import Quarterdeck

    with Quarterdeck(url) as deck:
        rows = []
        for number in range(ROWS):
            user = f"user-{number % 500}"
            deck.variant("flag-1", user)
            rows.append(Retrieval(datetime.now(UTC), "what is an mbuf", 0.7, session_id=user, latency_ms=90.0))
    append_retrievals(store, rows)


def _get(url: str) -> None:
    with urllib.request.urlopen(url, timeout=120) as answer:
        answer.read()


def _time(work: Work) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1_000


if __name__ == "__main__":
    main()
