"""Extension of griffe: examples in docstrings, which start with `>>>`, are shown as Python sessions."""

import re
from typing import Any

from griffe import Extension, Object

_SESSION = re.compile(r"(?:^>>> .*\n?)(?:^(?!\s*$).*\n?)*", re.MULTILINE)
_FLAG = re.compile(r"\s+# doctest:.*$", re.MULTILINE)


class Sessions(Extension):
    """Fences each doctest of a docstring, without the flags that are for doctest alone."""

    def on_object(self, *, obj: Object, **_others: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring:
            obj.docstring.value = fence_sessions(obj.docstring.value)


def fence_sessions(text: str) -> str:
    """Return the text of a docstring with its doctests in fences."""
    return _SESSION.sub(lambda found: f"```pycon\n{_FLAG.sub('', found[0]).rstrip()}\n```\n", text)
