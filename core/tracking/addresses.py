"""Rule: tracking addresses: which kinds are read, and how they are shown without their password."""

import base64
import re
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from core.errors import InvalidInput

HIDDEN = "***"
# Each quantifier is bounded, or followed by something it cannot match: no text causes backtracking.
_SECRET = re.compile(r"(?<![\w+.-])([a-z][\w+.-]{0,30}://[^\s:/@?#]{0,256}):[^\s@]{0,512}@", re.IGNORECASE)
_OWN_SECRET = re.compile(r"^([a-z][\w+.-]{0,30}://[^\s:/@?#]{0,256}):(.*)@", re.IGNORECASE)
_DATABASES = ("sqlite:", "postgresql")
_MISTYPED = "must start with http, sqlite or postgresql, not"


def is_server(uri: str) -> bool:
    """Tell whether the address is a tracking server's; others are databases."""
    return uri.startswith(("http://", "https://"))


def describe(uri: str) -> str:
    """Return the address without any password, for messages.

    >>> describe("http://ada:secret@localhost:5000")
    'http://ada:***@localhost:5000'
    """
    return uri if uri.startswith("sqlite") else _OWN_SECRET.sub(rf"\1:{HIDDEN}@", uri, count=1)


def hide_secrets(text: str, uri: str) -> str:
    """Return a message of somebody else's without the password of this address, however it is written there."""
    text = _SECRET.sub(rf"\1:{HIDDEN}@", text)
    user, password = read_credentials(uri)
    if not password:
        return text
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    for secret in (basic, *(f":{spelled}@" for spelled in {password, quote(password, safe=""), quote(password)})):
        text = text.replace(secret, f":{HIDDEN}@" if secret.endswith("@") else HIDDEN)
    return text


def read_credentials(uri: str) -> tuple[str, str]:
    """Return user and password of a server's address, decoded; "" for none."""
    if not is_server(uri):
        return "", ""
    login, at, _ = urlsplit(uri).netloc.rpartition("@")
    user, _, password = login.partition(":")
    return (unquote(user), unquote(password)) if at else ("", "")


def without_credentials(uri: str) -> str:
    """Return a server's address without user and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def check_address(uri: str) -> None:
    """Raise InvalidInput for an address that is neither a server's nor a database's, and name the way out."""
    if is_server(uri) or uri.startswith(_DATABASES):
        return
    folder = uri.removeprefix("file://").removeprefix("file:")
    if "://" not in folder and (uri.startswith("file:") or "/" in uri or "mlruns" in uri or uri == "."):
        raise InvalidInput(
            "tracking URI",
            f"{_MISTYPED} {uri!r}: a folder of MLflow's file store is not read. Copy it into a database with "
            f"`mlflow migrate-filestore --source {folder} --target sqlite:///mlflow.db`, and set "
            "MLFLOW_TRACKING_URI to that database",
        )
    raise InvalidInput("tracking URI", f"{_MISTYPED} {describe(uri)!r}")
