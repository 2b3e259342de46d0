"""Identity: settings, tokens and headers by literal values."""

from datetime import UTC, datetime, timedelta

import pytest

from core.access.identity import (
    OidcLogin,
    Person,
    SignIn,
    TrustedProxy,
    check_bind,
    is_loopback,
    read_claims,
    read_headers,
    read_sign_in,
)
from core.errors import Forbidden, InvalidInput

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOGIN = OidcLogin("https://id.example.org/.well-known/openid-configuration", "deck", "hidden", "c" * 32)
CLAIMS = {
    "iss": "https://id.example.org", "sub": "17", "iat": int(NOW.timestamp()), "email": "ada@example.org",
    "email_verified": True, "groups": ["rag", "ops"],
}  # fmt: skip
OIDC = {
    "QUARTERDECK_OIDC_METADATA_URL": LOGIN.metadata_url, "QUARTERDECK_OIDC_CLIENT_ID": "deck",
    "QUARTERDECK_OIDC_CLIENT_SECRET": "hidden", "QUARTERDECK_COOKIE_SECRET": "a-secret-of-the-tests-for-cookies",
    "QUARTERDECK_PUBLIC_URL": "https://Deck.example.org/",
}  # fmt: skip
PROXY = {
    "QUARTERDECK_PROXY_USER_HEADER": "X-Forwarded-Email", "QUARTERDECK_PROXY_GROUPS_HEADER": "X-Forwarded-Groups",
    "QUARTERDECK_PROXY_ADDRESSES": "127.0.0.1, 10.1.0.0/16",
}  # fmt: skip


def test_without_settings_everybody_is_the_local_operator() -> None:
    assert read_sign_in({}) == SignIn()
    assert read_sign_in({}).is_local


def test_a_login_is_read_whole_and_shows_no_secret() -> None:
    access = read_sign_in(OIDC | {"QUARTERDECK_SESSION_HOURS": "1"})
    assert (access.login.client_id, access.login.session) == ("deck", timedelta(hours=1))
    assert access.public_url == "https://deck.example.org"
    assert not access.is_local
    assert "hidden" not in repr(access) and "cccc" not in repr(access)


def test_a_proxy_counts_from_its_addresses_only() -> None:
    proxy = read_sign_in(PROXY).proxy
    assert [proxy.is_from(each) for each in ("127.0.0.1", "10.1.2.3", "10.2.0.1", "", "unix")] == [
        True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({**OIDC, "QUARTERDECK_OIDC_CLIENT_SECRET": ""}, "QUARTERDECK_OIDC_CLIENT_SECRET: must be set"),
        ({**OIDC, "QUARTERDECK_OIDC_CLIENT_ID": ""}, "QUARTERDECK_OIDC_CLIENT_ID: must be set"),
        ({**OIDC, "QUARTERDECK_COOKIE_SECRET": "short"}, "QUARTERDECK_COOKIE_SECRET: must be at least 32"),
        ({**OIDC, "QUARTERDECK_PUBLIC_URL": ""}, "QUARTERDECK_PUBLIC_URL: must be set for a login"),
        ({**OIDC, "QUARTERDECK_PUBLIC_URL": "https://x.org/deck"}, "QUARTERDECK_PUBLIC_URL: must be an address with"),
        ({**OIDC, "QUARTERDECK_OIDC_METADATA_URL": "id.org"}, "QUARTERDECK_OIDC_METADATA_URL: must be an https"),
        ({**OIDC, "QUARTERDECK_SESSION_HOURS": "0"}, "QUARTERDECK_SESSION_HOURS: must be a whole number"),
        ({**OIDC, **PROXY}, "QUARTERDECK_PROXY_USER_HEADER: cannot be combined with"),
        ({**PROXY, "QUARTERDECK_PROXY_ADDRESSES": ""}, "QUARTERDECK_PROXY_ADDRESSES: must contain the proxy's address"),
        ({**PROXY, "QUARTERDECK_PROXY_ADDRESSES": "nginx"}, "QUARTERDECK_PROXY_ADDRESSES: must be addresses"),
        ({**PROXY, "QUARTERDECK_PROXY_USER_HEADER": "a b"}, "QUARTERDECK_PROXY_USER_HEADER: must be the name"),
        ({"QUARTERDECK_ALLOW_ANYONE": "yes"}, "QUARTERDECK_ALLOW_ANYONE: must be on or off"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_the_variable(environ: dict[str, str], line: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{line}"):
        read_sign_in(environ)


def test_other_machines_get_in_only_by_login_proxy_or_an_explicit_word() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    for host in ("0.0.0.0", "::", "10.0.0.5", "deck.example.org", ""):
        assert not is_loopback(host)
        with pytest.raises(InvalidInput, match="^host: .* lets other machines in without a sign-in"):
            check_bind(SignIn(), host)
        for environ in (OIDC, PROXY, {"QUARTERDECK_ALLOW_ANYONE": "on"}):
            check_bind(read_sign_in(environ), host)
    check_bind(SignIn(), "127.0.0.1")


def test_a_verified_address_names_the_person_and_the_claim_the_groups() -> None:
    person = read_claims(LOGIN, CLAIMS, now=NOW)
    assert (person.name, person.groups) == ("ada@example.org", ("rag", "ops"))
    other = read_claims(LOGIN, CLAIMS | {"iat": CLAIMS["iat"] - 1}, now=NOW)
    assert len(person.session) == 64 and person.session != other.session


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_an_address_that_is_not_verified_names_nobody(verified: object) -> None:
    with pytest.raises(Forbidden, match="has not verified your e-mail address"):
        read_claims(LOGIN, CLAIMS | {"email_verified": verified}, now=NOW)


def test_a_session_ends_with_its_age_whatever_the_cookie_says() -> None:
    read_claims(LOGIN, CLAIMS, now=NOW + LOGIN.session - timedelta(seconds=1))
    for claims in (CLAIMS, CLAIMS | {"iat": None}, CLAIMS | {"iat": "soon"}):
        with pytest.raises(Forbidden, match="your session has ended"):
            read_claims(LOGIN, claims, now=NOW + LOGIN.session)


@pytest.mark.parametrize("name", ["group:admins", "Everyone", "", " ada", "a\nb", None, 17, "x" * 300])
def test_a_name_that_stands_for_others_names_nobody(name: object) -> None:
    with pytest.raises(Forbidden, match="no usable email"):
        read_claims(LOGIN, CLAIMS | {"email": name}, now=NOW)


@pytest.mark.parametrize(
    ("given", "groups"),
    [(None, ()), ("rag", ("rag",)), (["a", 7, "", " b", "a" * 300], ("a",)), (["g"] * 500, ("g",) * 500)],
)
def test_groups_are_taken_as_they_come_and_limited(given: object, groups: tuple[str, ...]) -> None:
    assert read_claims(LOGIN, CLAIMS | {"groups": given}, now=NOW).groups == groups


def test_more_groups_than_are_read_are_refused_and_none_is_dropped_in_silence() -> None:
    with pytest.raises(Forbidden, match="you are in 501 groups, and 500 at most are read"):
        read_claims(LOGIN, CLAIMS | {"groups": ["g"] * 501}, now=NOW)
    with pytest.raises(Forbidden, match="you are in 501 groups"):
        read_headers(TrustedProxy("X-User", "X-Groups", ()), {"X-User": "ada", "X-Groups": "g," * 500 + "g"})


def test_the_proxys_headers_name_the_person_and_the_groups() -> None:
    proxy = read_sign_in(PROXY).proxy
    headers = {"X-Forwarded-Email": "ada@example.org", "X-Forwarded-Groups": "rag, ops,,"}
    assert read_headers(proxy, headers) == Person("ada@example.org", ("rag", "ops"))
    for name in ("", "everyone", "group:rag"):
        with pytest.raises(Forbidden, match="the proxy named no user"):
            read_headers(proxy, headers | {"X-Forwarded-Email": name})
