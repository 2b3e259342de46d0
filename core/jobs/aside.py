"""Gateway to a process of its own, at low priority: long computations there hold up no page.

Threads of the server share one interpreter lock; a process of its own does not wait for it, nor hold it.
"""

import os
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from core.errors import QuarterdeckError

NICENESS = 10


def run_aside(work: Callable[..., Any], *args: Any) -> Any:
    """Return what `work(*args)` returns in a new process; it ends with this one.

    `work` is a function of a module, and what goes in and out can be pickled. Raises QuarterdeckError in one line for
    whatever is raised there, and where the process was killed.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, work, args), name=f"quarterdeck-{work.__name__}", daemon=True)
    process.start()
    theirs.close()
    try:
        found, problem = ours.recv()
    except EOFError:
        process.join()
        raise QuarterdeckError(f"{work.__name__}: its process ended with {process.exitcode}") from None
    finally:
        ours.close()
    process.join()
    if problem:
        raise QuarterdeckError(problem)
    return found


def _work(answer: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.nice(NICENESS)
    try:
        found, problem = work(*args), ""
    except Exception as error:  # noqa: BLE001 - it is raised on the other side
        said = str(error).strip().splitlines()
        found, problem = None, said[0] if isinstance(error, QuarterdeckError) and said else repr(error)[:500]
    answer.send((found, problem))
    answer.close()
