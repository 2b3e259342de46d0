"""Event streams of OFREP: what they say and when, whom they let in, and when they end."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx2
import jsonschema
import pytest
import yaml

from app.http import backends, events, limits
from app.http.limits import Limits
from benchmarks.data import locate
from core.access.credentials import issue_token, revoke_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.snapshot import read_snapshot
from tests.api_server import Served, serving
from tests.browser.conftest import serving as serving_process

ME = Act("ada", "because")
OPENAPI = locate("conformance", "ofrep", "openapi.yaml")


@pytest.fixture
def served(url, store, monkeypatch, tmp_path) -> Iterator[Served]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    create_flag(store, "half", boolean_flag(on=True, rollout_pct=50), ME)
    with serving(store) as running:
        yield running


class Listener:
    """A client's open stream, read by line."""

    def __init__(self, served: Served, path: str = events.EVENTS, headers: dict[str, str] | None = None) -> None:
        host, _, port = served.address.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{k}: {v}" for k, v in (headers or {}).items())]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers = dict(self._read_headers())

    def _read_headers(self) -> Iterator[tuple[str, str]]:
        while line := self._file.readline().decode().strip():
            name, _, value = line.partition(": ")
            yield name.lower(), value

    def hear(self, within_s: float = 10.0) -> dict[str, str]:
        """The next event's fields; {} if the stream ends, or nothing comes in time."""
        self._socket.settimeout(within_s)
        found: dict[str, str] = {}
        try:
            while raw := self._file.readline():
                name, colon, value = raw.decode().strip().partition(": ")
                if colon and name in ("id", "event", "data"):
                    found[name] = value
                if "data" in found:
                    return found
        except TimeoutError:
            return {}
        return {}

    def is_over(self, within_s: float = 10.0) -> bool:
        """Whether the other side ends the stream in time."""
        self._socket.settimeout(within_s)
        try:
            while self._file.readline():
                pass
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@contextmanager
def listening(served: Served, path: str = events.EVENTS, headers: dict[str, str] | None = None) -> Iterator[Listener]:
    listener = Listener(served, path, headers)
    try:
        yield listener
    finally:
        listener.close()


def flip(served: Served, environment: str = "production") -> None:
    flag = get_flag(served.store, environment, "half")
    switch_flag(served.store, flag, replace(ME, environment=environment), on=not flag.view.is_on)


def path_of(answer: httpx2.Response) -> str:
    [stream] = answer.json()["eventStreams"]
    assert (stream["type"], stream["inactivityDelaySec"]) == ("sse", 120)
    return str(stream["endpoint"]["requestUri"])


def test_a_bulk_answer_names_a_stream_that_tells_of_a_flip(served):
    first = served.ask()
    path = path_of(first)
    assert path == path_of(served.ask(context={"targetingKey": "u2"}))
    with listening(served, path) as listener:
        assert (listener.status, listener.headers["content-type"]) == (200, "text/event-stream")
        flip(served)
        event = listener.hear()
    data = json.loads(event["data"])
    assert (event["event"], data["type"], data["etag"]) == ("message", "refetchEvaluation", f'"{event["id"]}"')
    assert abs(data["lastModified"] - time.time()) < 60
    again = served.ask(params={"flagConfigEtag": data["etag"]}, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 200


def test_an_event_is_what_ofreps_document_describes(served):
    if not OPENAPI.is_file():
        pytest.skip(f"OFREP's document is not at {OPENAPI}")
    document = yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))
    schemas = {"components": document["components"]}
    with listening(served) as listener:
        flip(served)
        event = listener.hear()
    jsonschema.validate(event, {**schemas, "$ref": "#/components/schemas/sseEvent"})
    for stream in served.ask().json()["eventStreams"]:
        jsonschema.validate(stream, {**schemas, "$ref": "#/components/schemas/eventStream"})


def test_a_client_that_missed_a_change_hears_of_it_when_it_returns_and_another_hears_nothing(served):
    with listening(served) as undisturbed:
        assert undisturbed.hear(0.5) == {}
    with listening(served) as listener:
        flip(served)
        event = listener.hear()
    with listening(served, headers={"Last-Event-ID": "1-elsewhere"}) as late:
        assert late.hear()["id"] == event["id"]
    with listening(served) as just_now:  # it may have asked before the change
        assert just_now.hear()["id"] == event["id"]


def test_a_change_elsewhere_is_no_event(served):
    create_flag(served.store, "half", boolean_flag(on=True), replace(ME, environment="staging"))
    with listening(served) as listener:
        flip(served, "staging")
        assert listener.hear(1.0) == {}


def test_a_server_that_has_not_read_a_change_reads_it_before_it_answers_who_heard_of_it(
    store, url, monkeypatch, tmp_path
):
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(backends, "_POLL_SQLITE_S", 600.0)
    create_flag(store, "half", boolean_flag(on=True, rollout_pct=50), ME)
    with serving(store) as slow:
        before = slow.ask().json()
        flip(slow)
        snapshot = read_snapshot(store, "production")
        for heard in (f'"{snapshot.version}-elsewhere"', "x", '"1-2-3"'):
            assert slow.ask(params={"flagConfigEtag": heard}).status_code == 200
        if store.name.startswith("sqlite"):  # PostgreSQL has told it
            assert slow.ask().json() == before
        heard = f'"{snapshot.version}-{snapshot.lineage[:12]}"'
        assert slow.ask(params={"flagConfigEtag": heard}).json() != before


@pytest.mark.deep
def test_a_stream_needs_its_ticket_once_there_are_tokens_and_ends_with_the_token(served):
    with listening(served) as open_to_all:
        secret, _ = issue_token(served.store, "web", [TokenScope.EVALUATE], ME)
        mine = {"Authorization": f"Bearer {secret}"}
        assert open_to_all.is_over()
    for path in (events.EVENTS, f"{events.EVENTS}?ticket=made-up", f"{events.EVENTS}?ticket=%C3%BC"):
        with listening(served, path) as refused:
            assert refused.status == 401
    path = path_of(served.ask(headers=mine))
    assert secret not in path
    with listening(served, path) as by_ticket, listening(served, headers=mine) as by_header:
        assert (by_ticket.status, by_header.status) == (200, 200)
        flip(served)
        assert by_ticket.hear()["id"] == by_header.hear()["id"]
        revoke_token(served.store, "web", ME)
        assert by_ticket.is_over()
        assert by_header.is_over()
    with listening(served, path) as late:
        assert late.status == 401


@pytest.mark.deep
def test_a_token_without_the_scope_gets_no_stream(served):
    secret, _ = issue_token(served.store, "writer", [TokenScope.INGEST], ME)
    time.sleep(1.1)
    with listening(served, headers={"Authorization": f"Bearer {secret}"}) as refused:
        assert refused.status == 403


def test_streams_are_limited(served, monkeypatch):
    monkeypatch.setattr(events, "MOST_STREAMS", 1)
    with listening(served) as first, listening(served) as second:
        assert (first.status, second.status) == (200, 503)
        assert second.headers["retry-after"] == "5"


@pytest.mark.parametrize(("others", "status"), [(3, 204), (4, 429)])
def test_streams_leave_an_address_connections_for_requests(others, status):
    async def ask_beside_others() -> list[int]:
        done = asyncio.Event()

        async def answer(scope, receive, send) -> None:
            if scope["path"] == "/slow":
                await done.wait()
            await send({"type": "http.response.start", "status": 204, "headers": []})

        limited = Limits(answer, per_minute=1_000, at_once=5, proxy=None)
        slow = [asyncio.ensure_future(ask_for(limited, "/slow")) for _ in range(others)]
        await asyncio.sleep(0)
        found = [await ask_for(limited, path) for path in (limits.EVENTS, "/ofrep/v1/evaluate/flags")]
        done.set()
        await asyncio.gather(*slow)
        return found

    assert asyncio.run(ask_beside_others()) == [status, 204]


async def ask_for(app, path: str) -> int:
    found: list[int] = []

    async def send(message) -> None:
        found.append(message.get("status", 0))

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "client": ("1.2.3.4", 1)}
    await app(scope, None, send)
    return found[0]


@pytest.mark.deep
@pytest.mark.slow
def test_a_stream_does_not_hold_up_a_server_that_stops(tmp_path):
    with serving_process(tmp_path) as server:
        listener = Listener(Served(server.address, None))  # type: ignore[arg-type]
        assert listener.status == 200
    assert listener.is_over(0.1)
    listener.close()
