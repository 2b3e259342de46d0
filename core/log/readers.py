"""Gateway to the readers of retrieval logs: the one place that knows every kind of log.

To keep the log in another database, write two classes and name them once each:

1. the writer, a `quarterdeck.log.RetrievalLog` (append, purge), in the client: `quarterdeck.log.open_log` finds it by
   its URL. It stores rows and what they add to the rollups together, or not at all.
2. the reader, a `core.log.values.LogReader`, in this folder: READERS finds it by the writer's class.

`tests/core/log/test_retrievals.py` holds every pair to the answers that a plain loop over the same rows finds. It opens
the logs of `tests/backends.py`; add yours there.
"""

from collections.abc import Callable, Mapping
from typing import Any

from core.errors import InvalidInput
from core.log.clickhouse import ClickHouseLogReader
from core.log.sql import SqlLogReader
from core.log.values import LogReader
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.log import RetrievalLog, SqlLog, as_log
from quarterdeck.store import Store

READERS: Mapping[type[Any], Callable[[Any], LogReader]] = {
    SqlLog: lambda log: SqlLogReader(log.store),
    ClickHouseLog: ClickHouseLogReader,
}


def open_reader(log: Store | RetrievalLog) -> LogReader:
    """Return what reads this log; a store stands for the log in it. Raises InvalidInput for a log without a reader."""
    opened = as_log(log)
    for kind, read in READERS.items():
        if isinstance(opened, kind):
            return read(opened)
    raise InvalidInput("log", f"{type(opened).__name__} has no reader in core/log/readers.py")
