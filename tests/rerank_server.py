"""A reranking server: relevance is the share of the question's words in a passage; it can be busy or wrong."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class RerankServer:
    """What it was asked, with which keys; `statuses` are those of its first answers."""

    statuses: list[int]
    answer: bytes | None = None
    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serve_reranker(*, statuses: Sequence[int] = (), answer: bytes | None = None) -> Iterator[RerankServer]:
    """Serve on a free port of this machine."""
    server = RerankServer(list(statuses), answer)
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"server_": server}))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}/rerank"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_: RerankServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server_.lock:
            self.server_.bodies.append(body)
            self.server_.keys.append(self.headers.get("Authorization"))
            status = self.server_.statuses.pop(0) if self.server_.statuses else 200
        content = self.server_.answer if self.server_.answer is not None else _rank(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: Any) -> None:
        """Keep quiet."""


def _rank(body: Any) -> bytes:
    words = set(body["query"].casefold().split())
    rows = [
        {"index": at, "relevance_score": len(words & set(text.casefold().split())) / len(words)}
        for at, text in enumerate(body["documents"])
    ]
    return json.dumps({"results": sorted(rows, key=lambda row: -row["relevance_score"])}).encode()
