"""The sentences of canaries and experiments add up: no sure difference is larger than that of the means beside it."""

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.arms.arms import Metric
from tests.core.rollouts import test_canary, test_experiment

NUMBER = r"\$?([\d,]+(?:\.\d+)?)(?:%| ms| points)?"
STATED = re.compile(rf"{NUMBER} against {NUMBER}.*?, by at least {NUMBER}")
MEANS = {
    "score": st.floats(0.66, 0.74),
    "errors": st.floats(0.005, 0.03),
    "latency": st.floats(380, 480),
    "cost": st.floats(0.0018, 0.0024),
}
USERS = st.sampled_from([40, 2_000, 60_000, 2_000_000])


def check(reason: str, first: dict[str, float], other: dict[str, float]) -> bool:
    """Whether the sentence states two means and a least difference; if so, they fit each other and the data."""
    said = STATED.search(reason)
    if said is None:
        return False
    one, two, least = (float(said[at].replace(",", "")) for at in (1, 2, 3))
    assert abs(one - two) > least - 1e-9, reason
    named = next(name for name in MEANS if name.removesuffix("s") in reason)
    scale = 100 if named == "errors" else 1
    usual = {metric.name.lower(): mean for metric, (mean, _) in test_experiment.USUAL.items()}
    for shown, means in ((one, other), (two, first)):
        assert abs(shown - scale * means.get(named, usual[named])) <= 0.51 * 10 ** -_decimals(said[1]), reason
    return True


def _decimals(shown: str) -> int:
    return len(shown.partition(".")[2])


@settings(max_examples=60, deadline=None)
@given(users=USERS, blue=st.fixed_dictionaries(MEANS), green=st.fixed_dictionaries(MEANS))
def test_a_canary_states_no_more_than_its_means_differ_by(users: int, blue: Any, green: Any) -> None:
    check(test_canary.decide(test_canary.arm(users, **blue), test_canary.arm(users, **green)).reason, blue, green)


@settings(max_examples=60, deadline=None)
@given(users=USERS, short=st.fixed_dictionaries(MEANS), long=st.fixed_dictionaries(MEANS))
def test_an_experiment_states_no_more_than_its_means_differ_by(users: int, short: Any, long: Any) -> None:
    verdict = test_experiment.decide(test_experiment.arm(users, **short), test_experiment.arm(users, **long))
    assert set(MEANS) <= {metric.name.lower() for metric in Metric}
    if check(verdict.reason, short, long) and "wins" in verdict.reason:
        assert f"over {2 * users:,} users" in verdict.reason


def test_a_small_sure_difference_is_shown_with_the_decimals_it_needs() -> None:
    one, other = {"score": 0.6951}, {"score": 0.7049}
    verdict = test_experiment.decide(test_experiment.arm(2_000_000, **one), test_experiment.arm(2_000_000, **other))
    assert "0.705 against 0.695, by at least 0.009" in verdict.reason
    assert check(verdict.reason, one, other)
