"""Rule: a text without the secrets in it, for logs that people read: tokens, cookies, passwords, values of settings.

It knows what the deck itself handles. What users typed is for `quarterdeck.redaction`.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from core.safety.letters import show_text

HIDDEN = "[secret]"
_SHORTEST = 6
_CALLED_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|API_?KEY|ACCESS_KEY|CREDENTIAL|PRIVATE", re.IGNORECASE)
_LOGIN_IN_URL = re.compile(r"://(?:([^\s:/@]{0,256}):)?([^\s@/]{1,256})(?=@)")
_PATTERNS = (
    # A header as Python, JSON, curl or a person writes it: all that belongs to it is hidden.
    (
        re.compile(
            r"\b((?:set-)?cookie|(?:proxy-)?authorization|x-api-key|x-quarterdeck-seal)\b"
            r"(['\"]?\s{0,3}[:,=]\s{0,3}b?)(?:'[^'\n]*'|\"[^\"\n]*\"|[^\n'\"]+)",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"(?<!\w)(bearer|basic)(\s{1,8})[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1\2{HIDDEN}"),
    (re.compile(r"(?<![\w-])qd_[\w-]{8,}"), HIDDEN),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}(?:\.[\w-]+){1,2}"), HIDDEN),  # a signed token of JSON
    (re.compile(r"(\b_(?:streamlit|xsrf)\w{0,40}=)[^\s;,'\"]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(\bsession[ _-]?id['\"]?\s{0,3}[:=]\s{0,3}['\"]?)[\w-]{16,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (_LOGIN_IN_URL, f"://{HIDDEN}"),
)


def scrub(text: str, secrets: Collection[str] = ()) -> str:
    """Return a text with its secrets hidden: the given ones, and whatever looks like one.

    >>> scrub("GET http://ada:pw@host with Authorization: Bearer qd_abcdefgh")
    'GET http://[secret]@host with Authorization: [secret]'
    """
    text = show_text(text)
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def scrub_all(value: Any, secrets: Collection[str] = ()) -> Any:
    """Return something JSON-like with the secrets in its texts hidden; what is no text or number is shown as text."""
    if isinstance(value, Mapping):
        return {scrub(str(key), secrets): scrub_all(each, secrets) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [scrub_all(each, secrets) for each in value]
    return value if value is None or isinstance(value, bool | int | float) else scrub(str(value), secrets)


def is_called_secret(name: str) -> bool:
    """Tell whether a setting of that name holds a secret."""
    return bool(_CALLED_SECRET.search(name))


def has_login(value: str) -> bool:
    """Tell whether a value is an address with a user or a password in it."""
    return bool(_LOGIN_IN_URL.search(value))


def list_secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the secrets among environment variables, longest first: by their names, and passwords in addresses."""
    found = {value for name, value in environ.items() if is_called_secret(name)}
    found |= {match[2] for value in environ.values() for match in _LOGIN_IN_URL.finditer(value)}
    return tuple(sorted((each for each in found if len(each) >= _SHORTEST), key=len, reverse=True))
