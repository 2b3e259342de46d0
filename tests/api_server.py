"""The HTTP API behind a real uvicorn, in a thread of the test's process."""

import socket
import threading
import time
from dataclasses import dataclass

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from app.http import api, backends
from quarterdeck.store import Store

FLAGS = "/ofrep/v1/evaluate/flags"


@dataclass(frozen=True)
class Served:
    """A running server of the API over a store."""

    address: str
    store: Store

    def ask(self, key: str = "", context: object = None, **options) -> httpx2.Response:
        body = {"context": {"targetingKey": "u1"} if context is None else context}
        path = f"{FLAGS}/{key}" if key else FLAGS
        return httpx2.post(f"{self.address}{path}", **({"json": body} | options))


class serving:  # noqa: N801 - reads as a word in `with serving(store)`
    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> Served:
        backends.close()
        opened = socket.socket()
        opened.bind(("127.0.0.1", 0))
        pages = Starlette(middleware=[Middleware(api.ApiAhead)])
        self._server = uvicorn.Server(uvicorn.Config(pages, log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, args=([opened],))
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        return Served(f"http://127.0.0.1:{opened.getsockname()[1]}", self._store)

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        backends.close()


def wait_until(true) -> bool:
    deadline = time.monotonic() + 20
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(found)
