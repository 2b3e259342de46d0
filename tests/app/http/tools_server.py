"""A running server with the tools for language models, asked by the SDK's own client; and the store as a value."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.middleware import Middleware

from app.http import backends, tools_api
from app.http.api import ApiAhead
from quarterdeck.schema import metadata
from quarterdeck.store import Store

Asking = Callable[[Client], Coroutine[Any, Any, Any]]
OBSERVED = {"leases", "intake", "vectors"}  # what reads may write


class ServedTools:
    """A running server with /mcp, and the secret of each token."""

    def __init__(self, address: str, store: Store, secrets: dict[str, str]) -> None:
        self.address = address
        self.store = store
        self.secrets = secrets

    def ask(self, token: str, asking: Asking) -> Any:
        """Return what `asking` returns for a client with a token."""

        async def connect() -> Any:
            headers = {"Authorization": f"Bearer {self.secrets[token]}"} if token else {}
            async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
                async with Client(streamable_http_client(f"{self.address}/mcp", http_client=http)) as client:
                    return await asking(client)

        return asyncio.run(connect())

    def call(self, token: str, name: str, /, **arguments: Any) -> Any:
        """Return a tool's answer from its JSON, or its error as text."""

        async def asking(client: Client) -> Any:
            answer = await client.call_tool(name, arguments)
            text = answer.content[0].text
            return text if answer.is_error else json.loads(text)

        return self.ask(token, asking)


@contextmanager
def serve_tools(store: Store, secrets: dict[str, str]) -> Iterator[ServedTools]:
    """Serve /mcp for the store that the environment names."""
    backends.close()
    app = Starlette(middleware=[Middleware(ApiAhead)], lifespan=lambda _app: tools_api.endpoint.running())
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield ServedTools(f"http://127.0.0.1:{listening.getsockname()[1]}", store, secrets)
        server.should_exit = True
        thread.join()
    backends.close()


def dump_store(store: Store, *, without: tuple[str, ...] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table, but of those that reads write too."""
    kept = [table for table in metadata.sorted_tables if table.name not in OBSERVED.union(without)]
    with store.read() as connection:
        return {table.name: sorted(map(tuple, connection.execute(select(table))), key=repr) for table in kept}
