"""Readiness, metrics, and a log line and an id for each request."""

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.http import backends
from app.http.api import ROUTES, ApiAhead
from app.http.logs import write_logs
from app.http.observing import Observing
from core.config import PROJECT, load_config
from core.deployments.health import ask
from core.errors import SourceUnavailable
from quarterdeck.store import Store


async def page(_request: Request) -> PlainTextResponse:
    logging.getLogger("quarterdeck").warning("drawn in %s", "a hurry")
    return PlainTextResponse("a page")


async def broken(_request: Request) -> PlainTextResponse:
    raise RuntimeError("a bug")


@pytest.fixture
def client(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    backends.close()
    pages = [Route("/drift", page), Route("/broken", broken)]
    app = Starlette(routes=pages, middleware=[Middleware(Observing, routes=ROUTES), Middleware(ApiAhead)])
    with TestClient(app, raise_server_exceptions=False) as opened:
        yield opened
    backends.close()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log as JSON, from level debug on."""
    stream = io.StringIO()
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    write_logs(load_config({"QUARTERDECK_LOG_FORMAT": "json", "QUARTERDECK_LOG_LEVEL": "debug"}), stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("quarterdeck").setLevel(logging.NOTSET)


def lines_of(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines() if "quarterdeck" in line]


def value_of(text: str, name: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
    return float(line.rpartition(" ")[2])


def test_a_server_is_ready_while_its_store_can_be_read(client: TestClient) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


@pytest.mark.sqlite_only("it takes the file away")
def test_a_server_without_its_store_lives_and_is_not_ready_and_does_not_tell_where_the_store_is(
    client: TestClient, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deck.db").unlink()
    (tmp_path / "deck.db").mkdir()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == "not ready"
    assert str(tmp_path) not in answer.text
    assert client.get("/healthz").status_code == 200
    assert value_of(client.get("/metrics").text, "quarterdeck_store_up") == 0


def test_requests_are_counted_by_route_and_what_strangers_ask_for_makes_no_new_one(client: TestClient) -> None:
    def count(route: str, status: int) -> float:
        name = f'quarterdeck_requests_total{{method="GET",route="{route}",status="{status}"}}'
        found = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    pages, health = count("pages", 404), count("/healthz", 200)
    for path in ("/a", "/b", "/healthz"):
        client.get(path)
    assert count("pages", 404) == pages + 2
    assert count("/healthz", 200) == health + 1
    text = client.get("/metrics").text
    assert 'route="/a"' not in text
    assert 'quarterdeck_request_seconds_bucket{le="0.1",route="/healthz"}' in text
    assert value_of(text, "quarterdeck_store_up") == 1


def test_metrics_take_a_token_once_tokens_are_demanded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_REQUIRE_TOKENS", "on")
    backends.close()
    assert client.get("/metrics").status_code == 401
    assert client.get("/readyz").status_code == 200


def test_every_line_about_a_request_has_its_id_and_the_answer_too(client: TestClient, log: io.StringIO) -> None:
    answer = client.get("/drift?query=secret", headers={"X-Request-ID": "abc-1"})
    assert answer.headers["X-Request-ID"] == "abc-1"
    own, request = lines_of(log)
    assert (own["event"], own["level"], own["request_id"]) == ("drawn in a hurry", "warning", "abc-1")
    wanted = {"event": "request", "method": "GET", "path": "/drift", "status": 200, "request_id": "abc-1"}
    assert wanted.items() <= request.items()
    assert "secret" not in log.getvalue()


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"}', "é"])
def test_an_id_that_is_none_is_replaced(client: TestClient, log: io.StringIO, given: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": given.encode()})
    made = answer.headers["X-Request-ID"]
    assert len(made) == 32
    assert [line["request_id"] for line in lines_of(log)] == [made]


def test_a_request_that_breaks_is_written_down_as_an_error(client: TestClient, log: io.StringIO) -> None:
    assert client.get("/broken").status_code == 500
    (line,) = lines_of(log)
    assert (line["level"], line["status"], line["path"]) == ("error", 500, "/broken")


def test_as_text_a_line_is_for_people(tmp_path: Path) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    write_logs(load_config({}), stream)
    try:
        logging.getLogger("quarterdeck").warning("the store %s failed", "x")
        logging.getLogger("quarterdeck").info("not this")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("quarterdeck").setLevel(logging.NOTSET)
    assert "the store x failed" in stream.getvalue()
    assert "not this" not in stream.getvalue()


@pytest.mark.deep
@pytest.mark.slow
def test_a_server_that_is_told_to_stop_answers_what_it_has_begun(url: str, store: Store, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    body = json.dumps({"query": "half is sent before, half after", "score": 0.5}).encode()
    environment = {
        **os.environ, "QUARTERDECK_DATABASE_URL": url, "QUARTERDECK_HOME": str(tmp_path),
        "QUARTERDECK_LOG_LEVEL": "info", "QUARTERDECK_LOG_FORMAT": "json", "QUARTERDECK_OTLP_GRPC_PORT": "off",
    }  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "quarterdeck", "serve", "--port", str(port)],
            cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
    try:
        for _ in range(1_200):
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                ask(f"http://127.0.0.1:{port}/readyz")
                break
            except SourceUnavailable:
                time.sleep(0.1)
        assert "Streamlit" in ask(f"http://127.0.0.1:{port}/drift?who=typed-by-somebody")
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            head = "POST /v1/retrievals HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:20])
            time.sleep(1)
            server.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            connection.sendall(body[20:])
            assert connection.recv(10_000).startswith(b"HTTP/1.1 201")
        server.wait(60)
    finally:
        server.kill()
        server.wait()
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM retrievals").scalar() == 1
    text = (tmp_path / "log").read_text()
    assert "typed-by-somebody" not in text
    requests = [line for line in map(json.loads, text.splitlines()) if line["event"] == "request"]
    assert {"path": "/v1/retrievals", "status": 201}.items() <= requests[-1].items()
