"""What somebody can do by asking too often, too slowly, or from too many connections at once."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from app.http import api, backends, bodies
from core.safety.meters import MOST_KNOWN, Meter
from quarterdeck.store import Store
from tests.attacks.conftest import Target, attacking

pytestmark = pytest.mark.slow
ROW = json.dumps({"query": "what is an mbuf", "score": 0.5}).encode()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with low limits."""
    settings = {
        "QUARTERDECK_TOKEN_REQUESTS_PER_MINUTE": "30", "QUARTERDECK_ADDRESS_REQUESTS_PER_MINUTE": "400",
        "QUARTERDECK_ADDRESS_CONNECTIONS": "20",
    }  # fmt: skip
    with attacking(tmp_path_factory.mktemp("strict") / "home", **settings) as running:
        yield running


def connect(target: Target, sent: bytes) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", int(target.address.rpartition(":")[2])), timeout=60)
    opened.sendall(sent)
    return opened


def is_cut(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.mark.deep
def test_a_token_that_asks_too_often_waits_and_others_do_not(strict: Target) -> None:
    answers = [strict.post("/v1/retrievals", ROW) for _ in range(60)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[:30] == [201] * 30
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["error"].startswith("rate: 'ingest' sent too many requests")
    assert strict.post("/v1/retrievals", ROW, scope="admin").status_code == 201


@pytest.mark.deep
def test_a_request_without_an_end_of_its_headers_is_cut(strict: Target) -> None:
    with ExitStack() as stack:
        halves = [
            stack.enter_context(connect(strict, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")) for _ in range(50)
        ]
        assert httpx.get(f"{strict.address}/healthz").status_code == 200
        assert all(map(is_cut, halves))


@pytest.mark.deep
def test_headers_without_an_end_are_cut(strict: Target) -> None:
    with connect(strict, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n") as connection:
        try:
            for at in range(200):
                connection.sendall(b"X-%d: %s\r\n" % (at, b"y" * 8_000))
                time.sleep(0.002)
        except OSError:
            return
        assert is_cut(connection)


@pytest.mark.deep
def test_an_address_has_so_many_requests_at_once(strict: Target) -> None:
    head = f"POST /v1/retrievals HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {strict.tokens['admin']}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(strict, head.encode()))
        for _ in range(100):
            answer = httpx.get(f"{strict.address}/healthz")
            if answer.status_code == 429:
                break
            time.sleep(0.05)
        assert (answer.status_code, answer.json()["error"]) == (429, "rate: too many requests from this address")
    for _ in range(100):
        if httpx.get(f"{strict.address}/healthz").status_code == 200:
            return
        time.sleep(0.05)
    pytest.fail("the connections are closed, and the address is still refused")


def test_an_address_that_asks_too_often_waits(strict: Target) -> None:
    """It is the last test of this server: the address is ours."""
    with httpx.Client() as client:
        statuses = [client.get(f"{strict.address}/healthz").status_code for _ in range(600)]
    assert 429 in statuses
    assert statuses[-1] == 429


@pytest.mark.deep
@pytest.mark.parametrize("sent", [b"", b'{"query": "what is'], ids=["nothing", "half a body"])
def test_a_body_that_does_not_come_is_cut(sent: bytes, store: Store, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setattr(bodies, "BODY_WITHIN_S", 0.5)
    backends.close()
    app = Starlette(middleware=[Middleware(api.ApiAhead)])
    with running(app) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        head = b"POST /v1/retrievals HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        connection.sendall(head + b"Content-Length: 1000\r\n\r\n" + sent)
        answer = b""
        while part := connection.recv(65_536):  # until the server closes it
            answer += part
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body: took longer than" in answer
        assert httpx.post(f"http://127.0.0.1:{port}/v1/retrievals", content=ROW).status_code in (201, 415)
    backends.close()


def test_a_body_that_drips_is_cut_however_often_a_byte_comes(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setattr(bodies, "BODY_WITHIN_S", 1.0)
    backends.close()
    app = Starlette(middleware=[Middleware(api.ApiAhead)])
    with running(app) as port, socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"POST /v1/retrievals HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n")
        connection.settimeout(0.05)
        answer = b""
        for _ in range(2_000):
            try:
                connection.sendall(b" ")
                answer += connection.recv(65_536)
            except TimeoutError:
                continue
            except OSError:
                break
            if answer:
                break
        assert answer.startswith(b"HTTP/1.1 408 ")
    backends.close()


@contextmanager
def running(app: Starlette) -> Iterator[int]:
    """Serve in a thread; give the port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def test_a_used_token_is_a_security_event_without_its_secret(strict: Target) -> None:
    strict.post("/v1/retrievals", b'{"query": "q", "score": 0.5}')
    assert "the token 'ingest' of production is in use" in strict.log
    assert strict.tokens["ingest"] not in strict.log


@pytest.mark.deep
def test_what_a_meter_remembers_is_bounded() -> None:
    meter = Meter(1)
    assert meter.take("first", now_s=0) == 0
    assert meter.take("first", now_s=0) == 60
    for name in range(MOST_KNOWN):
        meter.take(name, now_s=0)
    assert meter.take("first", now_s=0) == 0
