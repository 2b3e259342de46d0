"""A tally has the same moments over each arm's users as a plain loop over all retrievals."""

import random
import statistics
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from core.arms.arms import Arm, Metric, Tally, add_stretches
from core.log.values import UserRow

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def row(arm: str, user: str | None, scores: list[float | None], latencies: list[float] = []) -> UserRow:  # noqa: B006
    found = [score for score in scores if score is not None]
    return UserRow(
        0, arm, user, len(scores), len(found), sum(found), len(latencies), sum(latencies), 0, 0.0, 0, 0.0, 0, 0.0
    )


def fill(tally: Tally, hours: list[list[UserRow]]) -> list[dict[str, Arm]]:
    return [
        dict(tally.add(rows, start=START + at * HOUR, at=START + (at + 1) * HOUR).arms) for at, rows in enumerate(hours)
    ]


def test_every_user_counts_once_however_much_the_user_asked() -> None:
    (arms,) = fill(Tally(("blue",)), [[row("blue", "a", [0.2] * 99), row("blue", "b", [0.8])]])
    score = arms["blue"].moments[Metric.SCORE]
    assert (score.users, score.mean) == (2, pytest.approx(0.5))
    assert score.variance == pytest.approx(statistics.variance([0.2, 0.8]))
    assert (arms["blue"].users, arms["blue"].queries) == (2, 100)


def test_a_user_who_comes_back_changes_the_own_mean_and_adds_no_user() -> None:
    _, arms = fill(Tally(("blue",)), [[row("blue", "a", [0.2]), row("blue", "b", [0.6])], [row("blue", "a", [0.4])]])
    score = arms["blue"].moments[Metric.SCORE]
    assert (score.users, score.mean) == (2, pytest.approx((0.3 + 0.6) / 2))


def test_an_empty_hit_list_is_an_error_and_has_no_score() -> None:
    (arms,) = fill(Tally(("green",)), [[row("green", "a", [None, 0.5]), row("green", "b", [None])]])
    moments = arms["green"].moments
    assert (moments[Metric.ERRORS].users, moments[Metric.ERRORS].mean) == (2, pytest.approx(0.75))
    assert (moments[Metric.SCORE].users, moments[Metric.SCORE].mean) == (1, pytest.approx(0.5))
    assert Metric.LATENCY not in moments


def test_retrievals_without_a_session_count_for_nobody_and_are_counted_apart() -> None:
    (arms,) = fill(Tally(("blue",)), [[row("blue", None, [0.1, 0.1]), row("blue", "a", [0.9])]])
    assert (arms["blue"].users, arms["blue"].queries, arms["blue"].anonymous) == (1, 1, 2)
    assert arms["blue"].moments[Metric.SCORE].mean == pytest.approx(0.9)


def test_looking_ahead_takes_nothing_in() -> None:
    tally = Tally(("blue", "green"))
    fill(tally, [[row("blue", "a", [0.2]), row("green", "x", [0.3])]])
    rows = [row("blue", "a", [0.4]), row("blue", "b", [0.9])]
    ahead = tally.look_ahead(rows, start=START, at=START + HOUR)
    assert tally.look_ahead([], start=START, at=START).arms["blue"].users == 1
    assert tally.add(rows, start=START, at=START + HOUR) == ahead
    assert ahead.arms["green"].moments[Metric.SCORE].mean == pytest.approx(0.3)


def test_the_last_stretch_is_told_apart_from_the_whole() -> None:
    tally = Tally(("blue",))
    fill(tally, [[row("blue", "a", [0.2, 0.4], [100.0])]])
    look = tally.add([row("blue", "a", [0.9, None], [300.0])], start=START + HOUR, at=START + 2 * HOUR)
    assert look.last["blue"].mean(Metric.SCORE) == pytest.approx(0.9)
    assert look.last["blue"].mean(Metric.ERRORS) == pytest.approx(0.5)
    assert look.last["blue"].mean(Metric.COST) is None
    assert look.arms["blue"].moments[Metric.LATENCY].mean == pytest.approx(200.0)


def test_moments_over_many_hours_are_those_of_a_plain_loop() -> None:
    rng = random.Random(5)
    tally, asked = Tally(("blue", "green")), defaultdict(list)
    for at in range(60):
        rows = []
        for user in rng.sample(range(3_000), 200):
            arm = "green" if user % 7 == 0 else "blue"
            latencies = [1e6 + rng.lognormvariate(6, 0.5) for _ in range(rng.randrange(1, 4))]
            rows.append(row(arm, f"u{user}", [0.5] * len(latencies), latencies))
            asked[arm, user] += latencies
        look = tally.add(rows, start=START + at * HOUR, at=START + (at + 1) * HOUR)
    for arm in ("blue", "green"):
        means = [statistics.fmean(values) for (of, _), values in asked.items() if of == arm]
        found = look.arms[arm].moments[Metric.LATENCY]
        assert found.users == len(means) > 300
        assert found.mean == pytest.approx(statistics.fmean(means), rel=1e-6)
        assert found.variance == pytest.approx(statistics.variance(means), rel=1e-3)


def test_stretches_add_up_to_days_on_the_clock() -> None:
    tally = Tally(("blue",))
    looks = [
        tally.add([row("blue", f"u{at}", [at / 100.0, None])], start=START + at * HOUR, at=START + (at + 1) * HOUR)
        for at in range(30)
    ]
    first, second = add_stretches(looks, timedelta(days=1))
    assert (first.start, second.start) == (START, START + 24 * HOUR)
    assert first.last["blue"].mean(Metric.SCORE) == pytest.approx(statistics.fmean(at / 100 for at in range(24)))
    assert second.last["blue"].sums[Metric.ERRORS] == (12, 6.0)


def test_the_covariate_is_what_each_users_questions_were_expected_to_score() -> None:
    rng = random.Random(5)
    tally = Tally(("blue",))
    scores, guesses = defaultdict(list), defaultdict(list)
    for hour in range(6):
        rows, expected = [], {}
        for user in {f"u{rng.randrange(40)}" for _ in range(25)}:
            asked = [rng.random() for _ in range(rng.randrange(1, 4))]
            guessed = [score / 2 + rng.gauss(0, 0.1) for score in asked]
            rows.append(row("blue", user, [*asked]))
            expected[user] = len(asked), sum(guessed)
            if hour < 5:
                scores[user] += asked
                guesses[user] += guessed
        add = tally.add if hour < 5 else tally.look_ahead
        look = add(rows, start=START + hour * HOUR, at=START + (hour + 1) * HOUR, expected=expected)
        if hour == 4:
            kept = look
    y, x = ([statistics.fmean(values[user]) for user in scores] for values in (scores, guesses))
    covariate = kept.arms["blue"].moments[Metric.SCORE].covariate
    assert covariate is not None
    assert covariate.mean == pytest.approx(statistics.fmean(x), abs=1e-6)
    assert covariate.variance == pytest.approx(statistics.variance(x), abs=1e-6)
    assert covariate.covariance == pytest.approx(statistics.covariance(x, y), abs=1e-6)
    assert look.arms != kept.arms
