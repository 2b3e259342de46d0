"""Which scope a command means."""

import pytest

from core.errors import InvalidInput
from core.log.scopes import choose_scope
from quarterdeck.scope import Scope

ONE, SEARCH, THERE = Scope("production", "answers"), Scope("production", "search"), Scope("staging", "answers")


@pytest.mark.parametrize(
    ("known", "environment", "service", "expected"),
    [
        ((), None, None, Scope("production", "default")),
        ((), "staging", "Answers", THERE),
        ((ONE,), None, None, ONE),
        ((THERE,), None, None, THERE),
        ((ONE, SEARCH, THERE), "staging", None, THERE),
        ((ONE, SEARCH, THERE), None, "search", SEARCH),
        ((ONE, SEARCH, THERE), None, "answers", ONE),
        ((ONE, THERE), None, None, ONE),
        ((ONE, SEARCH, THERE), "trial", None, Scope("trial", "default")),
    ],
)
def test_the_one_scope_that_fits_is_taken(known, environment, service, expected):
    assert choose_scope(known, environment=environment, service=service, own="production") == expected


@pytest.mark.parametrize(
    ("environment", "service", "said"),
    [
        (None, None, "several report: production/answers, production/search; choose one with"),
        ("production", None, "several report: production/answers, production/search"),
        (None, "nobody", "production/nobody recorded nothing; there are: production/answers"),
        ("staging", "search", "staging/search recorded nothing"),
    ],
)
def test_otherwise_they_are_listed(environment, service, said):
    with pytest.raises(InvalidInput, match=said):
        choose_scope((ONE, SEARCH, THERE), environment=environment, service=service, own="production")
