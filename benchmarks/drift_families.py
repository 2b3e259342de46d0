"""How well the drift detector does on many kinds of stores and scales, beside CUSUM, EWMA, PELT and ADWIN.

Run: python -m benchmarks.drift_families [--quick] [--streams 100] [--results drift-families.jsonl]
The peers need a virtual environment with `benchmarks/requirements-peers.txt`; one that is absent is left out. Each
finished cell is a line of the results file, and is not run again. Seeds from 10,000 are for tuning only.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drift_peers import LEARNED, list_peers
from benchmarks.score_streams import FAMILIES, SCALES, Family, draw
from core.drift.changepoint import replay
from core.drift.detector import Episode

YEARS = 730  # watched days of a quiet stream
CHANGED = 120  # day of the drop in each family
OURS = "ours"
BY_NAME = {family.name: family for family in FAMILIES}


@dataclass(frozen=True, slots=True)
class Scenario:
    """Changes of level on the days `at` in one family, and within how many days the last one has to be called.

    With `is_open`, what is asked is whether a drop is open after these days, or none.
    """

    name: str
    family: str
    at: tuple[int, ...]
    by: tuple[float, ...]
    days: int
    within: int
    bar: str
    is_open: bool | None = None

    def changes(self) -> np.ndarray:
        """Return how far the level lies off on each day."""
        level = np.zeros(self.days)
        for at, by in zip(self.at, self.by, strict=True):
            level[at:] += by
        return level


def _list_scenarios() -> tuple[Scenario, ...]:
    usual, few = "1,000 a day", "100 a day"
    further = [
        Scenario(f"0.06 more, {gap} days after 0.04", usual, (90, 90 + gap), (-0.04, -0.06), 98 + gap, 7, "95%")
        for gap in (5, 15, 30, 60)
    ]
    risen = [
        Scenario(f"0.05, {gap} days after a rise of 0.05", usual, (90, 90 + gap), (0.05, -0.05), 98 + gap, 7, "95%")
        for gap in (10, 30)
    ]
    dips = [
        Scenario(
            f"a dip of {size:.2f} for three days is over", usual, (90, 93), (-size, size), 99, 5, "100%", is_open=False
        )
        for size in (0.05, 0.10)
    ]
    lasting = [
        Scenario(f"{by:.2f} is still open a month later", family, (65,), (-by,), 96, 31, "100%", is_open=True)
        for by, family in ((0.02, usual), (0.05, usual), (0.10, few))
    ]
    single = [
        Scenario("0.02 at 1,000 a day, by day 7", usual, (65,), (-0.02,), 73, 7, "85%"),
        Scenario("0.05 at 1,000 a day, by day 2", usual, (65,), (-0.05,), 73, 2, "90%"),
        Scenario("0.05 at 1,000 a day, by day 3", usual, (65,), (-0.05,), 73, 3, "99%"),
        Scenario("0.10 at 100 a day, by day 2", few, (65,), (-0.10,), 73, 2, "98%"),
    ]
    return (*further, *risen, *dips, *single, *lasting)


SCENARIOS = _list_scenarios()


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: a name, and how one seed is measured. `size` is the cost of a stream, relative."""

    name: str
    measure: Callable[[int], dict[str, Any]]
    share: float = 1.0  # of the streams asked for


def list_cells() -> Iterator[Cell]:
    """Every measurement, those of the table of scenarios first."""
    for scale in SCALES:
        for scenario in SCENARIOS:
            yield Cell(f"scenario | {scenario.name} | {scale}", partial(watch_scenario, scenario, scale))
    for scale in SCALES:
        for family in FAMILIES:
            yield Cell(f"drop | {family.name} | {scale}", partial(watch_drop, family, scale), 0.4)
            yield Cell(f"quiet | {family.name} | {scale}", partial(watch_quiet, family, scale), 0.2)


def watch_quiet(family: Family, scale: str, seed: int) -> dict[str, Any]:
    """False calls of each detector in two years, and for how long ours stood."""
    history = draw(family, seed, np.zeros(LEARNED + YEARS), scale=scale)
    began = time.process_time()
    episodes = replay(history).episodes
    seconds = time.process_time() - began
    last = len(history)
    out = np.zeros(last, dtype=bool)
    for each in episodes:
        out[each.called : each.ended] = True
    found: dict[str, Any] = {name: len(calls(history.mean)) for name, calls in list_peers().items()}
    longest = max(((each.ended or last) - each.called for each in episodes), default=0)
    return {OURS: len(episodes), "drifting": float(out.mean()), "longest": longest, "seconds": seconds, **found}


def watch_drop(family: Family, scale: str, seed: int) -> dict[str, Any]:
    """Whether each detector calls a drop of 0.05 within seven days, and whether ours dates it within two."""
    level = np.zeros(CHANGED + 7)
    level[CHANGED:] = -0.05
    history = draw(family, seed, level, scale=scale, quiet_days=np.arange(CHANGED - 7, CHANGED + 7))
    at = int(np.searchsorted(history.ordinal, history.ordinal[-1] - 6))
    called = find_call(replay(history).episodes, at)
    found = {name: any(day >= at - 1 for day in calls(history.mean)) for name, calls in list_peers().items()}
    return {OURS: called is not None, "dated": called is not None and abs(called.changed - at) <= 2, **found}


def watch_scenario(scenario: Scenario, scale: str, seed: int) -> dict[str, Any]:
    """Whether the last change is called, or what was called before it is over, in time."""
    history = draw(BY_NAME[scenario.family], seed, scenario.changes(), scale=scale)
    at = scenario.at[-1]
    history = history.take(np.arange(at + scenario.within))
    seen = replay(history)
    if scenario.is_open is not None:
        return {OURS: (seen.open_episode is not None) == scenario.is_open}
    called = find_call(seen.episodes, at)
    found = {name: any(day >= at - 1 for day in calls(history.mean)) for name, calls in list_peers().items()}
    return {OURS: called is not None, "dated": called is not None and abs(called.changed - at) <= 2, **found}


def find_call(episodes: tuple[Episode, ...], at: int) -> Episode | None:
    """Return the first drop that was called since a day."""
    return next((each for each in episodes if each.called >= at), None)


def run_cells(path: Path, *, only: str, streams: int, first_seed: int, until: float) -> dict[str, dict[str, Any]]:
    """Measure what is not in the results file yet, and return everything in it."""
    done = _read(path, streams=streams, first_seed=first_seed)
    cells = [cell for cell in list_cells() if only in cell.name]
    with path.open("a") as results:
        for number, cell in enumerate(cells, 1):
            if cell.name in done:
                continue
            if time.monotonic() > until:
                print(f"Out of time at cell {number} of {len(cells)}: run it again to go on.", file=sys.stderr)
                break
            began, count = time.monotonic(), max(2, round(streams * cell.share))
            rows = [cell.measure(seed) for seed in range(first_seed, first_seed + count)]
            figures = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
            line = {"cell": cell.name, "asked": streams, "first_seed": first_seed, "streams": count, "figures": figures}
            results.write(json.dumps(line) + "\n")
            results.flush()
            done[cell.name] = line
            print(f"{number}/{len(cells)} {cell.name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return done


def _read(path: Path, *, streams: int, first_seed: int) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {line["cell"]: line for line in lines if (line["asked"], line["first_seed"]) == (streams, first_seed)}


def print_scenarios(done: dict[str, dict[str, Any]]) -> None:
    """The table of changes: how often each is called in time, and dated within two days."""
    names = [OURS, *list_peers()]
    print(f"| called in time | bar | streams | {' | '.join(f'{OURS}, {scale}' for scale in SCALES)} |", end="")
    print(f" {' | '.join(names[1:])} |\n|{' --- |' * (2 + len(SCALES) + len(names))}")
    for scenario in SCENARIOS:
        lines = [done.get(f"scenario | {scenario.name} | {scale}") for scale in SCALES]
        told = [
            _share(line, OURS) + ("" if scenario.is_open is not None else f" (dated {_share(line, 'dated')})")
            for line in lines
        ]
        peers = [_share(lines[0], name) for name in names[1:]]
        streams = lines[0]["streams"] if lines[0] else 0
        print(f"| {scenario.name} | {scenario.bar} | {streams} | {' | '.join([*told, *peers])} |")


def print_families(done: dict[str, dict[str, Any]]) -> None:
    """The table of families: false calls in two years, time in alarm, and drops of 0.05 that are called in a week."""
    names = [OURS, *list_peers()]
    head = [f"false in two years: {name}" for name in names] + ["days drifting", "longest, days"]
    head += [f"{OURS} at {scale}" for scale in SCALES[1:]] + [f"drop in 7 days: {name}" for name in names]
    head += [f"{OURS} at {scale}" for scale in SCALES[1:]]
    print(f"| family | {' | '.join(head)} |\n|{' --- |' * (1 + len(head))}")
    for family in FAMILIES:
        quiet = [done.get(f"quiet | {family.name} | {scale}") for scale in SCALES]
        drop = [done.get(f"drop | {family.name} | {scale}") for scale in SCALES]
        told = [_number(quiet[0], name) for name in names] + [
            _share(quiet[0], "drifting"),
            _number(quiet[0], "longest"),
        ]
        told += [f"{_number(line, OURS)} ({_share(line, 'drifting')})" for line in quiet[1:]]
        told += [_share(drop[0], name) for name in names] + [_share(line, OURS) for line in drop[1:]]
        print(f"| {family.name} | {' | '.join(told)} |")


def _share(line: dict[str, Any] | None, key: str) -> str:
    return f"{line['figures'][key]:.1%}" if line and key in line["figures"] else "–"


def _number(line: dict[str, Any] | None, key: str) -> str:
    return f"{line['figures'][key]:.2f}" if line and key in line["figures"] else "–"


def main() -> None:
    """Run the cells and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 streams of each scenario, fewer of each family")
    parser.add_argument("--streams", type=int, default=100, help="streams of each scenario; families get 40 and 20%%")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cells with this in their names")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=90.0, help="stop after this time; the next run goes on")
    parser.add_argument("--results", type=Path, default=Path("drift-families.jsonl"))
    options = parser.parse_args()
    for missing in {"CUSUM", "EWMA", "PELT", "ADWIN"} - set(list_peers()):
        print(f"{missing} is left out: install benchmarks/requirements-peers.txt.", file=sys.stderr)
    streams = 10 if options.quick else options.streams
    until = time.monotonic() + 60 * options.minutes
    done = run_cells(options.results, only=options.only, streams=streams, first_seed=options.first_seed, until=until)
    print_scenarios(done)
    print()
    print_families(done)


if __name__ == "__main__":
    main()
