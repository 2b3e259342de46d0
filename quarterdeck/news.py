"""Gateway to change notifications: PostgreSQL's LISTEN and NOTIFY, sent when flags or aliases change.

A notification only says that it is time to read. The client polls as well, so a lost connection, a pooler that forwards
no notifications, or SQLite, which has none, delays a change by one poll at most.
"""

import logging
import threading
import time
from typing import Any

from sqlalchemy import Connection, func, select

from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

_CHANNEL = "quarterdeck"
_LOOK_UP_S = 0.25  # seconds within which a waiting thread notices that it should stop


def tell_news(connection: Connection) -> None:
    """Notify every listening client once the transaction commits."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(_CHANNEL, "")))


class News:
    """The notifications of one thread, over its own connection; `wait` opens it, and reopens it when it was lost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: Any = None
        self._problem = ""

    def wait(self, stop: threading.Event, timeout_s: float) -> None:
        """Return on a notification, when one may have been missed, after `timeout_s` seconds, or when `stop` is set."""
        end = time.monotonic() + timeout_s
        if self._connection is None and self._connect():
            return  # changes before LISTEN are not announced
        while not stop.is_set() and (left_s := end - time.monotonic()) > 0:
            if self._connection is None:
                stop.wait(left_s)
            elif self._hear(min(left_s, _LOOK_UP_S)):
                return

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> bool:
        try:
            self._connection = self._store.listen(_CHANNEL)
        except Exception as error:  # noqa: BLE001 - a thread that dies of it would freeze the flags for good
            self._lose(str(error))
        else:
            self._problem = ""
        return self._connection is not None

    def _hear(self, timeout_s: float) -> bool:
        """Return whether something was announced, or the connection, and perhaps an announcement with it, was lost."""
        try:
            return bool([*self._connection.notifies(timeout=timeout_s, stop_after=1)])
        except Exception as error:  # noqa: BLE001 - as above
            self._lose(str(error))
            return True

    def _lose(self, problem: str) -> None:
        if not self._problem:
            logger.info("the store sends no notifications, polling goes on: %s", problem)
        self._problem = problem
        self.close()
