"""The ASGI door: the pages and the HTTP API in one process, and the watch over drift beside them."""

import logging
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.api import ROUTES
from core.config import load_config
from core.errors import QuarterdeckError
from core.watch import check_alerts
from quarterdeck.store import Store

SCRIPT = Path(__file__).with_name("main.py")
WATCH_EVERY_S = 60.0
logger = logging.getLogger("quarterdeck")


def serve(host: str, port: int) -> None:
    """Serve until stopped. The address is 127.0.0.1 unless somebody asked for another."""
    os.environ.setdefault("STREAMLIT_SERVER_ADDRESS", host)
    os.environ.setdefault("STREAMLIT_SERVER_PORT", str(port))
    import uvicorn
    from streamlit.starlette import App

    app = App(SCRIPT, routes=ROUTES, lifespan=_watching)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=5)


@asynccontextmanager
async def _watching(_app: Any) -> AsyncIterator[None]:
    """Watch over drift while the server runs."""
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(stop,), name="quarterdeck-watch", daemon=True)
    watcher.start()
    yield
    stop.set()


def _watch(stop: threading.Event) -> None:
    config = load_config(os.environ)
    store = Store(config.database_url, log_url=config.log_url)
    while not stop.wait(WATCH_EVERY_S):
        try:
            check_alerts(store, config.environment, now=datetime.now(UTC))
        except QuarterdeckError as error:
            logger.warning("alerts were not checked: %s", error)
    store.close()
