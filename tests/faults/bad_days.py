"""Helpers for tests of outages."""

import time
from collections.abc import Callable

from core.audit.acts import Act
from core.flags.operations import switch_flag
from core.flags.store import get_flag
from quarterdeck.store import Store

ME = Act("ada", "a bad day")
PATIENCE_S = 120.0


def wait_until(true: Callable[[], object]) -> bool:
    """Poll until the condition holds; False when it does not within two minutes."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(found)


def flip(store: Store, *, on: bool) -> int:
    """Turn the flag of these tests on or off; return the audit entry's id."""
    return switch_flag(store, get_flag(store, "production", "use_hyde"), ME, on=on)
