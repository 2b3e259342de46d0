"""A reranking server: relevance is the share of the question's words in a passage; it can be busy or wrong."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.http_stand_in import QuietHandler, serving


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
    with serving(_Handler, reranker=server) as address:
        server.url = f"{address}/rerank"
        yield server


class _Handler(QuietHandler):
    reranker: RerankServer

    def post(self) -> None:
        body = self.read_json()
        with self.reranker.lock:
            self.reranker.bodies.append(body)
            self.reranker.keys.append(self.headers.get("Authorization"))
            status = self.reranker.statuses.pop(0) if self.reranker.statuses else 200
        self.send(status, self.reranker.answer if self.reranker.answer is not None else _rank(body))


def _rank(body: Any) -> bytes:
    words = set(body["query"].casefold().split())
    rows = [
        {"index": at, "relevance_score": len(words & set(text.casefold().split())) / len(words)}
        for at, text in enumerate(body["documents"])
    ]
    return json.dumps({"results": sorted(rows, key=lambda row: -row["relevance_score"])}).encode()
