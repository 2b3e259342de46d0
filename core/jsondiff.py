"""Rule: two states as JSON -> the lines that differ, so that nobody compares two walls of text by eye."""

import difflib
import json
from typing import Any


def diff_states(before: Any, after: Any, *, context: int = 2) -> str:
    """Return the changed lines, `-` for former and `+` for new ones, with `context` lines around each; "" for none.

    None stands for nothing at all. Keys are in order, so that a mere change of order is no difference.
    """
    lines = list(difflib.unified_diff(_lines(before), _lines(after), n=context, lineterm=""))[2:]
    if lines and lines[0].startswith(("@@ -0", "@@ -1,", "@@ -1 ")):
        lines = lines[1:]  # nothing was left out above
    return "\n".join(" …" if line.startswith("@@") else line for line in lines)


def _lines(state: Any) -> list[str]:
    return [] if state is None else json.dumps(state, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
