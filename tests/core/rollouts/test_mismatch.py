"""Why users are not split as they should be: each reason is named where it is the cause, and none where all is well."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from core.arms.arms import Metric
from core.arms.sequential import compare_shares
from core.log.exposures import Exposure
from core.rollouts.experiment_design import Design, Direction
from core.rollouts.mismatch import count_crossed, explain_mismatch

START = datetime(2026, 3, 2, tzinfo=UTC)
DESIGN = Design("t", "style", ("a", "b"), (0.5, 0.5), Metric.SCORE, Direction.UP, 0.02, (), timedelta(0))


def expose(count: int, variant: str, *, service: str = "answers", day: int = 0, first: int = 0) -> Iterator[Exposure]:
    for number in range(count):
        user = f"{variant}-{service}-{day}-{first + number}"
        yield Exposure(user, variant, START + timedelta(days=day, minutes=1), service)


def explain(users: list[Exposure], logged: dict[str, int] | None = None, crossed: int = 0) -> tuple[str, ...]:
    counts = {arm: sum(each.variant == arm for each in users) for arm in DESIGN.arms}
    found = logged or counts
    p = min(compare_shares(each, {"a": 0.5, "b": 0.5}) or 0 for each in (counts, found))
    return explain_mismatch(DESIGN, users, found, crossed=crossed, p=p)


def test_a_right_split_has_no_reasons() -> None:
    assert explain([*expose(500, "a"), *expose(510, "b")]) == ()


def test_users_in_two_arms_are_counted_once_and_named_when_they_are_many() -> None:
    twice = [Exposure("ann", "a", START), Exposure("ann", "b", START), Exposure("bob", "a", START)]
    early = [Exposure("eve", "a", START - timedelta(days=1)), Exposure("eve", "b", START)]
    found = count_crossed([*twice, *early], DESIGN, drawn_since=START, until=START + timedelta(days=1))
    assert found == 1
    even = [*expose(500, "a"), *expose(500, "b")]
    assert explain(even, crossed=2) == ()
    (told,) = explain(even, crossed=100)
    assert told.startswith(
        "100 users (9.1%) were in two arms and count in neither: the id that the flag is evaluated for"
    )


def test_an_arm_that_nobody_reports_is_named() -> None:
    (told,) = explain(list(expose(200, "a")))
    assert told.startswith("No user of b is recorded")


def test_one_service_that_loses_users_is_named() -> None:
    users = [*expose(500, "a"), *expose(500, "b"), *expose(400, "a", service="mail"), *expose(200, "b", service="mail")]
    (told,) = explain(users)
    assert told.startswith("Only in the service mail: 33.3% of its 600 users are on b, 50.0% are expected.")


def test_the_day_since_which_users_are_lost_is_named() -> None:
    users = [*expose(300, "a"), *expose(300, "b"), *expose(400, "a", day=3), *expose(200, "b", day=3)]
    assert "Since 5 Mar, and not before: see what was changed or deployed on that day (UTC)." in explain(users)


def test_users_lost_on_the_way_to_the_log_are_told_from_a_wrong_split() -> None:
    (told,) = explain([*expose(500, "a"), *expose(500, "b")], {"a": 480, "b": 300})
    assert told.startswith(
        "Exposures are split as they should be, but 40% of the exposed users of b are not in the log, against 4% of a:"
    )


@pytest.mark.parametrize("service", ["answers", "mail"])
def test_a_mismatch_everywhere_has_the_usual_reasons(service: str) -> None:
    (told,) = explain([*expose(500, "a", service=service), *expose(300, "b", service=service)])
    assert told.startswith("Every service and day shows it alike")
