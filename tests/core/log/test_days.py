"""Days of a zone, closed days with their capped mean, and readings of them, against a loop over the rows."""

import random
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from core.log.calendars import UTC_DAYS, make_calendar
from core.log.capping import cap_mean
from core.log.closing import close_days
from core.log.retrievals import list_days, list_segment_scores
from core.log.values import AskedBy
from quarterdeck.clock import HOUR_MS, to_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import days, settings
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

NOW = datetime(2026, 4, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Auckland", "Africa/Cairo", "UTC"])
def test_a_day_of_a_zone_begins_at_its_midnight_through_every_change_of_clocks(zone: str) -> None:
    calendar = make_calendar(zone)
    for number in range(400):
        day = date(2026, 1, 1) + timedelta(days=number)
        start = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
        assert calendar.day_of(calendar.start_of(day)) == day
        assert calendar.day_of(calendar.start_of(day) - 1) == day - timedelta(days=1)
        if start.astimezone(UTC).astimezone(ZoneInfo(zone)).hour == 0:  # midnight was not skipped
            assert calendar.start_of(day) == to_ms(start)


def test_a_zone_of_half_an_hour_begins_its_day_at_the_next_whole_hour() -> None:
    calendar = make_calendar("Asia/Kolkata")
    assert calendar.start_of(date(2026, 4, 10)) == to_ms(datetime(2026, 4, 9, 19, tzinfo=UTC))  # 00:30 there


def test_neither_a_session_nor_a_text_weighs_more_than_a_hundredth_of_the_day() -> None:
    crowd = [AskedBy(f"u{number}", f"question {number}", 1, 0.8) for number in range(700)]
    assert cap_mean(crowd) == pytest.approx(0.8)
    bot = [AskedBy("bot", f"probe {number}", 1, 0.0) for number in range(300)]
    assert cap_mean([*crowd, *bot]) == pytest.approx(0.8 * 700 / 710)
    button = [AskedBy(None, text, 150, 0.0) for text in ("Try  this", "try this")]
    assert cap_mean([*crowd, *button]) == pytest.approx(0.8 * 700 / 710)
    assert cap_mean([]) is None


def test_a_small_day_is_the_mean_of_its_texts() -> None:
    assert cap_mean([AskedBy(None, "a", 3, 0.3), AskedBy(None, "b", 1, 0.9)]) == pytest.approx(0.5)


def write(store: Store, *, start: datetime, hours: int, scope: Scope = DEFAULT_SCOPE) -> list[Retrieval]:
    rng = random.Random(5)
    rows = [
        Retrieval(
            start + timedelta(hours=hour, minutes=rng.randrange(60)), f"question {rng.randrange(40)}",
            None if rng.random() < 0.1 else rng.random(), user_id=f"u{rng.randrange(30)}",
            arm=rng.choice(["blue", "green"]), attributes={"tenant": rng.choice(["a", "b"])}, scope=scope,
        )
        for hour in range(hours)
        for _ in range(6)
    ]  # fmt: skip
    append_retrievals(store, rows)
    return rows


def set_service(store: Store, value: str, name: str = "default") -> None:
    with store.begin() as connection:
        connection.execute(settings.insert().values(name=f"service:{name}", value=value, version=1))


def expected(rows: list[Retrieval], zone: str = "UTC") -> dict[date, tuple[int, int]]:
    found: defaultdict[date, list[float | None]] = defaultdict(list)
    for row in rows:
        found[row.ts.astimezone(ZoneInfo(zone)).date()].append(row.score)
    return {day: (sum(s is not None for s in scores), scores.count(None)) for day, scores in sorted(found.items())}


def counts(store: Store, scope: Scope = DEFAULT_SCOPE) -> dict[date, tuple[int, int]]:
    return {day.day: (day.count, day.empty) for day in list_days(store, scope=scope)}


@pytest.mark.deep
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_closed_days_are_those_of_the_hours_with_a_capped_mean_and_late_rows_open_them(store: Store, zone: str) -> None:
    set_service(store, f'{{"zone": "{zone}", "dimensions": ["tenant"]}}')
    rows = write(store, start=datetime(2026, 3, 1, 3, tzinfo=UTC), hours=30 * 24)  # clocks change on 8 March
    assert counts(store) == expected(rows, zone)
    tenants = list_segment_scores(store, "tenant", scope=DEFAULT_SCOPE)
    before = list_days(store, scope=DEFAULT_SCOPE)
    assert close_days(store, now=NOW) == len(before)
    after = list_days(store, scope=DEFAULT_SCOPE)
    assert [(d.day, d.questions, d.histogram) for d in after] == [(d.day, d.questions, d.histogram) for d in before]
    assert {d.capped is None for d in before} == {True}
    assert {d.capped is None for d in after} == {False}
    assert list_segment_scores(store, "tenant", scope=DEFAULT_SCOPE).keys() == tenants.keys() == {"a", "b"}
    assert close_days(store, now=NOW) == 0
    few = write(store, start=datetime(2026, 3, 15, 12, tzinfo=UTC), hours=1)
    many = write(store, start=datetime(2026, 3, 20, 12, tzinfo=UTC), hours=6)
    late = [*few, *many]
    assert counts(store) == expected([*rows, *late], zone)
    capped = {d.day: d.capped for d in list_days(store, scope=DEFAULT_SCOPE)}
    assert [day for day, mean in capped.items() if mean is None] == [date(2026, 3, 20)]
    assert capped[date(2026, 3, 15)] == next(d.capped for d in after if d.day == date(2026, 3, 15))
    assert close_days(store, now=NOW) == 2
    assert counts(store) == expected([*rows, *late], zone)


def test_a_closed_day_has_the_capped_mean_as_its_mean(store: Store) -> None:
    start = datetime(2026, 4, 1, 8, tzinfo=UTC)
    crowd = [Retrieval(start + timedelta(seconds=n), f"q{n}", 0.8, session_id=f"s{n}") for n in range(700)]
    bot = [Retrieval(start + timedelta(seconds=n), f"probe {n}", 0.0, session_id="bot") for n in range(300)]
    append_retrievals(store, [*crowd, *bot])
    assert list_days(store, scope=DEFAULT_SCOPE)[0].mean == pytest.approx(0.56)
    close_days(store, now=NOW)
    (day,) = list_days(store, scope=DEFAULT_SCOPE)
    assert day.mean == pytest.approx(0.8 * 700 / 710)
    assert day.count == 1_000


def test_the_day_that_is_not_over_is_not_closed(store: Store) -> None:
    write(store, start=NOW - timedelta(hours=30), hours=30)
    close_days(store, now=NOW)
    assert [d.capped is None for d in list_days(store, scope=DEFAULT_SCOPE)] == [False, True]
    with store.read() as connection:
        assert len(set(connection.scalars(days.select().with_only_columns(days.c.day)))) == 1


def test_a_call_closes_the_newest_days_first_and_the_next_goes_on(store: Store) -> None:
    write(store, start=NOW - timedelta(days=6), hours=5 * 24)
    assert close_days(store, now=NOW, most=144 * 2) == 2
    assert [d.capped is None for d in list_days(store, scope=DEFAULT_SCOPE)] == [True] * 4 + [False] * 2
    assert [close_days(store, now=NOW, most=144 * 2) for _ in range(2)] == [2, 2]
    write(store, start=NOW - timedelta(days=12), hours=5 * 24)
    assert [close_days(store, now=NOW, most=None) for _ in range(2)] == [6, 0]


def test_days_whose_rows_were_deleted_keep_their_sums_without_a_capped_mean(store: Store) -> None:
    write(store, start=NOW - timedelta(days=3), hours=24)
    before = counts(store)
    with store.begin() as connection:
        connection.exec_driver_sql("DELETE FROM retrievals")
    close_days(store, now=NOW)
    assert counts(store) == before
    assert {d.capped for d in list_days(store, scope=DEFAULT_SCOPE)} == {None}


def test_an_hour_belongs_to_one_day_only() -> None:
    calendar = make_calendar("America/New_York")
    first = calendar.start_of(date(2026, 10, 25))
    hours = [calendar.day_of(first + hour * HOUR_MS) for hour in range(14 * 24)]
    assert sorted(hours) == hours
    assert hours.count(date(2026, 11, 1)) == 25
    assert UTC_DAYS.day_of(first) == date(2026, 10, 25)
