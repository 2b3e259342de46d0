"""What strangers can do with changes of other systems on a running server: nothing, however they sign and repeat."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.schema import outside_changes
from quarterdeck.store import Store
from tests.attacks.conftest import ACT, Target, attacking

pytestmark = pytest.mark.slow

SECRET = "a-secret-of-the-attacked"
HOOK, CHANGES = "/v1/webhooks/github", "/v1/changes"
DEPLOY = {"kind": "deploy", "title": "answers 2.4.1", "id": "run-17"}
RELEASE = {
    "action": "published", "repository": {"full_name": "acme/answers"}, "sender": {"login": "octocat"},
    "release": {"id": 9, "tag_name": "v2", "published_at": "2026-03-02T08:00:00Z", "html_url": "javascript:alert(1)"},
}  # fmt: skip


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    home: Path = tmp_path_factory.mktemp("changed") / "home"
    with attacking(home, QUARTERDECK_GITHUB_SECRET=SECRET) as target:
        staging = replace(ACT, environment="staging")
        with closing(Store(target.url)) as store:
            create_flag(store, "use_hyde", boolean_flag(on=True), staging)
            target.tokens["staging"] = issue_token(store, "staging", [TokenScope.INGEST], staging)[0]
            target.tokens["other"] = issue_token(store, "other", [TokenScope.INGEST], ACT, services=["other"])[0]
        yield target


def look(target: Target, environment: str = "production") -> list[tuple[str, str, str]]:
    """Return the service, id and title of each change of an environment."""
    c = outside_changes.c
    with closing(Store(target.url)) as store, store.read() as connection:
        query = select(c.service, c.external_id, c.title).where(c.environment == environment)
        return sorted(map(tuple, connection.execute(query)))


def sign(body: bytes, secret: str = SECRET) -> str:
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def deliver(
    target: Target, body: bytes, signature: str | None, *, event: str = "release", **more: str
) -> httpx.Response:
    headers = {"Content-Type": "application/json", "X-GitHub-Event": event, **more}
    if signature is not None:
        headers["X-Hub-Signature-256"] = signature
    return httpx.post(f"{target.address}{HOOK}", content=body, headers=headers, timeout=60)


@pytest.mark.deep
def test_a_delivery_without_the_secret_stores_nothing_and_no_token_stands_in_for_it(attacked: Target) -> None:
    body, before = json.dumps(RELEASE).encode(), look(attacked)
    sha1 = f"sha1={hmac.new(SECRET.encode(), body, 'sha1').hexdigest()}"
    for signature in (
        None,
        "",
        "sha256=",
        sign(body, ""),
        sign(body, "guess"),
        sign(body + b" "),
        sha1,
        sign(body)[:-1],
    ):
        assert deliver(attacked, body, signature).status_code == 403
    assert deliver(attacked, body, None, **attacked.authorize("admin")).status_code == 403
    assert look(attacked) == before
    assert SECRET not in attacked.log


@pytest.mark.deep
def test_a_delivery_sent_again_under_other_headers_and_addresses_is_one_change(attacked: Target) -> None:
    body = json.dumps(RELEASE | {"release": RELEASE["release"] | {"id": 77}}).encode()  # type: ignore[operator]
    assert deliver(attacked, body, sign(body)).status_code == 201
    before = look(attacked)
    assert before[-1][:2] == ("", "acme/answers:release-77")
    for number in range(3):
        again = deliver(attacked, body, sign(body), **{"X-GitHub-Delivery": str(number)})
        assert (again.status_code, again.json()["duplicates"]) == (201, 1)
    address = f"{attacked.address}{HOOK}?service=other&environment=staging"
    headers = {"Content-Type": "application/json", "X-GitHub-Event": "release", "X-Hub-Signature-256": sign(body)}
    assert httpx.post(address, content=body, headers=headers).json()["duplicates"] == 1
    assert (look(attacked), look(attacked, "staging")) == (before, [])


@pytest.mark.deep
def test_a_body_signed_for_one_event_is_no_change_as_another(attacked: Target) -> None:
    body, before = json.dumps(RELEASE).encode(), look(attacked)
    for event in ("deployment", "deployment_status", "push", "issues", "", "x" * 5_000):
        assert deliver(attacked, body, sign(body), event=event).status_code in (200, 400)
    assert look(attacked) == before


@pytest.mark.deep
@pytest.mark.parametrize("token", ["staging", "other"])
def test_a_token_changes_nothing_of_another_environment_or_service(attacked: Target, token: str) -> None:
    assert attacked.post(CHANGES, json.dumps(DEPLOY | {"service": "answers"}).encode()).status_code == 201
    before = [row for row in look(attacked) if row[0] != "other"]
    for named in ({"environment": "production", "service": "answers"}, {"service": "answers"}, {}):
        taken = attacked.post(CHANGES, json.dumps(DEPLOY | {"title": "harm"} | named).encode(), scope=token)
        assert taken.status_code in (201, 400)
    assert [row for row in look(attacked) if row[0] != "other"] == before


def nested(depth: int) -> bytes:
    return b'{"title":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00\xff", b"[" * 100_000, nested(10_000), b'{"kind": 1e999}', b'"deploy"', b'[{"kind": "deploy"}, null]'],
    ids=["nothing", "bytes", "brackets", "nested", "infinite", "text", "mixed"],
)  # fmt: skip
def test_garbage_is_refused_in_one_line(attacked: Target, body: bytes) -> None:
    before = look(attacked)
    answers: list[Any] = [attacked.post(CHANGES, body), deliver(attacked, body, sign(body))]
    for answer in answers:
        assert answer.status_code == 400
        assert len(answer.json()["error"].splitlines()) == 1
    assert look(attacked) == before
    assert "Traceback" not in attacked.log


@pytest.mark.deep
def test_what_is_too_large_is_refused(attacked: Target) -> None:
    before = look(attacked)
    many = json.dumps([{"kind": "other", "title": str(at)} for at in range(1_001)]).encode()
    assert attacked.post(CHANGES, many).status_code == 413
    assert attacked.post(CHANGES, b" " * 10_000_001).status_code == 413
    assert deliver(attacked, b" " * 10_000_001, "sha256=0").status_code == 413
    assert look(attacked) == before
