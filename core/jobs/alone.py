"""Gateway to lock files: one process of this machine works on something at a time; the lock of a killed one is free."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

from core.errors import Conflict, SourceUnavailable

_PAUSE_S = 0.01


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
        handle = take_lock(path)
    except OSError as error:
        raise SourceUnavailable(f"{path.parent} cannot be written: {error.strerror}") from error
    if handle is None:
        raise Conflict(busy)
    try:
        yield
    finally:
        os.close(handle)


def take_lock(path: Path, *, patience_s: float = 0.0) -> int | None:
    """Return a descriptor that holds a lock file until it and its copies in other processes are closed.

    Return None if another process holds it for longer than `patience_s`; a mere check holds it for a moment. Raises
    SourceUnavailable where no file can be locked, and OSError.
    """
    if fcntl is None:
        raise SourceUnavailable("programs in the background need a POSIX system; use the command line instead")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    ends = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends:
                os.close(handle)
                return None
            time.sleep(_PAUSE_S)
        else:
            return handle


def is_locked(path: Path) -> bool:
    """Return whether a process holds a lock file."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
