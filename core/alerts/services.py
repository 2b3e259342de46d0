"""Gateway to the services that apprise knows: chats, mail, pagers. One message, one attempt, within a total time."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from core.alerts.channels import LOCAL_SERVICES
from core.errors import InvalidInput, SourceUnavailable
from core.safety.scrubbing import scrub

TOTAL_S = 30.0
MOST_HANGING = 2  # attempts at one address that have not ended: a service that never answers holds no more threads
_KINDS = {"critical": "failure", "warning": "warning"}
_LONGEST = 200
# Options of apprise that name a file of the server, which would be sent to the receiver or read as a key.
_FILES = frozenset({"keyfile", "pgpkey", "pgpprv", "pgppub", "subfile", "template"})
_TEMPLATE_IDS = frozenset(  # services whose template is one of their own, by its number or name
    {"gupshup", "kaleyra", "klr", "notifyre", "onesignal", "sendgrid", "sendpulse", "whatsapp"}
)
_FROM_FILES = frozenset({"vapid"})  # services whose addresses are in a file of the server
# The queue tries again, and counts a message as sent only if the receiver took it.
_DECIDED_HERE = ("optional", "retry", "wait")
_log = logging.getLogger("apprise")
_lock = threading.Lock()
_hanging: Counter[str] = Counter()  # attempts under way, by address


def check_service(address: str) -> None:
    """Raise InvalidInput unless apprise understands this address, as one service that reads no file of the server."""
    if not _open(address):
        service = address.partition("://")[0]
        raise InvalidInput("address", f"apprise does not understand this {service}:// address; see its documentation")


def notify(address: str, title: str, body: str, *, level: str) -> None:
    """Send a message. `level` is `critical`, `warning` or `ok`. Follows no redirect.

    Raises SourceUnavailable, without what the address holds, if the service did not take it, answered garbage or took
    longer than half a minute in all; then it may arrive all the same. While two such attempts hang, there is no third.
    """
    service = address.partition("://")[0].lower()
    found: list[str] = []
    with _lock:
        if _hanging[address] >= MOST_HANGING:
            raise SourceUnavailable(f"{service}:// still holds {MOST_HANGING} earlier messages without an answer")
        _hanging[address] += 1

    def send() -> None:
        try:
            found.append(_send(address, title, body, level))
        finally:
            with _lock:
                _hanging[address] -= 1
                if not _hanging[address]:
                    del _hanging[address]

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
    except InvalidInput as error:  # stored by an earlier release; it names no part of the address
        return str(error)
    except Exception as error:  # noqa: BLE001 - over a hundred plugins, each with errors of its own
        return _clean(f"{type(error).__name__}: {error}", address)
    return "" if is_sent else _clean(said.last or "it refused", address)


def _open(address: str) -> Any:
    """Return the one service of an address, None for none: no redirects, no file of its own.

    `Apprise.add` would split the address at blanks into several services, of which only the first was checked. Raises
    InvalidInput for a service that is not allowed.
    """
    import apprise
    from apprise.plugins import url_to_dict

    parts = url_to_dict(address)  # type: ignore[no-untyped-call]
    if parts is None:
        return None
    _check_parts(parts)
    asset = apprise.AppriseAsset(
        async_mode=False, http_redirects=False, secure_logging=True, service_timeout=0,
        storage_mode=apprise.PersistentStoreMode.MEMORY, app_id="Quarterdeck", app_desc="Quarterdeck",
    )  # fmt: skip
    for name in _DECIDED_HERE:
        parts.pop(name, None)
    return apprise.Apprise.instantiate(parts, asset=asset)


def _check_parts(parts: Mapping[str, Any]) -> None:
    """Raise InvalidInput unless a service, as apprise reads its address, stays off this machine and its files."""
    service, options = str(parts["schema"]).lower(), parts.get("qsd") or {}
    if service in LOCAL_SERVICES:
        raise InvalidInput("address", f"{service}:// would show messages on the server's own machine")
    files = _FILES - {"template"} if service in _TEMPLATE_IDS else _FILES
    if named := sorted(name for name in files if options.get(name) or parts.get(name)):
        raise InvalidInput("address", f"{named[0]}= would read a file of the server; leave it out")
    if service in _FROM_FILES:
        raise InvalidInput("address", f"{service}:// needs files on the server; use another service")
    if parts.get("redirect"):
        raise InvalidInput("address", "redirect= must be left out: a receiver could send messages anywhere")


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
