"""Streams of daily scores in many families, with changes of level that are known, for benchmarks of drift detectors.

A score is day mean + session effect + noise of its own (sd 0.12 together, about three queries a session). The day mean
is a level, a weekend effect, an autocorrelated wobble and what the family adds. No session weighs more than 1% of a
day, as in the record (`core.log.capping`). Above `SINGLE` queries a day the sums of a day are drawn, not its scores.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from core.drift.daily import DailyHistory

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST = date(2024, 1, 1).toordinal()  # a Monday
LEVEL, SESSION_SD, SCORE_SD = 0.62, 0.06, 0.104
SINGLE = 10_000  # queries a day up to which single scores are drawn
DESIGN_EFFECT = 1.66  # of a day's mean with these sessions
SCALES = ("0.12", "0.04", "bm25")


@dataclass(frozen=True, slots=True)
class Family:
    """What a kind of store is like. Shares are of days unless they say otherwise; levels are at a spread of 0.12."""

    name: str
    per_day: int = 1_000
    wobble: float = 0.008
    correlation: float = 0.3
    tails: float = 0.0  # degrees of freedom of Student's t of the wobble; 0: normal
    level: float = LEVEL
    weekend: float = -0.02
    weekend_traffic: float = 0.32  # of a weekday's
    weekday_sd: float = 0.0  # of lasting effects of single weekdays
    season: float = 0.0  # amplitude over a year
    month: float = 0.0  # amplitude over four weeks
    holidays: bool = False  # two weeks in winter and summer: a fifth of the traffic, level 0.015 lower
    growth: float = 1.0  # of the traffic, each year
    launch: int = 0  # days with five queries a day at first
    missing: float = 0.0  # share of days without any query
    odd: float = 0.0  # share of days whose mean is off
    odd_by: float = 0.10
    bursts: float = 0.0  # share of days on which five noisy days begin
    burst_sd: float = 0.03
    session_share: float = 0.0  # of a day's queries that one session has, on `session_days`
    session_days: float = 0.1
    session_by: float = -0.25
    bimodal: float = 0.0  # share of queries of a second group, whose level is 0.3 lower
    mix_sd: float = 0.0  # sd of that share from day to day
    traffic_sd: float = 0.0  # of the logarithm of a day's traffic
    rounded: float = 0.0  # single scores are multiples of this


FAMILIES = (
    Family("5 a day", 5),
    Family("20 a day", 20),
    Family("100 a day", 100),
    Family("1,000 a day"),
    Family("5,000 a day", 5_000),
    Family("100,000 a day", 100_000),
    Family("1,000,000 a day", 1_000_000),
    Family("autocorrelation 0.5", correlation=0.5),
    Family("autocorrelation 0.7", correlation=0.7),
    Family("season of 0.02 a year", season=0.01),
    Family("wave of four weeks", month=0.006),
    Family("weekdays of their own", weekday_sd=0.012),
    Family("holidays", holidays=True),
    Family("no traffic on weekends", weekend_traffic=0.0),
    Family("growth, tenfold a year", 50, growth=10.0),
    Family("launch after two months", launch=60),
    Family("a fifth of the days missing", missing=0.2),
    Family("traffic that varies twofold", traffic_sd=0.7),
    Family("one odd day in fifty", odd=0.02),
    Family("one low day in fifty", odd=0.02, odd_by=-0.10),
    Family("session with 30% on 10% of days", session_share=0.3),
    Family("a bot with half of all queries", session_share=0.5, session_days=1.0, session_by=0.2),
    Family("bursts of noise", bursts=0.01),
    Family("heavy tails", tails=3.0),
    Family("ceiling", level=0.93),
    Family("bimodal", bimodal=0.25),
    Family("bimodal, nights vary", bimodal=0.25, mix_sd=0.03),
    Family("scores in steps of 0.05", rounded=0.05),
)


def draw(
    family: Family, seed: int, changes: Floats, *, scale: str = "0.12", quiet_days: Ints | None = None
) -> DailyHistory:
    """Return the days of a store of this family, whose level differs by `changes` (at a spread of 0.12) on each day.

    Nothing else odd happens on `quiet_days`, so that a drop is a drop. `scale` is one of `SCALES`: the whole stream at
    a third, or as the exponential of it, in the manner of BM25.
    """
    rng = np.random.default_rng([seed, family.per_day, len(changes)])
    ordinal = FIRST + 3 * (seed % 2) + np.arange(len(changes))
    calm = np.zeros(len(changes), dtype=bool)
    if quiet_days is not None:
        calm[quiet_days] = True
    level = family.level + changes + _draw_level(family, rng, ordinal, calm)
    count = rng.poisson(_draw_traffic(family, rng, ordinal))
    kept = np.flatnonzero(count)
    if family.per_day > SINGLE:
        mean, variance = _draw_sums(rng, level[kept], count[kept], scale)
    else:
        mean, variance = _draw_scores(family, rng, level[kept], count[kept], calm[kept], scale)
    count = count[kept]
    return DailyHistory.of(ordinal[kept], count, mean * count, count * (mean**2 + variance))


def _draw_level(family: Family, rng: np.random.Generator, ordinal: Ints, calm: NDArray[np.bool_]) -> Floats:
    size = len(ordinal)
    rho = family.correlation
    fresh = rng.standard_t(family.tails, size) / np.sqrt(3) if family.tails else rng.normal(size=size)
    wobble, state = np.empty(size), float(rng.normal()) * family.wobble
    for day in range(size):
        state = rho * state + family.wobble * np.sqrt(1 - rho**2) * fresh[day]
        wobble[day] = state
    weekday = (ordinal - 1) % 7
    level = wobble + family.weekend * (weekday >= 5) + rng.normal(0, 1, 7)[weekday] * family.weekday_sd
    turn = rng.random() * 2 * np.pi
    level += family.season * np.sin(2 * np.pi * ordinal / 365.25 + turn)
    level += family.month * np.sin(2 * np.pi * ordinal / 28 + turn)
    if family.holidays:
        level -= 0.015 * _is_holiday(ordinal)
    odd = (rng.random(size) < family.odd) & ~calm
    direction = np.sign(family.odd_by) if family.odd_by < 0 else rng.choice([-1, 1], size)
    level += odd * direction * abs(family.odd_by) * rng.uniform(0.5, 1.0, size)
    noisy = np.convolve(rng.random(size) < family.bursts, np.ones(5))[:size] > 0
    level += (noisy & ~calm) * rng.normal(0, family.burst_sd, size)
    return level


def _draw_traffic(family: Family, rng: np.random.Generator, ordinal: Ints) -> Floats:
    day = np.arange(len(ordinal))
    weekday_traffic = 7 / (5 + 2 * family.weekend_traffic)
    rate = family.per_day * weekday_traffic * np.where((ordinal - 1) % 7 >= 5, family.weekend_traffic, 1.0)
    rate = rate * family.growth ** (day / 365.25) * np.exp(rng.normal(0, 1, len(day)) * family.traffic_sd)
    if family.holidays:
        rate = rate * np.where(_is_holiday(ordinal), 0.2, 1.0)
    rate = np.where(day < family.launch, 5.0, rate)
    return np.where(rng.random(len(day)) < family.missing, 0.0, rate)


def _is_holiday(ordinal: Ints) -> NDArray[np.bool_]:
    of_year = (ordinal - FIRST) % 365.25
    return ((of_year >= 200) & (of_year < 214)) | (of_year >= 355) | (of_year < 4)


def _draw_scores(
    family: Family, rng: np.random.Generator, level: Floats, count: Ints, calm: NDArray[np.bool_], scale: str
) -> tuple[Floats, Floats]:
    """Capped mean of each day and variance of its single scores, from the scores themselves."""
    mean, variance = np.empty(len(level)), np.empty(len(level))
    for day, (center, n) in enumerate(zip(level, count, strict=True)):
        sizes = 1 + rng.poisson(2, max(1, -(-n // 3)))
        sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), n)) + 1]
        sizes[-1] -= sizes.sum() - n
        effect = rng.normal(0, SESSION_SD, len(sizes))
        if rng.random() < family.session_days and family.session_share and not (calm[day] and family.session_days < 1):
            sizes = np.append(sizes, max(1, round(n * family.session_share / (1 - family.session_share))))
            effect = np.append(effect, family.session_by)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        scores = center + effect[owner] + rng.normal(0, SCORE_SD, len(owner))
        if family.bimodal:
            share = family.bimodal + rng.normal(0, 1) * family.mix_sd
            scores = scores + 0.3 * (family.bimodal - (rng.random(len(owner)) < share))
        scores = np.clip(scores, 0, 1)
        if family.rounded:
            scores = np.round(scores / family.rounded) * family.rounded
        scores = _rescale(scores, scale)
        weight = np.minimum(1.0, max(1.0, len(scores) / 100) / sizes)[owner]
        mean[day] = weight @ scores / weight.sum()
        variance[day] = scores.var()
    return mean, variance


def _draw_sums(rng: np.random.Generator, level: Floats, count: Ints, scale: str) -> tuple[Floats, Floats]:
    """The same from the distribution of a day's sums, where scores are far from 0 and 1."""
    spread = np.hypot(SESSION_SD, SCORE_SD)
    mean = level + rng.normal(0, 1, len(level)) * spread * np.sqrt(DESIGN_EFFECT / count)
    if scale != "bm25":
        factor = float(scale) / 0.12
        return LEVEL + factor * (mean - LEVEL), np.full(len(mean), (factor * spread) ** 2)
    moment = np.exp(2.5 + 3 * (mean - LEVEL) + 4.5 * spread**2)
    return moment, moment**2 * np.expm1(9 * spread**2)


def _rescale(scores: Floats, scale: str) -> Floats:
    if scale == "bm25":
        return np.asarray(np.exp(2.5 + 3 * (scores - LEVEL)))
    return np.asarray(LEVEL + (scores - LEVEL) * float(scale) / 0.12)
