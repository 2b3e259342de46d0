"""How often the sequential verdict of alerts calls quiet metrics, and how soon it calls a change, by simulation.

Run: python -m benchmarks.metric_verdicts

Each kind of metric has streams of two quiet years, and streams in which it gets worse by half after 120 days; a change
is found if it is called within 14 days and still open then. The seeds are not those that anything was tuned on.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from core.alerts.metrics import Unit
from core.alerts.readings import DayValue
from core.alerts.sequential import LEARNED, THRESHOLD, make_history
from core.drift.detector import Replay
from core.drift.detectors import DETECTOR

FIRST = date(2024, 1, 1)  # a Monday
QUIET_DAYS, CHANGED, WITHIN, WORSE = 730, 120, 14, 1.5
_Floats = NDArray[np.float64]
_Values = tuple[_Floats, NDArray[np.int64]]  # of each day, and how many questions are behind it


@dataclass(frozen=True, slots=True)
class Kind:
    """What a metric is like. `draw` gets how much worse each day is, 1 for as usual."""

    name: str
    draw: Callable[[np.random.Generator, _Floats], _Values]
    unit: Unit = Unit.MILLISECONDS
    falls: bool = False


@dataclass(slots=True)
class Found:
    """What became of the streams of one kind."""

    false_calls: list[int] = field(default_factory=list)
    open_days: int = 0
    delays: list[int | None] = field(default_factory=list)


def draw_wobble(rng: np.random.Generator, days: int, sd: float, correlation: float) -> _Floats:
    """Return an autocorrelated wobble with this standard deviation."""
    fresh = rng.normal(0.0, 1.0, days)
    for at in range(1, days):
        fresh[at] = correlation * fresh[at - 1] + np.sqrt(1 - correlation**2) * fresh[at]
    return sd * fresh


def draw_traffic(rng: np.random.Generator, days: int, per_day: float, weekend: float = 0.32) -> NDArray[np.int64]:
    """Return the questions of each day; weekends have this share of a weekday's."""
    usual = np.where(np.arange(days) % 7 >= 5, weekend, 1.0) * per_day
    return rng.poisson(usual * np.exp(rng.normal(0.0, 0.08, days)))


def share(usual: float, per_day: int, bursts: float = 0.0) -> Callable[[np.random.Generator, _Floats], _Values]:
    """Return how a share of questions is drawn; on some days it is six times as large."""

    def draw(rng: np.random.Generator, worse: _Floats) -> _Values:
        count = np.maximum(1, draw_traffic(rng, len(worse), per_day))
        chance = usual * worse * np.exp(draw_wobble(rng, len(worse), 0.1, 0.3))
        chance = chance * np.where(rng.random(len(worse)) < bursts, 6.0, 1.0)
        return rng.binomial(count, np.minimum(chance, 1.0)) / count, count

    return draw


def amount(
    usual: float, sd: float, correlation: float, tails: float = 0.0, by_traffic: bool = False
) -> Callable[[np.random.Generator, _Floats], _Values]:
    """Return how an amount is drawn: a latency, or a cost that grows with the questions of the day."""

    def draw(rng: np.random.Generator, worse: _Floats) -> _Values:
        days = len(worse)
        count = np.maximum(1, draw_traffic(rng, days, 1_000))
        log = draw_wobble(rng, days, sd, correlation) + 0.1 * (np.arange(days) % 7 >= 5)
        if tails:
            log = log + 0.7 * sd * rng.standard_t(tails, days)
        return usual * worse * np.exp(log) * (count / 1_000 if by_traffic else 1.0), count

    return draw


def volume(per_day: float, weekend: float, sd: float) -> Callable[[np.random.Generator, _Floats], _Values]:
    """Return how the questions of a day are drawn."""

    def draw(rng: np.random.Generator, worse: _Floats) -> _Values:
        usual = np.where(np.arange(len(worse)) % 7 >= 5, weekend, 1.0) * per_day / worse
        count = rng.poisson(usual * np.exp(draw_wobble(rng, len(worse), sd, 0.4)))
        return count.astype(np.float64), count

    return draw


def draw_feedback(rng: np.random.Generator, worse: _Floats) -> _Values:
    """Return the mean of about a hundred thumbs a day."""
    count = np.maximum(1, draw_traffic(rng, len(worse), 100))
    mean = 0.4 / worse + draw_wobble(rng, len(worse), 0.03, 0.3)
    return np.clip(mean + rng.normal(0.0, 0.8, len(worse)) / np.sqrt(count), -1.0, 1.0), count


def draw_rare(rng: np.random.Generator, worse: _Floats) -> _Values:
    """Return a ratio of events, which most days do not have."""
    count = np.maximum(1, draw_traffic(rng, len(worse), 100))
    return rng.poisson(0.1 * worse**3) / count, count


KINDS = (
    Kind("0.1% of 300 fail", share(0.001, 300), Unit.SHARE),
    Kind("1% of 1,000 fail", share(0.01, 1_000), Unit.SHARE),
    Kind("2% of 1,000 fail, six times as many on one day in fifty", share(0.02, 1_000, 0.02), Unit.SHARE),
    Kind("10% of 5,000 are empty", share(0.1, 5_000), Unit.SHARE),
    Kind("30% of 200 are low", share(0.3, 200), Unit.SHARE),
    Kind("latency", amount(1_200.0, 0.06, 0.3)),
    Kind("latency, autocorrelation 0.7", amount(1_200.0, 0.1, 0.7)),
    Kind("latency, heavy tails", amount(900.0, 0.06, 0.3, tails=3.0)),
    Kind("cost", amount(2.0, 0.1, 0.4, by_traffic=True), Unit.DOLLARS),
    Kind("2,000 questions a day", volume(2_000, 0.32, 0.1), Unit.COUNT, falls=True),
    Kind("50 questions a day, none on weekends", volume(50, 0.0, 0.2), Unit.COUNT, falls=True),
    Kind("5 questions a day", volume(5, 0.32, 0.1), Unit.COUNT, falls=True),
    Kind("feedback", draw_feedback, Unit.NUMBER, falls=True),
    Kind("an event on one day in ten", draw_rare, Unit.NUMBER),
)


def run_kind(kind: Kind, streams: int, seed: int) -> Found:
    """Return what the verdict said of so many quiet and so many changed streams."""
    found = Found()
    for stream in range(streams):
        quiet = _replay(kind, np.random.default_rng([seed, stream, 0]), np.ones(QUIET_DAYS))
        called = [each for each in quiet.episodes if each.called >= LEARNED]
        found.false_calls.append(len(called))
        found.open_days += sum((each.ended or QUIET_DAYS) - each.called for each in called)
        worse = np.where(np.arange(CHANGED + WITHIN) >= CHANGED, WORSE, 1.0)
        changed = _replay(kind, np.random.default_rng([seed, stream, 1]), worse)
        calls = [each.called - CHANGED for each in changed.episodes if each.called >= CHANGED and not each.is_over]
        found.delays.append(min(calls) if calls else None)
    return found


def _replay(kind: Kind, rng: np.random.Generator, worse: _Floats) -> Replay:
    values, counts = kind.draw(rng, worse)
    days = [
        DayValue(FIRST + timedelta(days=at), float(value), int(count))
        for at, (value, count) in enumerate(zip(values, counts, strict=True))
    ]
    history = make_history(days, unit=kind.unit, falls=kind.falls, is_share=kind.unit is Unit.SHARE)
    return DETECTOR.replay(history, THRESHOLD)


def main() -> None:
    """Print a row for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=20, help="quiet and changed ones of each kind")
    parser.add_argument("--seed", type=int, default=105_000)
    given = parser.parse_args()
    rates = []
    print("| metric | false calls a year | days in alarm | changes called within 14 days | median delay in days |")
    print("| --- | --- | --- | --- | --- |")
    for kind in KINDS:
        found = run_kind(kind, given.streams, given.seed)
        rates.append(np.mean(found.false_calls) * 365 / (QUIET_DAYS - LEARNED))
        delays = [each for each in found.delays if each is not None]
        shown = f"{np.median(delays):.0f}" if delays else "–"
        print(
            f"| {kind.name} | {rates[-1]:.2f} | {found.open_days / QUIET_DAYS / given.streams:.1%} | "
            f"{len(delays) / given.streams:.0%} | {shown} |",
            flush=True,
        )
    print(f"\nfalse calls a year over all kinds: {np.mean(rates):.2f}")


if __name__ == "__main__":
    main()
