"""Values that are computed in the background: at once the last one, a new one once it is old, errors in one line."""

import threading

from core.errors import SourceUnavailable
from core.jobs.looking import LookedUp, Lookup


def test_the_last_value_is_there_at_once_and_a_new_one_follows() -> None:
    now, computed, go = [0.0], list[str](), threading.Event()

    def compute(key: str) -> str:
        go.wait(10)
        computed.append(key)
        return f"{key} {len(computed)}"

    lookup = Lookup(compute, lasts_s=60, clock=lambda: now[0])
    assert lookup.get("a") == LookedUp(None, is_running=True)
    go.set()
    assert lookup.wait("a", 10) == LookedUp("a 1")
    now[0] = 59
    assert lookup.get("a") == LookedUp("a 1")
    now[0] = 61
    assert lookup.get("a").value == "a 1"
    assert lookup.wait("a", 10).value == "a 2"
    lookup.forget()
    assert lookup.wait("a", 10).value == "a 3"


def test_an_error_is_told_and_keeps_the_last_value() -> None:
    now, broken = [0.0], [False]

    def compute(_key: str) -> int:
        if broken[0]:
            raise SourceUnavailable("the index is away")
        return 7

    lookup = Lookup(compute, lasts_s=1, clock=lambda: now[0])
    assert lookup.wait("a", 10).value == 7
    now[0], broken[0] = 2.0, True
    lookup.get("a")
    assert lookup.wait("a", 10) == LookedUp(7, problem="the index is away")
