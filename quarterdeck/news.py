"""Hears that flags or aliases changed, where the database can say so: PostgreSQL's LISTEN and NOTIFY.

News only say that it is time to look. Whoever waits for them looks again after a while all the same, so that a lost
connection, a pooler that forwards none, or SQLite, which has none, make a change late and never lost.
"""

import logging
import threading
import time
from typing import Any

from sqlalchemy import Connection, func, select

from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")

_CHANNEL = "quarterdeck"
_LOOK_UP_S = 0.25  # how long a thread that waits for news may take to see that it is to stop


def tell_news(connection: Connection) -> None:
    """Tell everybody who waits for news, once the transaction lands."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(_CHANNEL, "")))


class News:
    """What one thread hears over a connection of its own, which is made at the first `wait`, and again when lost."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: Any = None
        self._problem = ""

    def wait(self, stop: threading.Event, timeout_s: float) -> None:
        """Return when there are news, when some may have been missed, after `timeout_s`, or when told to stop."""
        end = time.monotonic() + timeout_s
        if self._connection is None and self._connect():
            return  # what changed before is not announced again
        while not stop.is_set() and (left_s := end - time.monotonic()) > 0:
            if self._connection is None:
                stop.wait(left_s)
            elif self._hear(min(left_s, _LOOK_UP_S)):
                return

    def close(self) -> None:
        """Give the connection back."""
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
        """Whether something was announced, or the connection was lost, with which an announcement may be."""
        try:
            return bool([*self._connection.notifies(timeout=timeout_s, stop_after=1)])
        except Exception as error:  # noqa: BLE001 - as above
            self._lose(str(error))
            return True

    def _lose(self, problem: str) -> None:
        if not self._problem:
            logger.info("the store announces no changes, they are looked for instead: %s", problem)
        self._problem = problem
        self.close()
