"""A server in the process with rows of two environments and services, a flag in each, and tokens of every kind."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from app.http import backends
from app.http.api import ApiAhead
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.audit.trail import AuditFilter, count_audit
from core.flags.operations import create_flag
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag, canary_flag
from quarterdeck.store import Store

ACT = Act("ada", "setting the scene")
STAGING = Act("ada", "setting the scene", "staging")
PLACES = (("production", "answers"), ("production", "billing"), ("staging", "answers"))
QUESTIONS = 7
S = TokenScope


@dataclass(frozen=True)
class Deck:
    """What a test asks: the client, the store, and the secret of each token."""

    client: TestClient
    store: Store
    secrets: dict[str, str]

    def ask(self, method: str, path: str, *, token: str = "", **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if token:
            headers["Authorization"] = f"Bearer {self.secrets[token]}"
        found: httpx.Response = self.client.request(method, path, headers=headers, **options)
        return found

    def get(self, path: str, *, token: str = "reader", **options: Any) -> httpx.Response:
        return self.ask("GET", path, token=token, **options)

    def patch(self, path: str, body: Any, *, token: str = "editor", **headers: str) -> httpx.Response:
        return self.ask("PATCH", path, token=token, json=body, headers=headers)

    def post(self, path: str, body: Any, *, token: str = "editor", **headers: str) -> httpx.Response:
        return self.ask("POST", path, token=token, json=body, headers=headers)

    def put(self, path: str, body: Any, *, token: str = "editor", **headers: str) -> httpx.Response:
        return self.ask("PUT", path, token=token, json=body, headers=headers)

    def count_entries(self, **wanted: str) -> int:
        return count_audit(self.store, AuditFilter(**wanted))


@pytest.fixture
def bare(url: str, store: Store, tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The server without any row, flag or token."""
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("QUARTERDECK_HOME", str(tmp_path / "home"))
    backends.close()
    with TestClient(Starlette(middleware=[Middleware(ApiAhead)]), raise_server_exceptions=False) as opened:
        yield opened
    backends.close()


@pytest.fixture
def deck(bare: TestClient, url: str, store: Store) -> Deck:
    """The server with rows, flags and tokens."""
    fill(url)
    create_flag(store, "use_hyde", boolean_flag(on=True), ACT)
    create_flag(store, "new_search", canary_flag(), ACT)
    create_flag(store, "use_hyde", boolean_flag(on=True), STAGING)
    return Deck(bare, store, make_tokens(store))


def fill(url: str) -> None:
    """Log some questions in every place, the last one with an instruction in it."""
    for environment, service in PLACES:
        with closing(Quarterdeck(url, environment=environment, service=service)) as client:
            for at in range(QUESTIONS):
                client.log_retrieval(
                    f"{service} question {at} of {environment}", 0.1 * at, retrieval_id=f"{environment}-{service}-{at}",
                    documents=[("guide.md", 0.1 * at)], session_id=f"s-{at}",
                )  # fmt: skip


def make_tokens(store: Store) -> dict[str, str]:
    """Return the secret of each token by its name."""
    wanted: dict[str, tuple[list[TokenScope], Act, tuple[str, ...]]] = {
        "reader": ([S.READ, S.QUESTIONS], ACT, ()),
        "counter": ([S.READ], ACT, ()),
        "editor": ([S.READ, S.QUESTIONS, S.CHANGE], ACT, ()),
        "other-editor": ([S.READ, S.CHANGE], ACT, ()),
        "operator": ([S.READ, S.QUESTIONS, S.CHANGE, S.SHARED], ACT, ()),
        "admin": ([S.ADMIN], ACT, ()),
        "ingest": ([S.INGEST], ACT, ()),
        "staging": ([S.ADMIN], STAGING, ()),
        "answers": ([S.READ, S.QUESTIONS, S.CHANGE], ACT, ("answers",)),
    }
    return {name: issue_token(store, name, scopes, by, services=of)[0] for name, (scopes, by, of) in wanted.items()}
