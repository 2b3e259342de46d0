"""Gateway to lock files: one process of this machine works on something at a time; the lock of a killed one is free."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

from core.errors import Conflict, SourceUnavailable


@contextmanager
def working_alone(path: Path, *, busy: str) -> Iterator[None]:
    """Hold a lock file, whose folder is made if need be; where no file can be locked, hold nothing.

    Raises Conflict with the words of `busy` while another process holds it, and SourceUnavailable.
    """
    if fcntl is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SourceUnavailable(f"{path.parent} cannot be written: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(busy) from error
        yield
    finally:
        os.close(handle)
