"""Change requests over HTTP: a token acts for the person who made it, in its environment alone."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http import api, backends
from core.access.credentials import issue_token
from core.access.roles import grant_role
from core.access.scopes import TokenScope
from core.approvals.operations import set_policy
from core.audit.acts import Act
from core.audit.gate import Origin, Policy
from core.audit.permissions import Grant, Role
from core.errors import ApprovalNeeded
from core.flags.operations import change_rollout, create_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.store import Store

ADA, BOB = (Act(name, "because", origin=Origin.PERSON) for name in ("ada", "bob"))


@pytest.fixture
def client(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    backends.close()
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=10), ADA)
    for name in ("ada", "bob"):
        grant_role(store, Grant(name, Role.EDITOR), Act("setup", "a test"))
    set_policy(store, Policy(required=True), ADA, has_sign_in=True)
    with pytest.raises(ApprovalNeeded):
        change_rollout(store, get_flag(store, "production", "use_hyde"), 50, ADA)
    with TestClient(Starlette(routes=api.ROUTES)) as opened:
        yield opened
    backends.close()


def authorize(store: Store, by: Act, scope: TokenScope = TokenScope.ADMIN) -> dict[str, str]:
    secret, _ = issue_token(store, f"{by.actor}-{by.environment}-{by.origin}-{scope}", [scope], by)
    return {"Authorization": f"Bearer {secret}"}


def pct(store: Store) -> float | None:
    return rollout_pct(get_flag(store, "production", "use_hyde").definition)


def test_another_persons_token_approves_and_the_change_is_made(client: TestClient, store: Store) -> None:
    bob = authorize(store, BOB)
    (request,) = client.get("/v1/requests", headers=bob).json()["requests"]
    assert (request["state"], request["requester"]) == ("waiting", "ada")
    assert request["changes"][0]["before"] == get_flag(store, "production", "use_hyde").definition
    path, body = f"/v1/requests/{request['request_id']}", {"reason": "looked at it", "version": request["version"]}
    stale = client.post(f"{path}/approve", json=body | {"version": 9}, headers=bob)
    assert (stale.status_code, pct(store)) == (409, 10)
    assert client.post(f"{path}/approve", json={"version": 1}, headers=bob).status_code == 400  # no reason
    answer = client.post(f"{path}/approve", json=body, headers=bob)
    assert (answer.status_code, answer.json()["state"], pct(store)) == (200, "applied", 50)
    assert client.post(f"{path}/approve", json=body | {"version": 3}, headers=bob).status_code == 409
    assert client.get("/v1/requests", headers=bob).json() == {"requests": []}
    assert len(client.get("/v1/requests?all=1", headers=bob).json()["requests"]) == 1


def test_ones_own_token_an_ownerless_one_and_one_of_another_environment_approve_nothing(
    client: TestClient, store: Store
) -> None:
    body = {"reason": "because", "version": 1}
    said = {
        "is your own": authorize(store, ADA),
        "made without a sign-in": authorize(store, Act("robot", "at the machine")),
        "has no right": authorize(store, BOB, TokenScope.EVALUATE),
        "there is no request 1 in staging": authorize(store, replace(BOB, environment="staging")),
    }
    for problem, headers in said.items():
        answer = client.post("/v1/requests/1/approve", json=body, headers=headers)
        assert answer.status_code in (403, 404), answer.text
        if problem != "has no right":
            assert problem in answer.json()["error"]
    assert client.post("/v1/requests/1/approve", json=body).status_code == 401
    assert client.post("/v1/requests/1/merge", json=body, headers=said["is your own"]).status_code == 404
    assert client.post("/v1/requests/1/withdraw", json=body, headers=said["is your own"]).json()["state"] == "withdrawn"
    assert pct(store) == 10


def test_a_revoked_role_approves_nothing_by_a_token(client: TestClient, store: Store) -> None:
    from core.access.roles import revoke_role

    bob = authorize(store, BOB)
    revoke_role(store, "bob", "*", Act("setup", "left"))
    answer = client.post("/v1/requests/1/approve", json={"reason": "because", "version": 1}, headers=bob)
    assert (answer.status_code, pct(store)) == (403, 10)
