"""Stops the clock of every Python process that has this folder on its path, at QUARTERDECK_TEST_NOW.

The gallery starts its servers with it, so that a picture of today is the picture of any other day. Python imports a
module of this name by itself, before anything can ask for the time. `time.monotonic` goes on: waiting still ends.
Random ids are drawn from a seed, because what happened at one instant is sorted by them.
"""

import ctypes
import gc
import os
import random
import threading
import time
import uuid
from datetime import datetime, tzinfo

_SEED = 7


def stop_clock(at: datetime) -> None:
    """Let `datetime.now`, `date.today`, `time.time` and `time.time_ns` return this time from now on."""
    seconds = at.timestamp()
    time.time = lambda: seconds  # `date.today` and `datetime.today` ask it
    time.time_ns = lambda: round(seconds * 1000) * 1_000_000

    def now(cls: type[datetime], tz: tzinfo | None = None) -> datetime:
        return cls.fromtimestamp(seconds, tz)

    # Modules hold the class `datetime` itself, and Python lets nobody assign to it.
    (methods,) = (each for each in gc.get_referents(datetime.__dict__) if isinstance(each, dict))
    methods["now"] = classmethod(now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))


def seed_ids() -> None:
    """Let `uuid.uuid4` draw from a seed."""
    drawn, turn = random.Random(_SEED), threading.Lock()

    def draw() -> uuid.UUID:
        with turn:
            return uuid.UUID(int=drawn.getrandbits(128), version=4)

    uuid.uuid4 = draw


if "QUARTERDECK_TEST_NOW" in os.environ:
    stop_clock(datetime.fromisoformat(os.environ["QUARTERDECK_TEST_NOW"]))
    seed_ids()
