"""The days of a digest: whole ones that are over."""

from datetime import date

import pytest

from core.digest.periods import Cadence, DigestPeriod, find_last_period, name_period, read_since
from core.errors import InvalidInput

TODAY = date(2026, 12, 2)  # a Wednesday


@pytest.mark.parametrize(
    ("cadence", "first", "last", "name"),
    [
        (Cadence.DAY, date(2026, 12, 1), date(2026, 12, 1), "Daily digest"),
        (Cadence.WEEK, date(2026, 11, 23), date(2026, 11, 29), "Weekly digest"),
        (Cadence.MONTH, date(2026, 11, 1), date(2026, 11, 30), "Monthly digest"),
    ],
)
def test_the_last_period_of_each_cadence_is_over(cadence, first, last, name):
    period = find_last_period(cadence, today=TODAY)
    assert (period, name_period(period)) == (DigestPeriod(first, last), name)


def test_a_monday_is_in_no_week_that_is_over():
    assert find_last_period(Cadence.WEEK, today=date(2026, 11, 30)).last == date(2026, 11, 29)


@pytest.mark.parametrize(
    ("text", "first"), [("7d", date(2026, 11, 25)), ("1d", date(2026, 12, 1)), ("2026-11-02", date(2026, 11, 2))]
)
def test_since_is_a_number_of_days_or_a_date(text, first):
    assert read_since(text, today=TODAY) == DigestPeriod(first, date(2026, 12, 1))


@pytest.mark.parametrize(
    "text", ["0d", "d", "-3d", "7", "367d", "99999d", "2026-12-02", "2025-01-01", "soon", "٣d", ""]
)
def test_a_period_that_holds_no_day_or_too_many_is_refused(text):
    with pytest.raises(InvalidInput, match="since"):
        read_since(text, today=TODAY)


def test_the_days_before_are_as_many():
    period = DigestPeriod(date(2026, 11, 23), date(2026, 11, 29))
    assert period.before == DigestPeriod(date(2026, 11, 16), date(2026, 11, 22))
    assert [period.holds(date(2026, 11, day)) for day in (22, 23, 29, 30)] == [False, True, True, False]
