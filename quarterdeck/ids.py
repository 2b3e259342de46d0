"""Rule: ids of retrievals: UUIDs of version 7 (RFC 9562), which sort by time."""

import os
from collections.abc import Callable
from itertools import count
from operator import index
from typing import Any
from uuid import UUID

from quarterdeck.clock import now_ms

_middle: str
_newest: tuple[int, str]  # a time, and how its ids begin
_next: Callable[[], int]


def _start() -> None:
    """Draw this process's random part, and start to count."""
    global _middle, _newest, _next
    drawn = int.from_bytes(os.urandom(10), "big")
    _middle = f"-7{drawn & 0xFFF:03x}-{0x8000 | drawn >> 12 & 0x3FFF:04x}-{drawn >> 26 & 0xFFFF:04x}"
    _newest = 0, ""
    _next = count(drawn >> 42 & 0xFFFF_FFFF).__next__


_start()


def name_of(value: Any) -> Any:
    """Return a UUID or a whole number of any library as text: sessions, users and documents are often named so.

    Anything else stays as it is.

    >>> name_of(17), name_of(UUID(int=5)), name_of("s-17"), name_of(True)
    ('17', '00000000-0000-0000-0000-000000000005', 's-17', True)
    """
    if isinstance(value, str | bool):
        return value
    if isinstance(value, UUID):
        return str(value)
    try:
        return str(index(value))
    except TypeError:
        return value


def new_id(ts_ms: int | None = None) -> str:
    """Return a new UUID of version 7, for the present or another time in milliseconds since the epoch.

    42 bits are drawn once a process; a counter in the last 32 bits distinguishes the ids of a process.

    >>> len(new_id()), new_id()[14]
    (36, '7')
    """
    global _newest
    ms, newest = now_ms() if ts_ms is None else ts_ms, _newest
    if newest[0] != ms:
        newest = _newest = ms, f"{ms >> 16 & 0xFFFFFFFF:08x}-{ms & 0xFFFF:04x}{_middle}"
    return f"{newest[1]}{_next() & 0xFFFFFFFF:08x}"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start)
