"""Are new topics called in time, and is one called that is none? BANKING77's classes and MTRAG-UN's collections.

    python -m benchmarks.emerging [--quick] [--seeds 30] [--first-seed 100] [--years 1] [--only growing]
        [--cache vectors.npz]

Three parts, all through `core.coverage.emerging`, with a reference of 28 days and a new one each week:

- growing: a class that was never asked grows within four days to 1% of 3,000 questions a day. Bar: called within two
  days at 1%, in 90% of seeds. Beside it, whether `core.drift` calls a drop of the mean in the same days.
- foreign: 50 questions a day of one collection; from one day on, 10% are of the other. Bar: called within seven days.
- quiet: no new topic, for `--years` years of seeds together. Bar: at most one call a year.

Shares of classes wobble from day to day (sd 0.28 of the logarithm) and weekends are calmer; a session asks two
questions on average, 60% of them on its topic. 40% of the questions repeat a public text (the popular ones most); the
others are drawn around one: its vector plus the difference of two of another class, scaled at random by 0.1 to 0.8,
which puts them about as far from the others as the public texts are from one another. Those of MTRAG-UN are used
as they are, each asked by a session of its own; a fifth of the own texts is first asked after the reference. Seeds 0
to 99 and those from 1,000 were for tuning only.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import locate
from core.coverage.bets import AskedDay, EmergingCall, ReferenceQuestions
from core.coverage.emerging import LIVES, WINDOWS, Watch, merge_calls
from core.drift.changepoint import replay
from core.drift.daily import DailyHistory
from core.embedding.embed import Embedder

REFERENCE, SAMPLE, BLOCK = 28, 4_000, 7
FIRST = 738_000  # ordinal of day 0, a Monday
GROWS = 4  # days
WITHIN = {"growing": 2, "foreign": 7}
COLLECTIONS = ("fiqa", "ibmcloud")
LEARNED = 90  # days of the mean's detector before the topic comes


@dataclass(slots=True)
class Source:
    """Texts of known classes; `vectors` has a row for each, `of_class` the rows of each class."""

    vectors: np.ndarray
    of_class: list[np.ndarray]
    is_varied: bool = True  # most questions are drawn around the texts; else they are the texts themselves


@dataclass
class Stream:
    """Questions day by day; class `novel` is asked by a share of each day that `share_of` returns."""

    source: Source
    seed: int
    per_day: int
    novel: int | None = None
    truth: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        classes = len(self.source.of_class)
        base = self.random.permutation(1 / np.arange(1.0, classes + 1) ** 0.7)
        if self.novel is not None:
            base[self.novel] = 0
        self.base, self.wobble, self.sessions = base / base.sum(), np.zeros(classes), 0

    def ask(self, day: int, share: float, *, most: int | None = None) -> AskedDay:
        """Return the distinct questions of a day, or a sample of about so many."""
        draw = self.random
        self.wobble = 0.7 * self.wobble + draw.normal(0, 0.2, len(self.base))
        shares = self.base * np.exp(self.wobble)
        shares /= shares.sum()
        count = most or int(draw.poisson(self.per_day * (0.7 if day % 7 >= 5 else 1.12)))
        sizes = draw.geometric(0.5 if self.source.is_varied else 1.0, count + 1)
        sizes = sizes[: int(np.searchsorted(np.cumsum(sizes), count)) + 1]
        topics = draw.choice(len(shares), len(sizes), p=shares)
        if self.novel is not None:  # a session asks 60% on its topic
            topics = np.where(draw.random(len(sizes)) < share / 0.6, self.novel, topics)
        sessions = np.repeat(np.arange(len(sizes)) + self.sessions, sizes)[:count]
        self.sessions += len(sizes)
        classes = np.repeat(topics, sizes)[:count]
        classes = np.where(draw.random(count) < 0.6, classes, draw.choice(len(shares), count, p=shares))
        texts, vectors = self._word(classes, day)
        first = np.unique(texts, return_index=True)[1]
        self.truth = {texts[at]: int(classes[at]) for at in first} | (self.truth if len(self.truth) < 50_000 else {})
        return AskedDay(
            FIRST + day, vectors[first], tuple(texts[at] for at in first), tuple(str(sessions[at]) for at in first)
        )

    def _word(self, classes: np.ndarray, day: int) -> tuple[list[str], np.ndarray]:
        draw, of_class = self.random, self.source.of_class
        lengths = np.array([len(rows) for rows in of_class])
        flat, starts = np.concatenate(of_class), np.append(0, np.cumsum(lengths))[:-1]

        def pick(which: np.ndarray, at: np.ndarray) -> np.ndarray:
            return np.asarray(flat[starts[which] + np.minimum(at, lengths[which] - 1)])

        count = len(classes)
        is_fresh = draw.random(count) < (0.6 if self.source.is_varied else 0.0)
        popular = (draw.pareto(1.0, count) * 4).astype(int)
        anyone = (draw.random(count) * lengths[classes]).astype(int)
        rows = pick(classes, np.where(is_fresh | (not self.source.is_varied), anyone, popular))
        others = draw.integers(0, len(of_class), count)
        one, two = (pick(others, (draw.random(count) * lengths[others]).astype(int)) for _ in range(2))
        scale = np.where(is_fresh, draw.uniform(0.1, 0.8, count), 0)[:, None].astype(np.float32)
        known = self.source.vectors
        vectors = known[rows] + scale * (known[one] - known[two])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        texts = [
            f"{day}.{at}" if fresh else f"={row}" for at, (fresh, row) in enumerate(zip(is_fresh, rows, strict=True))
        ]
        return texts, vectors.astype(np.float32)


def watch(stream: Stream, days: int, share_of: Any, *, first: int = 0) -> Iterator[tuple[AskedDay, list[EmergingCall]]]:
    """Yield each day from `first` on with the topics called at its end, no topic twice."""
    calls: list[EmergingCall] = []
    watches: list[tuple[int, Watch]] = []
    history: list[AskedDay] = []
    each = min(stream.per_day, SAMPLE // REFERENCE)
    is_long = days - first > 60
    for day in range(first - REFERENCE - WINDOWS[-1], days):
        is_watched = day >= first - WINDOWS[-1]
        asked = stream.ask(day, share_of(day), most=None if is_watched else each)
        history = [*history, asked][-REFERENCE - WINDOWS[-1] - 1 :]
        if day < first:
            continue
        if (day - first) % BLOCK == 0:
            known = _make_reference(history[:-1][-REFERENCE:] if is_long else history[:REFERENCE], stream.random)
            fresh = Watch(known)
            for former in history[-WINDOWS[-1] : -1]:
                fresh.add_day(former, forms=False)
            watches = [(born, old) for born, old in watches if day - born < BLOCK + LIVES] + [(day, fresh)]
        for born, old in watches:
            old.add_day(asked, forms=day - born < BLOCK)
        new = [call for _, old in watches for call in old.list_calls() if call.called == asked.day]
        merged = merge_calls([*calls, *new])
        yield asked, [call for call in merged if call.called == asked.day and call not in calls]
        calls = merged


def _make_reference(days: list[AskedDay], random: np.random.Generator) -> ReferenceQuestions:
    vectors = np.concatenate([day.vectors for day in days])
    texts = [text for day in days for text in day.texts]
    rows = random.permutation(len(texts))[:SAMPLE]
    return ReferenceQuestions(vectors[rows], [texts[at] for at in rows])


def find_delay(stream: Stream, share_of: Any, *, starts: int, within: int) -> tuple[int | None, int]:
    """Return on which day of the full share the topic was called, 1 for the first, and how many calls were others."""
    found, others = None, 0
    for asked, calls in watch(stream, starts + within, share_of, first=starts - BLOCK + 3):
        for call in calls:
            if sum(stream.truth.get(text) == stream.novel for text in call.texts) * 2 > call.count:
                found = found if found is not None else asked.day - FIRST - starts + 1
            else:
                others += 1
        if found is not None:
            break
    return found, others


def measure_growing(banking: Source, seed: int) -> dict[str, Any]:
    """One class of BANKING77 grows to 1% of 3,000 questions a day."""
    stream = Stream(banking, seed, 3_000, novel=seed * 7 % len(banking.of_class))

    def share_of(day: int) -> float:
        return 0.01 * min(1.0, max(0.0, (day + GROWS) / GROWS))

    delay, others = find_delay(stream, share_of, starts=0, within=7)
    is_drop = find_drop(banking, seed, share=0.01)
    return {"delay": delay, "others": others, "mean": is_drop}


def find_drop(banking: Source, seed: int, *, share: float) -> bool:
    """Return whether the detector of the mean calls a drop within seven days of a class with this share of 3,000.

    A question's score is its similarity to the nearest document: every second text of the known classes.
    """
    stream = Stream(banking, seed, 400, novel=seed * 7 % len(banking.of_class))  # means of 3,000 are drawn from these
    documents = np.concatenate([rows[::2] for at, rows in enumerate(banking.of_class) if at != stream.novel])
    scores = [
        (stream.ask(day, 1.0 if is_new else 0.0, most=400).vectors @ banking.vectors[documents].T).max(axis=1)
        for day, is_new in ((0, False), (1, True))
    ]
    random, days = np.random.default_rng(seed), LEARNED + 7
    totals, squares = [], []
    for day in range(days):
        novel = random.binomial(3_000, share if day >= LEARNED else 0.0)
        drawn = np.concatenate([random.choice(scores[0], 3_000 - novel), random.choice(scores[1], novel)])
        drawn = np.clip(drawn + random.normal(0, 0.004), 0, 1)
        totals.append(float(drawn.sum()))
        squares.append(float((drawn**2).sum()))
    history = DailyHistory.of(FIRST + np.arange(days), np.full(days, 3_000), np.array(totals), np.array(squares))
    return any(episode.called >= LEARNED for episode in replay(history).episodes)


def measure_foreign(collections: dict[str, np.ndarray], seed: int) -> dict[str, Any]:
    """One collection's questions come to make 10% of the other's 50 a day."""
    own, other = COLLECTIONS if seed % 2 else COLLECTIONS[::-1]
    vectors = np.concatenate([collections[own], collections[other]])
    size = len(collections[own])
    parts = np.array_split(np.random.default_rng(seed).permutation(size), 10)
    source = Source(vectors, [*parts, np.arange(size, len(vectors))], is_varied=False)
    stream = Stream(source, seed, 50, novel=10)
    stream.base[[8, 9]] = 0  # the texts of these parts come after the reference
    stream.base /= stream.base.sum()

    def share_of(day: int) -> float:
        if day == 0:
            stream.base = np.append(np.full(10, 0.1), 0.0)
        return 0.1 if day >= 0 else 0.0

    delay, others = find_delay(stream, share_of, starts=0, within=14)
    return {"delay": delay, "others": others}


def measure_quiet(banking: Source, seed: int, days: int, per_day: int) -> int:
    """Return how many topics are called in days without a new one."""
    stream = Stream(banking, seed, per_day)
    return sum(len(calls) for _, calls in watch(stream, days, lambda _: 0.0))


def load_vectors(cache: Path | None) -> tuple[Source, dict[str, np.ndarray]]:
    """Return the vectors of the public questions, from the cache where it is there."""
    with locate("data", "banking77", "test.csv").open() as file:
        rows = list(csv.DictReader(file))
    texts = {"banking": [row["text"] for row in rows]}
    for name in COLLECTIONS:
        lines = [json.loads(line) for line in locate("data", "mtrag_un", f"{name}.jsonl").read_text().splitlines()]
        asked = [text for line in lines for text in (line["question"], *line["earlier_questions"])]
        texts[name] = list(dict.fromkeys(asked))
    if cache and cache.exists():
        found = dict(np.load(cache))
    else:
        found = {name: Embedder().embed(each) for name, each in texts.items()}
        if cache:
            np.savez(cache, **found)
    names = np.array([row["category"] for row in rows])
    return Source(found["banking"], [np.flatnonzero(names == each) for each in np.unique(names)]), found


def main() -> None:
    """Print the three parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five seeds, 30 quiet days")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--years", type=float, default=1.0, help="quiet years, of seeds of 91 days each")
    parser.add_argument("--only", choices=("growing", "foreign", "quiet"))
    parser.add_argument("--cache", type=Path, help="where the vectors are kept between runs")
    options = parser.parse_args()
    banking, collections = load_vectors(options.cache)
    seeds = range(options.first_seed, options.first_seed + (5 if options.quick else options.seeds))
    for name, measure in (
        ("growing", lambda seed: measure_growing(banking, seed)),
        ("foreign", lambda seed: measure_foreign(collections, seed)),
    ):
        if options.only in (None, name):
            found = []
            for seed in seeds:
                found.append(measure(seed))
                print(f"{name}  seed {seed}  {found[-1]}", flush=True)
            report(name, found)
    if options.only in (None, "quiet"):
        report_quiet(banking, options)


def report(name: str, found: list[dict[str, Any]]) -> None:
    """Print the share of seeds in which the topic was called in time, and what else was called."""
    in_time = [row["delay"] is not None and row["delay"] <= WITHIN[name] for row in found]
    late = [row["delay"] for row in found if row["delay"] is not None]
    print(
        f"{name}: called within {WITHIN[name]} days in {np.mean(in_time):.0%} of {len(found)} seeds, "
        f"median day {np.median(late) if late else float('nan'):.0f}; other calls {sum(row['others'] for row in found)}"
    )
    if name == "growing":
        print(f"growing: the mean's detector calls a drop within 7 days in {np.mean([r['mean'] for r in found]):.0%}")


def report_quiet(banking: Source, options: argparse.Namespace) -> None:
    """Print the false calls a year at 300 and 3,000 questions a day."""
    for per_day in (300, 3_000):
        length, years = (30, 30 / 365) if options.quick else (91, options.years)
        count = max(1, round(years * 365 / length))
        calls = []
        for seed in range(options.first_seed, options.first_seed + count):
            calls.append(measure_quiet(banking, seed, length, per_day))
            print(f"quiet  {per_day} a day  seed {seed}  {calls[-1]} calls in {length} days", flush=True)
        rate = sum(calls) / (count * length) * 365
        print(f"quiet: {rate:.1f} calls a year at {per_day:,} a day ({count * length} days, {sum(calls)} calls)")


if __name__ == "__main__":
    main()
