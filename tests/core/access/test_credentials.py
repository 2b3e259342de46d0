"""Bearer tokens: what is stored of them, what they allow, and that the first one closes an open server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http import api, backends
from core.access.credentials import issue_token, revoke_token
from core.access.identity import is_loopback
from core.access.scopes import Token, TokenScope, decide_access, hash_secret, read_scopes
from core.access.tokens import get_token, list_tokens
from core.audit.acts import Act
from core.audit.trail import list_audit
from core.errors import Conflict, InvalidInput, NotFound
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag

ME = Act("ada", "because")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOKEN = Token("search", "d", "qd_abcd", (TokenScope.EVALUATE,), "production", NOW, "ada")
ROW = {"query": "what is an mbuf", "score": 0.7}
ASK = {"context": {"targetingKey": "u1"}}


@pytest.fixture
def client(url, store, monkeypatch, tmp_path):
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(backends, "TOKENS_KNOWN_FOR_S", 0.0)
    create_flag(store, "half", boolean_flag(on=True), ME)
    backends.close()
    with TestClient(Starlette(routes=api.ROUTES)) as opened:
        yield opened
    backends.close()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def statuses(client, headers) -> tuple[int, int, int]:
    """What ingesting, evaluating and fetching the flags are answered."""
    return (
        client.post("/v1/retrievals", json=[ROW], headers=headers).status_code,
        client.post("/ofrep/v1/evaluate/flags/half", json=ASK, headers=headers).status_code,
        client.get("/flagd/flags.json", headers=headers).status_code,
    )


def test_a_token_opens_what_its_scopes_say_and_admin_opens_all():
    assert decide_access(TOKEN, TokenScope.EVALUATE, given=True, now=NOW) is None
    assert decide_access(replace(TOKEN, scopes=(TokenScope.ADMIN,)), TokenScope.INGEST, given=True, now=NOW) is None
    denial = decide_access(TOKEN, TokenScope.INGEST, given=True, now=NOW)
    assert (denial.known, denial.reason) == (True, "token: 'search' has the scope evaluate, but this needs ingest")


@pytest.mark.parametrize(
    ("token", "given", "words"),
    [
        (None, False, "none was sent"),
        (None, True, "unknown"),
        (replace(TOKEN, expires=NOW), True, "'search' expired on 01 Mar 2026"),
        (replace(TOKEN, revoked=NOW), True, "'search' was revoked on 01 Mar 2026"),
    ],
)
def test_what_opens_nothing_is_told_in_one_line(token, given, words):
    denial = decide_access(token, TokenScope.EVALUATE, given=given, now=NOW)
    assert not denial.known
    assert words in denial.reason
    assert denial.reason.startswith("token: ")
    assert "\n" not in denial.reason


def test_a_token_is_good_until_the_very_moment_of_its_expiry():
    token = replace(TOKEN, expires=NOW)
    assert decide_access(token, TokenScope.EVALUATE, given=True, now=NOW - timedelta(seconds=1)) is None
    assert decide_access(token, TokenScope.EVALUATE, given=True, now=NOW) is not None


def test_scopes_are_read_by_name_and_unknown_ones_are_refused():
    assert read_scopes(["ingest", "evaluate"]) == (TokenScope.EVALUATE, TokenScope.INGEST)
    with pytest.raises(
        InvalidInput, match="^scopes: 'all' is not a scope; there are: evaluate, ingest, read, questions,"
    ):
        read_scopes(["all"])


@pytest.mark.sqlite_only("it reads the file")
def test_of_a_secret_only_its_hash_is_kept(store, tmp_path):
    secret, entry = issue_token(store, "search", [TokenScope.INGEST, TokenScope.EVALUATE], ME, expires_days=30)
    assert len(secret) > 40
    store.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("deck.db*"))
    assert hash_secret(secret).encode() in kept
    assert secret.encode() not in kept
    token = get_token(store, "search")
    assert (token.scopes, token.environment, token.created_by) == (
        (TokenScope.EVALUATE, TokenScope.INGEST),
        "production",
        "ada",
    )
    assert token.expires - token.created == timedelta(days=30)
    assert secret.startswith(token.hint)
    (audited,) = list_audit(store)
    assert (audited.entry_id, audited.action, audited.target) == (entry, "token.create", "search")
    assert audited.after["scopes"] == ["evaluate", "ingest"]
    assert hash_secret(secret) not in str(audited.after)


def test_two_tokens_never_share_a_secret(store):
    assert len({issue_token(store, f"t{number}", [TokenScope.ADMIN], ME)[0] for number in range(5)}) == 5


def test_a_name_in_use_is_a_conflict_and_free_again_once_revoked_or_expired(store):
    first, _ = issue_token(store, "search", [TokenScope.INGEST], ME)
    with pytest.raises(Conflict, match="token 'search' is in use"):
        issue_token(store, "search", [TokenScope.INGEST], ME)
    revoke_token(store, "search", ME)
    second, _ = issue_token(store, "search", [TokenScope.INGEST], ME, expires_days=1)
    assert [token.digest for token in list_tokens(store)] == [hash_secret(second)]
    assert first != second
    with store.begin() as connection:
        connection.execute(text("UPDATE tokens SET expires_ms = 1"))
    issue_token(store, "search", [TokenScope.INGEST], ME)
    assert len(list_tokens(store)) == 1


def test_revoking_twice_or_nothing_is_refused(store):
    issue_token(store, "search", [TokenScope.INGEST], ME)
    revoke_token(store, "search", ME)
    with pytest.raises(Conflict, match="already revoked"):
        revoke_token(store, "search", ME)
    with pytest.raises(NotFound, match="no token 'other'; there are: search"):
        revoke_token(store, "other", ME)
    assert [entry.action for entry in list_audit(store)] == ["token.revoke", "token.create"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"scopes": []}, "scopes"),
        ({"expires_days": 0}, "expires"),
        ({"expires_days": 4_000}, "expires"),
    ],
)
def test_a_token_that_cannot_be_is_refused_by_field(store, values, field):
    given = {"name": "search", "scopes": [TokenScope.INGEST], "expires_days": None} | values
    with pytest.raises(InvalidInput) as refused:
        issue_token(store, given["name"], given["scopes"], ME, expires_days=given["expires_days"])
    assert refused.value.field == field
    assert list_tokens(store) == ()


def test_without_any_token_everybody_is_let_in(client):
    assert statuses(client, {}) == (201, 200, 200)


def test_the_first_token_closes_the_door_and_each_scope_opens_its_part(client, store):
    ingest, _ = issue_token(store, "ingest", [TokenScope.INGEST], ME)
    evaluate, _ = issue_token(store, "evaluate", [TokenScope.EVALUATE], ME)
    admin, _ = issue_token(store, "admin", [TokenScope.ADMIN], ME)
    assert statuses(client, {}) == (401, 401, 401)
    assert statuses(client, bearer(ingest)) == (201, 403, 403)
    assert statuses(client, bearer(evaluate)) == (403, 200, 200)
    assert statuses(client, bearer(admin)) == (201, 200, 200)
    assert statuses(client, {"X-API-Key": admin}) == (201, 200, 200)
    assert statuses(client, bearer(admin) | {"X-API-Key": "no"}) == (401, 401, 401)
    assert client.get("/healthz").status_code == 200


def test_a_revoked_token_opens_nothing_and_the_door_stays_closed(client, store):
    secret, _ = issue_token(store, "admin", [TokenScope.ADMIN], ME)
    assert statuses(client, bearer(secret)) == (201, 200, 200)
    revoke_token(store, "admin", ME)
    assert statuses(client, bearer(secret)) == (401, 401, 401)
    assert statuses(client, {}) == (401, 401, 401)


def test_an_expired_token_opens_nothing_and_says_since_when(client, store):
    long_ago = replace(ME, at=datetime.now(UTC) - timedelta(days=40))
    secret, _ = issue_token(store, "old", [TokenScope.ADMIN], long_ago, expires_days=1)
    assert statuses(client, bearer(secret)) == (401, 401, 401)
    answer = client.get("/flagd/flags.json", headers=bearer(secret))
    day = f"{datetime.now(UTC) - timedelta(days=39):%d %b %Y}"
    assert answer.json()["error"].startswith(f"token: 'old' expired on {day}")


def test_a_refusal_is_one_line_and_asks_for_a_token(client, store):
    answer = client.get("/flagd/flags.json", headers=bearer("unknown"))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="quarterdeck"')
    assert answer.json() == {"error": "token: it is unknown; create one with: quarterdeck tokens create"}
    ofrep = client.post("/ofrep/v1/evaluate/flags", json=ASK, headers={"Authorization": b"Bearer \xff"})
    assert (ofrep.status_code, list(ofrep.json())) == (401, ["errorDetails"])
    otlp = client.post("/v1/traces", content=b"{}", headers=bearer("x") | {"Content-Type": "application/json"})
    assert (otlp.status_code, "message" in otlp.json()) == (401, True)


def test_another_scheme_is_left_to_others(client):
    assert statuses(client, {"Authorization": "Basic YTpi"}) == (201, 200, 200)


def test_a_setting_demands_tokens_before_there_are_any(client, store, monkeypatch):
    monkeypatch.setenv("QUARTERDECK_REQUIRE_TOKENS", "on")
    backends.close()
    assert statuses(client, {}) == (401, 401, 401)
    secret, _ = issue_token(store, "admin", [TokenScope.ADMIN], ME)
    assert statuses(client, bearer(secret)) == (201, 200, 200)


def test_known_tokens_stay_good_while_the_store_is_gone(client, store):
    secret, _ = issue_token(store, "evaluate", [TokenScope.EVALUATE], ME)
    assert statuses(client, bearer(secret))[1:] == (200, 200)
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE tokens RENAME TO away"))
    assert statuses(client, bearer(secret))[1:] == (200, 200)
    assert statuses(client, {})[1:] == (401, 401)


def test_nobody_is_let_in_while_it_is_unknown_whether_there_are_tokens(client, store):
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE tokens RENAME TO away"))
    assert client.get("/flagd/flags.json").status_code == 503


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("deck.example", False)],
)
def test_only_a_loopback_address_is_open_by_itself(host, loopback):
    assert is_loopback(host) is loopback
