"""Which other sites' pages may ask for flags, and what they may not."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from app.http import backends
from app.http.api import ApiAhead
from app.http.cors import CrossOrigin
from app.http.guard import Guard
from app.http.limits import Limits
from core.access.identity import SignIn
from core.audit.acts import Act
from core.config import load_config
from core.errors import InvalidInput
from core.flags.operations import create_flag
from quarterdeck.definitions import boolean_flag

SHOP, STRANGER = "https://shop.example", "https://stranger.example"
BULK = "/ofrep/v1/evaluate/flags"
ASKED = {"context": {"targetingKey": "u1"}}


@pytest.fixture
def client(url, store, monkeypatch, tmp_path) -> Iterator[TestClient]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    backends.close()
    create_flag(store, "half", boolean_flag(on=True), Act("ada", "because"))
    layers = [
        Middleware(CrossOrigin, origins=(SHOP,)),
        Middleware(Limits, per_minute=8, at_once=10, proxy=None),
        Middleware(Guard, access=SignIn(), host="0.0.0.0", origins=(SHOP,)),
        Middleware(ApiAhead),
    ]
    with TestClient(Starlette(middleware=layers)) as opened:
        yield opened
    backends.close()


def preflight(client: TestClient, path: str, origin: str):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return client.options(path, headers={"Origin": origin, **asked})


@pytest.mark.sqlite_only("it asks one flag")
def test_a_page_of_a_listed_origin_may_ask_and_reads_even_why_it_may_not(client):
    allowed = preflight(client, BULK, SHOP)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SHOP)
    assert "Authorization" in allowed.headers["access-control-allow-headers"]
    answer = client.post(BULK, json=ASKED, headers={"Origin": SHOP})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SHOP)
    assert "ETag" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers
    answers = [client.post(f"{BULK}/half", json=ASKED, headers={"Origin": SHOP}) for _ in range(9)]
    assert answers[-1].status_code == 429
    assert answers[-1].headers["access-control-allow-origin"] == SHOP


@pytest.mark.sqlite_only("it asks one flag")
def test_a_page_of_another_origin_may_not_and_a_listed_one_may_do_nothing_else(client):
    assert preflight(client, BULK, STRANGER).status_code == 400
    refused = client.post(BULK, json=ASKED, headers={"Origin": STRANGER})
    assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)
    for path in ("/v1/retrievals", "/v1/changes"):
        assert client.post(path, json=[], headers={"Origin": SHOP}).status_code == 403
        assert preflight(client, path, SHOP).status_code == 405


def test_origins_are_read_from_the_setting():
    def read(text: str) -> tuple[str, ...]:
        return load_config({"QUARTERDECK_PAGE_ORIGINS": text}).page_origins

    assert read("") == ()
    assert read("https://Shop.example/, http://localhost:3000,") == (SHOP, "http://localhost:3000")
    for wrong in ("*", "shop.example", "https://shop.example/cart", "https://*.example", "https://a@shop.example"):
        with pytest.raises(InvalidInput, match="QUARTERDECK_PAGE_ORIGINS"):
            read(wrong)
