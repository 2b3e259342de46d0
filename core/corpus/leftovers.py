"""Gateway to what a killed DVC leaves behind: entries in `.dvc/tmp/rwlock` that block the next run.

DVC drops an entry once no process has its number. It is fooled by a zombie process, and by another program that got
the number later; and it gives up on a half-written file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import SourceUnavailable
from core.safety.boundary import refuse_links


def remove_leftovers(root: Path) -> tuple[str, ...]:
    """Remove entries of killed processes from the repository's lock; return their commands.

    An unreadable lock file is removed too, because it is only half written while its own lock is held.
    Raises SourceUnavailable when another DVC process holds that lock, or the file cannot be written.
    """
    from dvc.lock import Lock, LockError

    path = root / ".dvc" / "tmp" / "rwlock"
    for each in (path, path.with_name("rwlock.lock")):
        refuse_links(root, each)  # one that was committed would have us write to where it leads
    if not path.is_file():
        return ()
    try:
        with Lock(str(path.with_name("rwlock.lock"))):
            return _clean(path)
    except LockError as error:
        raise SourceUnavailable("DVC's lock is held: another DVC process is running in this repository") from error
    except OSError as error:
        raise SourceUnavailable(f"DVC's lock {path} cannot be written: {error.strerror or error}") from error


def _clean(path: Path) -> tuple[str, ...]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        writing, reading = dict(held.get("write", {})), dict(held.get("read", {}))
        entries = [*writing.values(), *(entry for each in reading.values() for entry in each)]
        left = {int(entry["pid"]): str(entry["cmd"]) for entry in entries}
    except (ValueError, TypeError, KeyError, AttributeError):
        path.unlink()
        return ("a DVC process killed while writing its lock",)
    written_s = path.stat().st_mtime
    left = {pid: command for pid, command in left.items() if not _is_at_work(pid, written_s)}
    if left:
        path.write_text(json.dumps(_without(left, writing, reading)), encoding="utf-8")
    return tuple(left.values())


def _without(left: Mapping[int, str], writing: Mapping[str, Any], reading: Mapping[str, Any]) -> dict[str, Any]:
    kept = {where: [entry for entry in entries if int(entry["pid"]) not in left] for where, entries in reading.items()}
    return {
        "write": {where: entry for where, entry in writing.items() if int(entry["pid"]) not in left},
        "read": {where: entries for where, entries in kept.items() if entries},
    }


def _is_at_work(pid: int, written_s: float) -> bool:
    """Whether a process with this id is running that already ran when the lock was written."""
    import psutil

    try:
        process = psutil.Process(pid)
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= written_s + 1)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
