"""Outages: called within a day, quiet where the share of empty searches merely varies."""

from datetime import date, timedelta

import numpy as np
import pytest

from core.drift.outage import OutageKind, find_outage, list_outages
from core.log.values import DailyScores

FIRST = date(2026, 1, 5)


def make_days(counts: list[tuple[int, int]], *, state: str = "empty") -> list[DailyScores]:
    """Days of (questions in that state, questions)."""
    return [
        DailyScores(FIRST + timedelta(days=at), n - k, 0.6 * (n - k), 0.4 * (n - k), (0,) * 50, **{state: k})
        for at, (k, n) in enumerate(counts)
    ]


def find(days: list[DailyScores]) -> object:
    return find_outage(days, today=days[-1].day)


@pytest.mark.parametrize("state", ["empty", "failed"])
@pytest.mark.parametrize("usual", [(0, 40), (2, 40), (15, 1_000)])
def test_a_day_of_which_half_is_lost_is_out(usual: tuple[int, int], state: str) -> None:
    outage = find_outage(days := make_days([usual] * 30 + [(usual[1] // 2, usual[1])], state=state), today=days[-1].day)
    assert outage
    assert (outage.kind, outage.since) == (OutageKind.NOTHING_FOUND, days[-1].day)


def test_a_few_days_of_few_questions_are_out_together_since_the_first_of_them() -> None:
    days = make_days([(1, 20), (0, 20), (2, 20)] * 10 + [(7, 16), (8, 16), (9, 16)])
    assert find(days[:31]) is None  # 7 of 16 can be sessions that repeat themselves
    outage = find_outage(days[:32], today=days[31].day)
    assert outage
    assert (outage.since, outage.count, outage.questions) == (days[30].day, 15, 32)
    assert outage.reason == (
        "47% of the searches from 4 Feb to 5 Feb 2026 found nothing, 15 of 32, against 5.0% before; this began on "
        "4 Feb 2026."
    )
    assert list_outages(days) == ((days[30].day, days[31].day, None),)
    usual = [*days, *make_days([(1, 16)] * 34)[-1:]]
    assert find(usual) is None
    assert list_outages(usual) == ((days[30].day, days[31].day, usual[-1].day),)


def test_a_handful_of_questions_a_day_is_enough_once_all_are_lost_for_days() -> None:
    assert find(make_days([(0, 2)] * 30 + [(2, 2)])) is None
    outage = find_outage(days := make_days([(0, 2)] * 30 + [(2, 2)] * 4), today=days[-1].day)
    assert outage
    assert outage.since == days[30].day


def test_an_outage_keeps_its_first_day_and_its_reference_however_long_it_lasts() -> None:
    days = make_days([(4, 200)] * 30 + [(200, 200)] * 60)
    outage = find_outage(days, today=days[-1].day)
    assert outage
    assert (outage.since, outage.reference) == (days[30].day, pytest.approx(0.02))


def test_it_is_over_with_the_first_usual_day_and_old_days_are_no_news() -> None:
    assert find(make_days([(4, 200)] * 30 + [(150, 200)] * 3 + [(5, 200)])) is None
    days = make_days([(4, 200)] * 30 + [(150, 200)])
    assert find_outage(days, today=days[-1].day + timedelta(days=7)) is None


@pytest.mark.deep
def test_a_share_that_varies_from_day_to_day_is_called_on_less_than_one_day_in_a_thousand() -> None:
    called = asked = 0
    for seed in range(10):
        rng = np.random.default_rng(10_000 + seed)
        shares = np.clip(rng.beta(4, 36, 250), 0, 1)  # mean 0.10, sd 0.05 from day to day
        days = make_days([(int(rng.binomial(300, share)), 300) for share in shares])
        called += sum(find(days[: at + 1]) is not None for at in range(20, 250, 2))
        asked += 115
    assert called / asked <= 0.002


def test_few_questions_are_no_outage() -> None:
    assert find(make_days([(0, 4)] * 30 + [(1, 4)])) is None
    assert find(make_days([(0, 5), (5, 5)])) is None
