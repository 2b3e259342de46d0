"""Rule: the values that every kind of retrieval log answers with, and what such a log has to answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, NamedTuple, Protocol

from core.log.calendars import Calendar
from core.log.filters import Cursor, FoundRow, Order, QuestionFilter
from quarterdeck.clock import WEEK_MS, from_ms
from quarterdeck.scope import Scope

TREND_WEEKS = 5


@dataclass(frozen=True, slots=True)
class DailyScores:
    """One day of one segment, from the rollups: scores are top-1 similarities from 0 to 1.

    `count` questions have one, in `logged` rows. The others are counted by state: `unmapped` have a number that is no
    similarity yet, `unscored` hits without a number, `empty` no hits, and `failed` ones ended in an error. `capped` is
    the mean in which no session and no text weighs more than 1% of the day (`core.log.capping`), once the day is over.
    """

    day: date
    count: int
    total: float
    total_squares: float
    bins: tuple[int, ...] | str  # counts in `HISTOGRAM_BINS` equal bins over 0..1, the last one closed; see `histogram`
    logged: int = 0
    unmapped: int = 0
    unscored: int = 0
    empty: int = 0
    failed: int = 0
    capped: float | None = None

    @classmethod
    def of_sums(cls, start_ms: int, sums: Sequence[Any]) -> "DailyScores":
        """Return the summary of the day that starts at this time, from the sums in the order of `schema.SUMS`."""
        count, logged, total, squares, *states = sums[:8]
        unmapped, unscored, empty, failed = map(int, states)
        histogram = tuple(map(int, sums[8:]))
        return cls(
            from_ms(start_ms).date(), int(count), total, squares, histogram,
            logged=int(logged), unmapped=unmapped, unscored=unscored, empty=empty, failed=failed,
        )  # fmt: skip

    @property
    def histogram(self) -> tuple[int, ...]:
        """The counts of the bins. Closed days keep them as text until they are asked for: few are."""
        return tuple(map(int, self.bins.split(","))) if isinstance(self.bins, str) else self.bins

    @property
    def mean(self) -> float:
        """Mean score of the day, the capped one if there is one; NaN on a day without scores."""
        if self.capped is not None and self.count:
            return self.capped
        return self.total / self.count if self.count else float("nan")

    @property
    def squares_around_mean(self) -> float:
        """Sum of squares of scores that have this mean, and the spread that was measured."""
        if self.capped is None or not self.count:
            return self.total_squares
        return self.total_squares + self.count * (self.mean**2 - (self.total / self.count) ** 2)

    @property
    def questions(self) -> int:
        """All questions of the day, whatever became of them."""
        return self.count + self.unmapped + self.unscored + self.empty + self.failed


@dataclass(frozen=True, slots=True)
class States:
    """How many questions have a similarity, a number that is none yet, hits without a number, no hits, an error."""

    scored: int = 0
    unmapped: int = 0
    unscored: int = 0
    empty: int = 0
    failed: int = 0

    @classmethod
    def of_days(cls, days: Iterable[DailyScores]) -> "States":
        """Return the states of the questions of some days."""
        sums = [(day.count, day.unmapped, day.unscored, day.empty, day.failed) for day in days]
        return cls(*map(sum, zip(*sums, strict=True)))

    @property
    def questions(self) -> int:
        """All of them."""
        return self.scored + self.unmapped + self.unscored + self.empty + self.failed

    def share_of(self, count: int) -> float | None:
        """Return this part of all questions, 0 to 1; None where there are none."""
        return count / self.questions if self.questions else None


@dataclass(frozen=True, slots=True)
class AskedRow:
    """One query text: how often and how well it scored in the window, and its weekly counts, oldest first.

    `model` is the embedding model that answered, where rows were asked for by model; "" for none.
    """

    query: str
    count: int
    total: float
    weeks: tuple[int, ...]
    model: str = ""

    def with_counts_of(self, other: "AskedRow") -> "AskedRow":
        """Return this query with another one's counts added."""
        weeks = tuple(a + b for a, b in zip(self.weeks, other.weeks, strict=True))
        return replace(self, count=self.count + other.count, total=self.total + other.total, weeks=weeks)


def trend_start_ms(start_ms: int, end_ms: int) -> int:
    """Return the start of the rows needed for a window and the trend before its end."""
    return min(start_ms, end_ms - TREND_WEEKS * WEEK_MS)


@dataclass(frozen=True, slots=True)
class Measured:
    """How many rows have a figure, and its mean over them; None if no row has it."""

    count: int
    mean: float | None


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """The log's figures for one value of a dimension; `value` is "" for rows without one."""

    value: str
    queries: int
    score: Measured
    faithfulness: Measured
    cost_usd: Measured
    latency_ms: Measured
    feedback: Measured


LIVE_FIGURES = ("score", "faithfulness", "cost_usd", "latency_ms", "feedback")


def read_live_figures(row: Sequence[Any]) -> LiveFigures:
    """Return the figures of a row: the value, the number of queries, then count and mean of each of LIVE_FIGURES."""
    value, queries, *numbers = row
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return LiveFigures(
        str(value or ""), int(queries), *(Measured(int(n), float(mean) if n else None) for n, mean in pairs)
    )


def add_figures(one: LiveFigures, other: LiveFigures) -> LiveFigures:
    """Return the figures of two sets of queries together, under the first one's value."""
    summed = {name: _add_measured(getattr(one, name), getattr(other, name)) for name in LIVE_FIGURES}
    return LiveFigures(one.value, one.queries + other.queries, **summed)


def _add_measured(one: Measured, other: Measured) -> Measured:
    count = one.count + other.count
    total = sum(each.count * each.mean for each in (one, other) if each.mean is not None)
    return Measured(count, total / count if count else None)


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """A distinct query in a window: how often it was asked, its mean top-1 score, its weekly counts (oldest first).

    `weekly_counts` may be empty; otherwise it has the weeks with any traffic at all.
    """

    text: str
    count: int
    mean_score: float
    weekly_counts: tuple[int, ...] = ()


USER_SUMS = ("score", "latency_ms", "cost_usd", "faithfulness", "feedback")  # the columns, in row order


class UserRow(NamedTuple):
    """The sums of one user's retrievals on one arm in one period; `user` is None without a session id.

    After the retrievals come, for each of USER_SUMS, the number of retrievals that have it, and its sum.
    """

    start_ms: int
    arm: str
    user: str | None
    queries: int
    scored: int
    score: float
    timed: int
    latency_ms: float
    priced: int
    cost_usd: float
    judged: int
    faithfulness: float
    rated: int
    feedback: float


class AskedBy(NamedTuple):
    """How often somebody asked one text, and the sum of its scores; `user` is None where nobody is named.

    `start_ms` is the hour, if the rows are by hour.
    """

    user: str | None
    query: str
    asked: int
    total: float
    start_ms: int = 0


class ScoreScale(Protocol):
    """One scale for the scores of several embedding models; `core.drift.scales` makes it of the maps between them."""

    def list_bounds(self, below: float | None) -> Mapping[str, float | None]:
        """Return what a bound on this scale is on the scale of each other model, by its name."""

    def carry(self, model: str, score: float) -> float:
        """Return a model's score on this scale; one of a model that is not mapped stays."""


def normalize_query(text: str) -> str:
    """Return the text as used by cache and topics: single spaces, case folded."""
    return " ".join(text.split()).casefold()


class LogReader(Protocol):
    """The queries that every kind of retrieval log answers. Times are ms; a window is `start_ms` <= time < `end_ms`.

    `scope` says whose rows: an empty environment or service in it stands for all of them. A dimension is the name of a
    column or an attribute with rollups, or "" for all traffic. Every method raises SourceUnavailable when the log is
    unreachable. `core.log.readers` names the readers; `tests/core/log/test_retrievals.py` checks that all give the same
    answers.
    """

    def list_scopes(self) -> Sequence[Scope]:
        """Return the scopes that have rows or rollups."""

    def list_days(
        self, scope: Scope, dimension: str, value: str | None, start_ms: int, end_ms: int, calendar: Calendar
    ) -> Iterable[tuple[str, DailyScores]]:
        """Return the days with rows for one value of a dimension, or for all its values, each with its value."""

    def list_day_counts(
        self, scope: Scope, start_ms: int, end_ms: int, calendar: Calendar
    ) -> Iterable[tuple[date, int, float]]:
        """Return each day's number of questions, in any state, and the sum of its scores."""

    def list_asked_by(self, scope: Scope, start_ms: int, end_ms: int, *, hourly: bool = False) -> Iterable[AskedBy]:
        """Return how often each user (else session) asked each text that has a score, per hour or in total."""

    def list_asked(
        self,
        scope: Scope,
        start_ms: int,
        end_ms: int,
        below: float | None,
        limit: int,
        bounds: Mapping[str, float | None] | None = None,
    ) -> Iterable[AskedRow]:
        """Return the distinct texts with a score (under `below`), the most asked in the window first.

        With `bounds`, the texts are by embedding model, and scores of the models in it have bounds of their own.
        """

    def list_live(self, scope: Scope, dimension: str, start_ms: int, end_ms: int, most: int) -> Iterable[LiveFigures]:
        """Return the figures of each value of a dimension over the newest `most` rows of a window."""

    def span(self, scope: Scope) -> tuple[int, int] | None:
        """Return the times of the first and the last row, None if there is none."""

    def find_newest(self, scope: Scope, start_ms: int, end_ms: int, most: int) -> int:
        """Return the time of the oldest of the newest `most` rows of a window; its start if it has fewer."""

    def list_user_sums(
        self, scope: Scope, dimension: str, values: Sequence[str], start_ms: int, end_ms: int, *, hourly: bool
    ) -> Sequence[UserRow]:
        """Return the sums of each user's rows for each value, per hour or over the whole period."""

    def count_rows(self, scope: Scope, dimension: str, values: Sequence[str], start_ms: int, end_ms: int) -> int:
        """Return how many questions with these values there are in whole hours, from the rollup."""

    def list_recent_users(self, scope: Scope, since_ms: int, limit: int) -> Sequence[str]:
        """Return the distinct users of the newest `limit` rows since a time."""

    def list_recent_attributes(self, scope: Scope, since_ms: int, limit: int) -> Sequence[tuple[str, str]]:
        """Return user and attributes (JSON) of the newest `limit` rows since a time that have both, newest first."""

    def list_document_sums(self, scope: Scope, start_ms: int, end_ms: int) -> Sequence[Sequence[Any]]:
        """Return each document of a window of whole UTC days, the start of its last day, and its DOCUMENT_SUMS."""

    def list_rows(
        self, wanted: QuestionFilter, limit: int, after: Cursor | None, order: Order = Order.NEWEST
    ) -> Sequence[FoundRow]:
        """Return the first rows that meet a filter, those after a cursor."""

    def count_matching(self, wanted: QuestionFilter, most: int | None = None) -> int:
        """Return how many rows meet a filter; with `most`, counting ends there."""

    def list_newest_texts(self, scope: Scope, most_rows: int, limit: int) -> Iterable[str]:
        """Return distinct texts of the newest rows, most_rows of them, in no order, at most `limit`."""

    def list_texts_of_others(self, column: str, value: str, texts: Sequence[str]) -> Sequence[str]:
        """Return the queries that are among `texts` in lower case, of rows with another value of a column or none."""

    def delete_matching(self, wanted: QuestionFilter, within: Any) -> None:
        """Delete the rows that meet a filter, in a transaction of the store that holds the log, else at once."""
