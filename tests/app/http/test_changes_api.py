"""Changes of other systems over HTTP: what is stored, for whom, and what is refused. On SQLite and PostgreSQL."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http import api, backends
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.causes.outside import OutsideChange
from core.causes.outside_changes import list_outside
from core.intake.counts import list_refusals
from quarterdeck.scope import EVERYTHING, Scope
from quarterdeck.store import Store

SECRET = "a-secret-of-the-tests"
DEPLOY = {"kind": "deploy", "title": "answers 2.4.1", "ts": "2026-03-02T09:00:00Z", "id": "run-17"}
PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def client(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("QUARTERDECK_GITHUB_SECRET", SECRET)
    backends.close()
    with TestClient(Starlette(routes=api.ROUTES)) as opened:
        yield opened
    backends.close()


def authorize(store: Store, environment: str, *services: str, scope: TokenScope = TokenScope.INGEST) -> dict[str, str]:
    act = Act("ada", "a test", environment)
    secret, _ = issue_token(store, f"{environment}-{'-'.join(services)}-{scope}", [scope], act, services=services)
    return {"Authorization": f"Bearer {secret}"}


def read(store: Store, environment: str = "production", service: str = "answers") -> tuple[OutsideChange, ...]:
    return list_outside(store, Scope(environment, service), PAST)


def deliver(client: TestClient, event: str, payload: Any, *, secret: str = SECRET, **headers: str) -> Any:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = {"content-type": "application/json", "x-github-event": event, "x-hub-signature-256": f"sha256={signature}"}
    return client.post("/v1/webhooks/github", content=body, headers=given | headers)


def test_a_change_is_stored_once_and_shown_to_its_service(client: TestClient, store: Store) -> None:
    rows = [DEPLOY, DEPLOY | {"id": "run-18", "service": "Answers", "url": "https://ci.example.org/18"}]
    answer = client.post("/v1/changes", json={"changes": rows})
    assert (answer.status_code, answer.json()) == (201, {"stored": 2, "ids": ["run-17", "run-18"]})
    again = client.post("/v1/changes", json=rows)
    assert (again.status_code, again.json()) == (201, {"stored": 0, "ids": [], "duplicates": 2})
    assert {change.external_id for change in read(store)} == {"run-17", "run-18"}
    assert {change.external_id for change in read(store, service="search")} == {"run-17"}
    assert read(store, "staging") == ()


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"title": "x"}, "kind"),
        (DEPLOY | {"kind": "earthquake"}, "kind"),
        (DEPLOY | {"kind": 7}, "kind"),
        ({"kind": "deploy"}, "title"),
        (DEPLOY | {"title": "x" * 301}, "title"),
        (DEPLOY | {"title": "a\nb"}, "title"),
        (DEPLOY | {"title": ["x"]}, "title"),
        (DEPLOY | {"title": "\ud800"}, "title"),
        (DEPLOY | {"url": "javascript:alert(1)"}, "url"),
        (DEPLOY | {"ts": "yesterday"}, "ts"),
        (DEPLOY | {"ts": (datetime.now(UTC) + timedelta(days=2)).isoformat()}, "ts"),
        (DEPLOY | {"who": "me"}, "who"),
        (DEPLOY | {"environment": "x" * 65}, "environment"),
        (17, "row"),
    ],
)  # fmt: skip
def test_a_wrong_change_is_named_by_its_field_and_the_others_are_stored(
    client: TestClient, store: Store, row: Any, field: str
) -> None:
    answer = client.post("/v1/changes", content=json.dumps([row, DEPLOY]), headers={"content-type": "application/json"})
    assert answer.status_code == 207
    told = answer.json()
    assert (told["stored"], told["refused"], told["errors"][0]["row"], told["errors"][0]["field"]) == (1, 1, 0, field)
    assert [refusal.source for refusal in list_refusals(store, EVERYTHING, since_ms=0)] == ["changes"]
    assert client.post("/v1/changes", content=json.dumps(row)).status_code == 400


def test_a_token_writes_for_its_environment_and_services_alone(client: TestClient, store: Store) -> None:
    staging, answers = authorize(store, "staging"), authorize(store, "production", "answers")
    evaluate = authorize(store, "production", scope=TokenScope.EVALUATE)
    assert client.post("/v1/changes", json=DEPLOY).status_code == 401
    assert client.post("/v1/changes", json=DEPLOY | {"environment": "production"}, headers=staging).status_code == 400
    assert client.post("/v1/changes", json=DEPLOY, headers=staging).json()["stored"] == 1
    assert client.post("/v1/changes", json=DEPLOY | {"service": "search"}, headers=answers).status_code == 400
    assert client.post("/v1/changes", json=DEPLOY, headers=answers).json()["stored"] == 1
    assert client.post("/v1/changes", json=DEPLOY, headers=evaluate).status_code == 403
    assert [change.service for change in read(store, "staging")] == [""]
    assert [change.service for change in read(store)] == ["answers"]
    assert read(store, service="search") == ()


def test_a_token_for_the_service_default_writes_for_no_other(client: TestClient, store: Store) -> None:
    client.post("/v1/changes", json=DEPLOY, headers=authorize(store, "production", "default"))
    assert (len(read(store, service="default")), read(store, service="answers")) == (1, ())


def test_an_idempotency_key_stores_once_and_refuses_another_body(client: TestClient, store: Store) -> None:
    key, row = {"Idempotency-Key": "k-1"}, {"kind": "feed outage", "title": "prices are late"}
    first = client.post("/v1/changes", json=row, headers=key).json()
    assert client.post("/v1/changes", json=row, headers=key).json() == first
    assert client.post("/v1/changes", json=DEPLOY, headers=key).status_code == 409
    assert [change.title for change in read(store)] == ["prices are late"]


def test_what_is_too_much_at_once_is_refused(client: TestClient, store: Store) -> None:
    rows = [{"kind": "other", "title": str(at)} for at in range(1_001)]
    assert client.post("/v1/changes", json=rows).status_code == 413
    assert client.post("/v1/changes", content=b"x" * 10_000_001).status_code == 413
    assert read(store) == ()


REPOSITORY = {"full_name": "acme/answers", "default_branch": "main", "pushed_at": 1_772_442_000}
DEPLOYMENT = {
    "id": 41, "ref": "v2.4.1", "environment": "Production", "created_at": "2026-03-02T09:00:00Z",
    "url": "https://api.github.com/repos/acme/answers/deployments/41",
}  # fmt: skip
STATUS = {"id": 7, "state": "success", "created_at": "2026-03-02T09:05:00Z", "target_url": "https://ci.example.org/7"}
ALL = {"repository": REPOSITORY, "sender": {"login": "octocat"}}
PUSH = ALL | {"ref": "refs/heads/main", "after": "c0ffee", "head_commit": {"message": "Fix it\n\nbody"}, "compare": ""}
RELEASE = ALL | {
    "action": "published",
    "release": {"id": 9, "tag_name": "v2.4.1", "name": None, "published_at": "2026-03-02T08:00:00Z", "html_url": ""},
}


@pytest.mark.parametrize(
    ("event", "payload", "title", "reach"),
    [
        ("deployment", ALL | {"deployment": DEPLOYMENT}, "deployment of v2.4.1 to Production requested", 0.0),
        (
            "deployment_status",
            ALL | {"deployment": DEPLOYMENT, "deployment_status": STATUS},
            "deployment of v2.4.1 to Production done",
            1.0,
        ),
        ("release", RELEASE, "release v2.4.1", 1.0),
        ("push", PUSH, "push to main: Fix it", 1.0),
    ],
)
def test_an_event_of_github_becomes_one_change_however_often_it_is_delivered(
    client: TestClient, store: Store, event: str, payload: Any, title: str, reach: float
) -> None:
    assert deliver(client, event, payload).status_code == 201
    again = deliver(client, event, payload, **{"x-github-delivery": "another"})
    assert again.json() == {"stored": 0, "ids": [], "duplicates": 1}
    (change,) = read(store)
    assert (change.title, change.reach, change.actor) == (f"acme/answers: {title}", reach, "octocat")
    assert change.ts.year == 2026


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("push", PUSH | {"ref": "refs/heads/topic"}),
        ("push", PUSH | {"deleted": True}),
        ("release", RELEASE | {"action": "deleted"}),
        ("deployment_status", ALL | {"deployment": DEPLOYMENT, "deployment_status": STATUS | {"state": "pending"}}),
        ("deployment", ALL | {"deployment": DEPLOYMENT | {"environment": "preview-17"}}),
        ("issues", ALL),
    ],
)
def test_what_is_no_change_here_is_answered_and_ignored(
    client: TestClient, store: Store, event: str, payload: Any
) -> None:
    answer = deliver(client, event, payload)
    assert (answer.status_code, answer.json()["stored"]) == (200, 0)
    assert (read(store), read(store, "preview-17")) == ((), ())
    assert deliver(client, "ping", {"zen": "Keep it logically awesome."}).json() == {"pong": True}


@pytest.mark.parametrize("signature", ["", "sha256=", "sha256=" + "0" * 64, "sha1=abc", "é"])
def test_a_wrong_signature_stores_nothing(client: TestClient, store: Store, signature: str) -> None:
    given = {"x-hub-signature-256": signature.encode("latin-1")}
    assert deliver(client, "push", PUSH, **given).status_code == 403  # type: ignore[arg-type]
    assert deliver(client, "push", PUSH, secret="another-secret-of-theirs").status_code == 403
    assert read(store) == ()


@pytest.mark.deep
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"ref": 7}',
        b'{"deployment": []}',
        b'{"release": {"id": "x"}, "action": "published"}',
    ],
)
@pytest.mark.parametrize("event", ["push", "release", "deployment", "deployment_status", "ping"])
def test_signed_garbage_is_refused_in_one_line_or_ignored(client: TestClient, event: str, payload: bytes) -> None:
    answer = deliver(client, event, payload)
    assert answer.status_code in (200, 400)
    assert answer.status_code == 200 or len(answer.json()["error"].splitlines()) == 1


def test_without_a_secret_there_is_no_webhook(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUARTERDECK_GITHUB_SECRET")
    backends.close()
    assert deliver(client, "push", PUSH, secret="").status_code == 404
    assert read(store) == ()
