"""Gateway to the services that apprise knows: chats, mail, pagers. One message, one attempt, within a total time."""

import logging
import threading
from typing import Any
from urllib.parse import unquote

from core.alerts.channels import LOCAL_SERVICES
from core.errors import InvalidInput, SourceUnavailable
from core.safety.scrubbing import scrub

TOTAL_S = 30.0
_KINDS = {"critical": "failure", "warning": "warning"}
_LONGEST = 200
_log = logging.getLogger("apprise")


def check_service(address: str) -> None:
    """Raise InvalidInput unless apprise understands this address, and as one service."""
    if not _open(address):
        service = address.partition("://")[0]
        raise InvalidInput("address", f"apprise does not understand this {service}:// address; see its documentation")


def notify(address: str, title: str, body: str, *, level: str) -> None:
    """Send a message. `level` is `critical`, `warning` or `ok`. Follows no redirect.

    Raises SourceUnavailable, without what the address holds, if the service did not take it, answered garbage or took
    longer than half a minute in all; then it may arrive all the same.
    """
    service = address.partition("://")[0].lower()
    found: list[str] = []

    def send() -> None:
        found.append(_send(address, title, body, level))

    thread = threading.Thread(target=send, name="quarterdeck-alert", daemon=True)
    thread.start()
    thread.join(TOTAL_S)
    problem = found[0] if found else f"it did not answer within {TOTAL_S:g} s"
    if problem:
        raise SourceUnavailable(f"{service}:// did not take the message: {problem}")


def _send(address: str, title: str, body: str, level: str) -> str:
    """Return the problem, "" once the service has the message."""
    import apprise

    try:
        opened = _open(address)
        if opened is None:
            return "apprise does not understand its address"
        with _Said() as said:
            kind = apprise.NotifyType(_KINDS.get(level, "success"))
            is_sent = opened.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT)
    except Exception as error:  # noqa: BLE001 - over a hundred plugins, each with errors of its own
        return _clean(f"{type(error).__name__}: {error}", address)
    return "" if is_sent else _clean(said.last or "it refused", address)


def _open(address: str) -> Any:
    """Return the one service of an address, None for none: no redirects, no file of its own.

    `Apprise.add` would split the address at blanks into several services, of which only the first was checked.
    """
    import apprise

    if address.partition("://")[0].lower() in LOCAL_SERVICES:
        raise InvalidInput("address", "would show messages on the server's own machine")
    asset = apprise.AppriseAsset(
        async_mode=False, http_redirects=False, secure_logging=True, service_timeout=0,
        storage_mode=apprise.PersistentStoreMode.MEMORY, app_id="Quarterdeck", app_desc="Quarterdeck",
    )  # fmt: skip
    return apprise.Apprise.instantiate(address, asset=asset)


class _Said(logging.Handler):
    """Keeps the last warning of apprise in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self._thread = threading.get_ident()

    def __enter__(self) -> "_Said":
        _log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning."""
        if record.thread == self._thread:
            self.last = record.getMessage()


def _clean(said: str, address: str) -> str:
    """Return what was said on one line, without any part of the address that could be a secret."""
    rest = address.partition("://")[2]
    for mark in "/?&=@:;,":
        rest = rest.replace(mark, " ")
    parts = {each for part in rest.split() for each in (part, unquote(part)) if len(each) > 3}
    return scrub(" ".join(said.split()), sorted(parts, key=len, reverse=True))[:_LONGEST]
