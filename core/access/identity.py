"""Rule: who a visitor is. Turns an OpenID token or a proxy's header into a person.

The entry points run the sign-in itself; `core.audit.permissions` decides what a person may do.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from core.audit.permissions import is_own_name, is_personal_name
from core.errors import Forbidden, InvalidInput

MAX_GROUPS = 500
_MIN_SECRET = 32
_MIN_LETTERS = 8  # different ones; 32 random hexadecimal digits have fewer once in some millions


@dataclass(frozen=True, slots=True)
class OidcLogin:
    """An OpenID provider for sign-in, and the claims with the person's name and groups.

    A sign-in lasts for `session`, and ends earlier when it is not used for `idle`.
    """

    metadata_url: str
    client_id: str
    client_secret: str = field(repr=False)
    cookie_secret: str = field(repr=False)
    name_claim: str = "email"
    groups_claim: str = "groups"
    session: timedelta = timedelta(hours=12)
    idle: timedelta = timedelta(minutes=60)


@dataclass(frozen=True, slots=True)
class TrustedProxy:
    """A proxy that signs visitors in and names them in a header; trusted from these addresses only."""

    user_header: str
    groups_header: str
    networks: tuple[IPv4Network | IPv6Network, ...]

    def is_from(self, address: str) -> bool:
        """Whether a connection comes from the proxy's addresses."""
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.networks)


@dataclass(frozen=True, slots=True)
class SignIn:
    """How visitors sign in. Without a login or a proxy, everybody is the local operator.

    `public_url` is the deck's address for browsers; `open_to_all` allows other machines without a login.
    """

    login: OidcLogin | None = None
    proxy: TrustedProxy | None = None
    public_url: str = ""
    open_to_all: bool = False

    @property
    def is_local(self) -> bool:
        """Whether there is no sign-in."""
        return self.login is None and self.proxy is None


@dataclass(frozen=True, slots=True)
class Person:
    """An identified person: name and groups. `session` identifies the sign-in ("" for none).

    `ends` is when the person has to sign in again, None for never.
    """

    name: str
    groups: tuple[str, ...] = ()
    session: str = ""
    ends: datetime | None = None


def _read_at_once(read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return read(*arguments, **options)


def read_sign_in(environ: Mapping[str, str], check: Callable[..., Any] = _read_at_once) -> SignIn:
    """Return the sign-in settings from environment variables. Raises InvalidInput, naming the variable.

    `check` calls the reader of a variable; to collect every error, it can store the InvalidInput and return None.
    """
    public_url = check(_read_origin, environ, "QUARTERDECK_PUBLIC_URL")
    login, proxy = check(_read_login, environ, check), check(_read_proxy, environ, check)
    if login and proxy:
        raise InvalidInput("QUARTERDECK_PROXY_USER_HEADER", "cannot be combined with QUARTERDECK_OIDC_CLIENT_ID")
    if login and public_url == "":
        raise InvalidInput("QUARTERDECK_PUBLIC_URL", "must be set for a login: the address that browsers use")
    if login and urlsplit(public_url).scheme == "http" and not is_loopback(urlsplit(public_url).hostname or ""):
        raise InvalidInput("QUARTERDECK_PUBLIC_URL", "must be https for a login: others could read session cookies")
    opened = environ.get("QUARTERDECK_ALLOW_ANYONE") or "off"
    if opened not in ("on", "off"):
        raise InvalidInput("QUARTERDECK_ALLOW_ANYONE", f"must be on or off, not {opened!r}")
    return SignIn(login, proxy, public_url, opened == "on")


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_bind(access: SignIn, host: str) -> None:
    """Raise InvalidInput if the deck would be open to other machines without any sign-in."""
    if access.is_local and not access.open_to_all and not is_loopback(host):
        raise InvalidInput(
            "host",
            f"{host} lets other machines in without a sign-in, so everyone would be admin. Configure a login "
            "(QUARTERDECK_OIDC_…) or a proxy (QUARTERDECK_PROXY_…), or set QUARTERDECK_ALLOW_ANYONE=on",
        )


def read_claims(login: OidcLogin, claims: Mapping[str, Any], *, now: datetime) -> Person:
    """Return the person in an OpenID token. Raises Forbidden when the token is unusable or too old.

    An e-mail address counts as a name only if the provider verified it; otherwise anybody could claim it.
    """
    issued = claims.get("iat")
    if not isinstance(issued, int | float) or datetime.fromtimestamp(issued, UTC) + login.session <= now:
        raise Forbidden("your session has ended; sign in again")
    name = claims.get(login.name_claim)
    if login.name_claim == "email" and claims.get("email_verified") is not True:
        raise Forbidden("your provider has not verified your e-mail address, so it cannot identify you here")
    if not isinstance(name, str) or not is_personal_name(name):
        raise Forbidden(f"your provider sent no usable {login.name_claim}, so you cannot be identified")
    groups = claims.get(login.groups_claim) or []
    found = groups if isinstance(groups, list) else [groups]
    sign_in = [claims.get(key) for key in ("iss", "sub", "iat", "sid", "nonce", "at_hash")]
    session = hashlib.sha256(json.dumps(sign_in, default=str).encode()).hexdigest()
    if len(found) > MAX_GROUPS:
        raise Forbidden(_too_many_groups(len(found)))
    own = tuple(each for each in found if isinstance(each, str) and is_own_name(each))
    return Person(name, own, session, datetime.fromtimestamp(issued, UTC) + login.session)


def read_headers(proxy: TrustedProxy, headers: Mapping[str, str]) -> Person:
    """Return the person named by the proxy's headers. Raises Forbidden if they name nobody."""
    name = headers.get(proxy.user_header, "")
    if not is_personal_name(name):
        raise Forbidden("the proxy named no user; use the proxy's address and sign in there")
    groups = headers.get(proxy.groups_header, "") if proxy.groups_header else ""
    found = [each.strip() for each in groups.split(",")]
    if len(found) > MAX_GROUPS:
        raise Forbidden(_too_many_groups(len(found)))
    return Person(name, tuple(each for each in found if is_own_name(each)))


def _too_many_groups(count: int) -> str:
    return f"you are in {count:,} groups, and {MAX_GROUPS} at most are read; ask your provider to send fewer"


def _read_login(environ: Mapping[str, str], check: Callable[..., Any]) -> OidcLogin | None:
    names = {
        "metadata_url": "QUARTERDECK_OIDC_METADATA_URL", "client_id": "QUARTERDECK_OIDC_CLIENT_ID",
        "client_secret": "QUARTERDECK_OIDC_CLIENT_SECRET", "cookie_secret": "QUARTERDECK_COOKIE_SECRET",
    }  # fmt: skip
    given = {key: environ.get(name, "") for key, name in names.items()}
    if not given["client_id"] and not given["metadata_url"]:
        return None
    missing = [name for key, name in names.items() if not given[key]]
    if missing:
        raise InvalidInput(", ".join(missing), "must be set for a login, with the other QUARTERDECK_OIDC_… variables")
    check(_check_secret, given["cookie_secret"])
    check(_check_metadata_url, given["metadata_url"])
    hours = check(_read_whole, environ, "QUARTERDECK_SESSION_HOURS", "12", most=720, unit="hours")
    idle = check(_read_whole, environ, "QUARTERDECK_IDLE_MINUTES", "60", least=5, most=1_440, unit="minutes")
    return OidcLogin(
        **given,
        name_claim=environ.get("QUARTERDECK_OIDC_NAME_CLAIM") or "email",
        groups_claim=environ.get("QUARTERDECK_OIDC_GROUPS_CLAIM") or "groups",
        session=timedelta(hours=hours or 0),
        idle=timedelta(minutes=idle or 0),
    )


def _check_secret(secret: str) -> None:
    if len(secret) < _MIN_SECRET:
        raise InvalidInput("QUARTERDECK_COOKIE_SECRET", f"must be at least {_MIN_SECRET} random characters")
    if len(set(secret)) < _MIN_LETTERS:
        raise InvalidInput("QUARTERDECK_COOKIE_SECRET", "must be drawn at random, like: openssl rand -hex 32")


def _check_metadata_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise InvalidInput("QUARTERDECK_OIDC_METADATA_URL", "must be an https address ending in openid-configuration")


def _read_proxy(environ: Mapping[str, str], check: Callable[..., Any]) -> TrustedProxy | None:
    header, groups, addresses = (
        environ.get(f"QUARTERDECK_PROXY_{name}", "").strip() for name in ("USER_HEADER", "GROUPS_HEADER", "ADDRESSES")
    )
    if not header:
        return None
    for name, value in (("USER_HEADER", header), ("GROUPS_HEADER", groups)):
        check(_check_header, f"QUARTERDECK_PROXY_{name}", value)
    return TrustedProxy(header, groups, check(_read_networks, addresses) or ())


def _check_header(name: str, value: str) -> None:
    if not all(letter.isascii() and (letter.isalnum() or letter == "-") for letter in value):
        raise InvalidInput(name, "must be the name of an HTTP header")


def _read_networks(addresses: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        networks = tuple(ip_network(each.strip()) for each in addresses.split(",") if each.strip())
    except ValueError as error:
        raise InvalidInput("QUARTERDECK_PROXY_ADDRESSES", f"must be addresses or networks: {error}") from error
    if not networks:
        raise InvalidInput("QUARTERDECK_PROXY_ADDRESSES", "must contain the proxy's address, the only trusted one")
    return networks


def _read_origin(environ: Mapping[str, str], name: str) -> str:
    text = (environ.get(name) or "").rstrip("/")
    parts = urlsplit(text)
    if text and (
        parts.scheme not in ("http", "https") or not parts.netloc or f"{parts.scheme}://{parts.netloc}" != text
    ):
        raise InvalidInput(name, "must be an address without a path, like https://deck.example.org")
    return text.lower()


def _read_whole(environ: Mapping[str, str], name: str, default: str, *, most: int, unit: str, least: int = 1) -> int:
    text = environ.get(name) or default
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise InvalidInput(name, f"must be a whole number of {unit} from {least} to {most:,}, not {text!r}")
    return int(text)
