"""Rule: the lines that differ between two states as JSON, so that nobody compares two walls of text by eye."""

import difflib
import json
from typing import Any

_SHORT = 60


def diff_states(before: Any, after: Any, *, context: int = 2) -> str:
    """Return the changed lines, `-` for former and `+` for new ones, with `context` lines around each; "" for none.

    None stands for nothing at all. Keys are in order, so that a mere change of order is no difference.
    """
    lines = list(difflib.unified_diff(_lines(before), _lines(after), n=context, lineterm=""))[2:]
    if lines and lines[0].startswith(("@@ -0", "@@ -1,", "@@ -1 ")):
        lines = lines[1:]  # nothing was left out above
    return "\n".join(" …" if line.startswith("@@") else line for line in lines)


def _lines(state: Any) -> list[str]:
    return [] if state is None else _write(state, 0).splitlines()


def _write(value: Any, depth: int) -> str:
    """JSON in which whatever fits on a line is on one, like `["on", 20000]`."""
    short = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if (depth and len(short) <= _SHORT) or not isinstance(value, dict | list) or not value:
        return short
    space, end = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict):
        parts = [f"{json.dumps(name, ensure_ascii=False)}: {_write(value[name], depth + 1)}" for name in sorted(value)]
    else:
        parts = [_write(item, depth + 1) for item in value]
    inside = ",\n".join(f"{space}{part}" for part in parts)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inside}\n{end}{closing}"
