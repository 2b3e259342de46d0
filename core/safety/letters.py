"""Rule: text that is not valid Unicode, in JSON of strangers and in names whose bytes are not UTF-8.

Such text holds half of a surrogate pair. Nothing that is stored, shown or sent may hold one: no encoder takes it.
"""

import json
import re
from codecs import BOM_UTF8
from typing import Any

from core.errors import InvalidInput

_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_QUOTED_BYTE = re.compile(r"\\([2-3][0-7]{2})")
_SIGN = "\ufffd"


def quote_bytes(name: str) -> str:
    """Return a name as git quotes it: bytes that are not UTF-8 are octal, and the name can be given back to be found.

    >>> quote_bytes(b"caf\\xe9".decode(errors="surrogateescape"))
    'caf\\\\351'
    """
    return _HALF.sub(lambda half: _quote(ord(half[0])), name)


def unquote_bytes(name: str) -> str:
    """Return the name that `quote_bytes` showed, as the operating system takes it."""
    return _QUOTED_BYTE.sub(lambda found: chr(0xDC00 + int(found[1], 8)), name)


def show_text(text: str) -> str:
    """Return text with a sign in place of each half of a letter."""
    return _HALF.sub(_SIGN, text)


def decode_bytes(raw: bytes, encoding: str | None = None) -> str:
    """Return bytes as text: in the encoding that they claim, else UTF-8, else with replacement characters."""
    for each in filter(None, (encoding, "utf-8")):
        try:
            return show_text(raw.decode(each))
        except (UnicodeDecodeError, LookupError):
            continue
    return raw.decode("utf-8", "replace")


def parse_json(text: bytes) -> Any:
    """Return the JSON in a text of UTF-8. Raises InvalidInput for invalid JSON, and for a lone surrogate."""
    value = parse_any_json(text)
    if _ESCAPED_HALF.search(text):
        check_letters(value)
    return value


def parse_any_json(text: bytes) -> Any:
    """Return the JSON in a text of UTF-8, whose names and values may have lone surrogates. Raises InvalidInput."""
    try:
        return json.loads(text.removeprefix(BOM_UTF8).decode())
    except (ValueError, RecursionError) as error:
        raise InvalidInput("body", f"is not JSON: {show_text(str(error))}") from error


def check_letters(value: Any, field: str = "body") -> None:
    """Raise InvalidInput when a name or a value in something JSON-like holds half a letter."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(field, "holds half a surrogate pair; send whole characters") from error


def _quote(code: int) -> str:
    return f"\\{code - 0xDC00:03o}" if 0xDC80 <= code <= 0xDCFF else _SIGN
