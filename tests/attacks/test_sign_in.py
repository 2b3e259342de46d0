"""Whether somebody can pretend to be somebody else."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from core.access.credentials import issue_token, revoke_token
from core.access.identity import OidcLogin, TrustedProxy, read_claims, read_headers, read_sign_in
from core.access.scopes import TokenScope
from core.access.sessions import explain_end
from core.access.tokens import get_token
from core.audit.acts import Act
from core.audit.permissions import Grant, Role, Roles, combine_grants
from core.errors import Conflict, Forbidden, InvalidInput
from core.flags.operations import create_flag, update_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.attacks.conftest import fill_home
from tests.browser.test_sign_in import COOKIE_SECRET, find_port, run_server
from tests.core.access.test_identity import OIDC

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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUARTERDECK_OIDC_METADATA_URL", "http://id.example.org/.well-known/openid-configuration"),
        ("QUARTERDECK_OIDC_METADATA_URL", "http://127.0.0.1.example.org/.well-known/openid-configuration"),
        ("QUARTERDECK_PUBLIC_URL", "http://deck.example.org"),
        ("QUARTERDECK_COOKIE_SECRET", "c" * 40),
        ("QUARTERDECK_COOKIE_SECRET", "abcabc" * 10),
    ],
)
def test_a_sign_in_that_others_can_read_or_guess_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}: "):
        read_sign_in(OIDC | {name: value})


def test_a_provider_on_this_machine_may_speak_plain_http() -> None:
    local = "http://127.0.0.1:5556/.well-known/openid-configuration"
    assert read_sign_in(OIDC | {"QUARTERDECK_OIDC_METADATA_URL": local}).login is not None


@pytest.mark.parametrize("reason", ["\u200b", " \u200b\u2060\ufeff ", "\u202e\u202c", "\t\n", "\u3164\u200d"[1:]])
def test_a_reason_that_nobody_sees_is_none(reason: str) -> None:
    with pytest.raises(InvalidInput, match="^reason: is empty"):
        Act("ada", reason)
    assert Act("ada", "\u66f4\u65b0").reason


@pytest.mark.sqlite_only("the check is made before the store")
def test_an_editor_of_staging_changes_no_flag_of_production(store: Store) -> None:
    create_flag(store, "f", boolean_flag(on=True), Act("ada", "because"))
    staging = Act("eve", "because", "staging", roles=Roles((("staging", Role.EDITOR),)))
    with pytest.raises(InvalidInput, match="f is of production, the act of staging"):
        update_flag(store, get_flag(store, "production", "f"), boolean_flag(on=False), staging)
    assert get_flag(store, "production", "f").definition == boolean_flag(on=True)


@pytest.mark.sqlite_only("the check is made before the store")
def test_a_token_of_staging_does_not_take_the_place_of_a_revoked_one_of_production(store: Store) -> None:
    production, staging = Act("ada", "because"), Act("eve", "because", "staging")
    issue_token(store, "search", [TokenScope.INGEST], production)
    revoke_token(store, "search", production)
    with pytest.raises(Conflict, match="was one of production"):
        issue_token(store, "search", [TokenScope.INGEST], staging)
    assert get_token(store, "search").environment == "production"
    issue_token(store, "search", [TokenScope.INGEST], production)


@pytest.mark.deep
@pytest.mark.slow
def test_a_copied_cookie_is_worth_nothing_after_a_sign_out_by_address(tmp_path: Path) -> None:
    """No button is pressed: a bookmark of the address, or a provider, asks for the sign-out."""
    port, signed_in = find_port(), datetime.now(UTC).replace(microsecond=0)
    claims = {"iss": "id", "sub": "1", "iat": signed_in.timestamp(), "email": "ada@example.org", "email_verified": True}
    told = json.dumps({"is_logged_in": True, "origin": f"http://127.0.0.1:{port}", **claims})
    cookie = create_signed_value(COOKIE_SECRET, USER_COOKIE_NAME, told).decode()
    forged = create_signed_value("e" * 40, USER_COOKIE_NAME, told).decode()
    login = replace(LOGIN, cookie_secret=COOKIE_SECRET)
    person = read_claims(login, claims, now=signed_in)
    home = tmp_path / "home"
    fill_home(home)
    settings = OIDC | {"QUARTERDECK_COOKIE_SECRET": COOKIE_SECRET, "QUARTERDECK_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    with run_server(home, port, **settings) as server, closing(Store(server.database_url)) as store:
        for sent, end in ((forged, ""), (cookie, "you signed out; sign in again")):
            httpx.get(f"{server.address}/auth/logout", headers={"Cookie": f"{USER_COOKIE_NAME}={sent}"})
            assert explain_end(store, person, login, now=signed_in) == end
