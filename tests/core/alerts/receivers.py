"""Receivers on this machine: HTTP servers that answer as they are told, and logs that fall."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from core.alerts.channels import Channel, ChannelKind
from core.alerts.operations import save_alert_rule, save_channel
from core.alerts.rules import AlertRule
from core.audit.acts import Act
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store

SECRET = "a secret of some length"
ME = Act("ada", "because")
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
ANSWERS = Scope("production", "answers")


class Listener:
    """A real HTTP server on loopback that answers with the given codes, one a request, then with 204."""

    def __init__(self, *codes: int) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.codes = list(codes)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):  # noqa: N805
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                self.requests.append((dict(handler.headers), body))
                handler.send_response(self.codes.pop(0) if self.codes else 204)
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            def log_message(handler, *_):  # noqa: N805
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def serve_bytes(answer: bytes, *, holds: bool = False) -> Iterator[int]:
    """Answer every connection with the same bytes; one that `holds` is then kept open. Gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def talk(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                connection.recv(65_536)
                connection.sendall(answer)
                if holds:
                    ended.wait()

        def serve() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()


def add_channel(store: Store, name: str, url: str = "https://example.org/", *, by: Act = ME) -> None:
    """Save a signed webhook."""
    save_channel(store, Channel(name, ChannelKind.WEBHOOK, url, SECRET), by)


def add_rule(store: Store, name: str, url: str = "https://example.org/", *, by: Act = ME, **given) -> None:
    """Save a rule with a webhook of its own name."""
    add_channel(store, name, url, by=by)
    save_alert_rule(store, AlertRule(name, **{"channels": (name,), **given}), by)


def drop(store: Store, scope: Scope = ANSWERS, *, level: float = 0.4, days: int = 40, bad: int = 5) -> None:
    """Write days of a service whose score falls to this level on the last ones."""
    rng = np.random.default_rng(3)
    levels = [0.7] * (days - bad) + [level] * bad
    append_retrievals(
        store,
        [
            Retrieval(
                NOW - timedelta(days=len(levels) - day, seconds=n), f"q{n}", float(rng.normal(mean, 0.05)), scope=scope
            )
            for day, mean in enumerate(levels)
            for n in range(100)
        ],
    )


def fail(store: Store, *, days: dict[int, int], scope: Scope = ANSWERS, asked: int = 20) -> None:
    """Write 30 days of questions; so many days ago, so many of them failed."""
    rows = [
        Retrieval(
            NOW - timedelta(days=ago, seconds=n), f"q{n}", None if n < days.get(ago, 0) else 0.7, scope=scope,
            error="timeout" if n < days.get(ago, 0) else None,
        )
        for ago in range(1, 31)
        for n in range(asked)
    ]  # fmt: skip
    append_retrievals(store, rows)
