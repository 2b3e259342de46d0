"""Who somebody can make the deck believe they are."""

from datetime import UTC, datetime

import pytest

from core.errors import Forbidden
from core.identity import OidcLogin, TrustedProxy, read_claims, read_headers
from core.permissions import Grant, Role, combine_grants

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LOGIN = OidcLogin("https://id.example.org/.well-known/openid-configuration", "deck", "secret", "c" * 40)
PROXY = TrustedProxy("X-User", "X-Groups", ())
GRANTS = tuple(
    Grant(who, Role.ADMIN) for who in ("boss@example.org", "kim@example.org", "group:bosses", "strasse@example.org")
)
LOOKALIKES = (
    "bo\u017f\u017f@example.org", "\u212aim@example.org", "\uff42oss@example.org", "boss\uff20example.org",
    "\u2170oss@example.org", "bo\u00ads\u017f@example.org",
)  # fmt: skip


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_name_that_looks_like_an_admins_names_nobody(name: str) -> None:
    claims = {"iat": NOW.timestamp(), "email": name, "email_verified": True}
    with pytest.raises(Forbidden):
        read_claims(LOGIN, claims, now=NOW)
    with pytest.raises(Forbidden):
        read_headers(PROXY, {"X-User": name})


@pytest.mark.parametrize("name", [*LOOKALIKES, "stra\u00dfe@example.org"])
def test_a_letter_stands_for_no_other_in_a_grant(name: str) -> None:
    assert combine_grants(GRANTS, name).role_in("production") is None


def test_a_group_that_looks_like_another_gives_nothing() -> None:
    claims = {
        "iat": NOW.timestamp(),
        "email": "eve@example.org",
        "email_verified": True,
        "groups": ["bo\u017f\u017fes"],
    }
    person = read_claims(LOGIN, claims, now=NOW)
    assert person.groups == ()
    assert combine_grants(GRANTS, person.name, ["bo\u017f\u017fes"]).held == ()


@pytest.mark.parametrize("name", ["Boss@Example.org", "boss@example.org", "BOSS@EXAMPLE.ORG"])
def test_capitals_of_ascii_do_not_matter(name: str) -> None:
    assert combine_grants(GRANTS, name).role_in("production") is Role.ADMIN


@pytest.mark.parametrize("name", ["\u00f6zg\u00fcr@example.org", "\u0430\u043d\u043d\u0430", "\u738b\u4f1f"])
def test_names_in_other_letters_are_names(name: str) -> None:
    claims = {"iat": NOW.timestamp(), "email": name, "email_verified": True}
    assert read_claims(LOGIN, claims, now=NOW).name == name
