"""Rule: channels: where messages of alerts go. An address and its secret are never shown again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from core.alerts.rules import check_name
from core.errors import InvalidInput

SHORTEST_SECRET = 16
MOST_URL = 2_000
# Services of apprise that show something on the server's own screen or write into its log.
LOCAL_SERVICES = frozenset({"blink1", "dbus", "gio", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows"})


class ChannelKind(StrEnum):
    """How messages are sent: a signed webhook, Alertmanager's webhook format, or any service that apprise knows."""

    WEBHOOK = "webhook"
    ALERTMANAGER = "alertmanager"
    APPRISE = "apprise"


@dataclass(frozen=True, slots=True)
class Channel:
    """A receiver of messages. `secret` signs the body of a webhook (see `core.alerts.messages.sign`).

    `address` is an http(s) address; that of apprise begins with a service, like `slack://` or `mailtos://`, and holds
    its passwords. Raises InvalidInput, naming the field.
    """

    name: str
    kind: ChannelKind
    address: str = field(repr=False)
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        check_name("channel", self.name)
        if self.kind is ChannelKind.APPRISE:
            self._check_service()
            return
        try:
            parts = urlsplit(self.address)
        except ValueError as error:
            raise InvalidInput("url", str(error)) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise InvalidInput("url", "must be an http or https address without a password in it")
        if self.secret or self.kind is ChannelKind.WEBHOOK:
            check_secret(self.secret)

    @property
    def shown(self) -> str:
        """The address as it is shown: the service or the server alone, since the rest is often a secret too."""
        if self.kind is ChannelKind.APPRISE:
            return f"{self.address.partition('://')[0].lower()}://…"
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"

    def to_json(self) -> dict[str, Any]:
        """Return the channel as the store keeps it."""
        return {"name": self.name, "kind": str(self.kind), "address": self.address, "secret": self.secret}

    def to_audit(self) -> dict[str, Any]:
        """Return what the audit trail may say of it."""
        return {"name": self.name, "kind": str(self.kind), "address": self.shown}

    def _check_service(self) -> None:
        service, found, rest = self.address.partition("://")
        if not found or not rest or not service.isalnum():
            raise InvalidInput("address", "must begin with a service that apprise knows, like slack:// or mailtos://")
        if service.lower() in LOCAL_SERVICES:
            raise InvalidInput("address", f"{service.lower()}:// would show messages on the server's own machine")
        if len(self.address) > MOST_URL or not self.address.isprintable():
            raise InvalidInput("address", f"must be at most {MOST_URL:,} printable characters")


def check_secret(secret: str) -> None:
    """Raise InvalidInput for a secret that is too short to sign with."""
    if len(secret) < SHORTEST_SECRET:
        raise InvalidInput("secret", f"must have at least {SHORTEST_SECRET} characters, because it signs messages")


def check_url(url: str) -> None:
    """Raise InvalidInput for an address that cannot be called: it has spaces, line breaks or an invalid port."""
    try:
        port = urlsplit(url).port
    except ValueError as error:
        raise InvalidInput("url", f"{error}") from error
    if port == 0 or len(url) > MOST_URL or not all("!" <= letter <= "~" for letter in url):
        raise InvalidInput("url", f"must be at most {MOST_URL:,} printable ASCII characters without spaces")


def read_channel(told: Mapping[str, Any]) -> Channel:
    """Return the channel that `to_json` wrote. Raises InvalidInput for one that this release does not understand."""
    try:
        return Channel(str(told["name"]), ChannelKind(told["kind"]), str(told["address"]), str(told["secret"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("channel", f"cannot be read ({type(error).__name__}); save it again") from error
