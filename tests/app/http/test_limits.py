"""Limits by address, over ASGI: whose address counts, and what a refusal looks like."""

from ipaddress import ip_network

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from app.http.limits import Limits
from core.access.identity import TrustedProxy

PROXY = TrustedProxy("X-User", "", (ip_network("10.0.0.0/8"),))


def ask(app: ASGIApp, peer: str, **headers: str) -> int:
    return TestClient(app, client=(peer, 1)).get("/", headers=headers).status_code


def limit(per_minute: int) -> ASGIApp:
    return Limits(PlainTextResponse("ok"), per_minute, 5, PROXY)


def test_the_address_behind_the_trusted_proxy_counts_and_nobody_elses_word() -> None:
    behind = limit(1)
    for at, told in enumerate(("203.0.113.1", "203.0.113.2", "9.9.9.9, 203.0.113.3")):
        assert ask(behind, f"10.0.0.{at}", **{"X-Forwarded-For": told}) == 200
        assert ask(behind, "10.9.9.9", **{"X-Forwarded-For": f"1.1.1.{at}, {told}"}) == 429
    direct = limit(1)
    assert ask(direct, "203.0.113.1", **{"X-Forwarded-For": "203.0.113.7"}) == 200
    assert ask(direct, "203.0.113.1", **{"X-Forwarded-For": "203.0.113.8"}) == 429


def test_a_refusal_says_when_to_come_back() -> None:
    app = limit(2)
    client = TestClient(app, client=("203.0.113.1", 1))
    answers = [client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 30


@pytest.mark.parametrize("told", ["", ",", "x" * 10_000])
def test_a_proxy_that_tells_nonsense_breaks_nothing(told: str) -> None:
    assert ask(limit(5), "10.0.0.1", **{"X-Forwarded-For": told}) == 200
