"""What all handlers of the HTTP API share, opened at first use: configuration, store, flags, and access control."""

import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from anyio import to_thread
from starlette.requests import Request

from app.http.batching import forget_batchers
from app.http.refusals import RequestRefused
from app.http.streams import forget_streams
from core.access.scopes import Token, TokenScope, decide_access, hash_secret
from core.access.tickets import find_token
from core.access.tokens import list_tokens
from core.audit.environments import list_environments, settle_environment
from core.config import Config, load_config
from core.errors import NotFound, SourceUnavailable
from core.safety.meters import Meter
from quarterdeck.client import Quarterdeck
from quarterdeck.scope import DEFAULT_SERVICE, fold_environment
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck")
security = logging.getLogger("quarterdeck.security")

TOKENS_KNOWN_FOR_S = 1.0
_CREDENTIALS = (b"authorization", b"x-api-key")
_POLL_S, _POLL_SQLITE_S = 1.0, 0.2  # between two looks for newer flags; PostgreSQL announces them as well
TOLD_PER_MINUTE = 60  # lines about refused requests in the log


def get_config() -> Config:
    """Return the configuration that the server was started with."""
    return _backends.open().config


def get_store() -> Store:
    """Return the shared store, which is created if there is none."""
    return _backends.open().store


async def get_deck(environment: str, service: str = DEFAULT_SERVICE) -> Quarterdeck:
    """Return the client that evaluates an environment's flags from memory, and reports its users for a service.

    Raises NotFound for an unknown environment, and SourceUnavailable until its flags were read once.
    """
    known = _backends.open().decks.get((environment, service))
    deck = known if known is not None else await to_thread.run_sync(_backends.open_deck, environment, service)
    if deck.snapshot.version < 0:
        raise SourceUnavailable(f"The flags of {environment} cannot be read yet. Is the store there?")
    return deck


async def admit(request: Request, scope: TokenScope, *, environment: str | None = None) -> str:
    """Return the environment whose flags the request may ask for. Raises RequestRefused with 401 or 403.

    A token belongs to one environment; where none is needed, the request may name any environment.
    """
    token = await identify(request, scope)
    if token is None:
        return environment or get_config().environment
    if environment is not None and fold_environment(environment) != fold_environment(token.environment):
        raise RequestRefused(403, f"environment: the token {token.name!r} is for {token.environment} alone")
    return token.environment


async def admit_service(request: Request, scope: TokenScope) -> tuple[str, str]:
    """Return whose flags a request evaluates, and the service that its users are reported for: the token's only one."""
    token = await identify(request, scope)
    if token is None:
        return get_config().environment, DEFAULT_SERVICE
    return token.environment, token.services[0] if len(token.services) == 1 else DEFAULT_SERVICE


async def identify(request: Request, scope: TokenScope) -> Token | None:
    """Return the request's token, None where none is needed. Raises RequestRefused with 401 or 403."""
    headers = reversed(request.scope["headers"])  # of several with one name, the first counts
    found = {name.decode(): value.decode("latin-1") for name, value in headers if name in _CREDENTIALS}
    return await identify_headers(found, scope)


async def identify_headers(headers: Mapping[str, str], scope: TokenScope) -> Token | None:
    """Return the token in headers with names in lower case, as `identify` does."""
    return await _backends.open().guard.admit(headers, scope)


async def admit_token(secret: str, scope: TokenScope) -> Token | None:
    """Return the token that a request brought elsewhere than in its headers, as `identify` does."""
    return await identify_headers({"x-api-key": secret}, scope)


async def identify_ticket(ticket: str, scope: TokenScope) -> Token:
    """Return the token that the ticket of an event stream stands for. Raises RequestRefused with 401 or 403."""
    return await _backends.open().guard.admit_ticket(ticket, scope)


async def holds(scope: TokenScope, digest: str | None) -> bool:
    """Return whether the token of this digest, None for no token, would still be admitted. Never raises."""
    return await _backends.open().guard.holds(digest, scope)


def close() -> None:
    """Close everything; the next request opens it again."""
    _backends.close()


class TokenGuard:
    """Caches the store's tokens, at most a second old, and admits requests without querying the store for each.

    Without any token in the store, everybody is admitted unless tokens are `always` required; an invalid token is
    refused even then.
    """

    def __init__(self, store: Store, *, always: bool, per_minute: int) -> None:
        self._store = store
        self._always = always
        self._tokens: Mapping[str, Token] | None = None
        self._due = 0.0
        self._meter = Meter(per_minute)
        self._told = Meter(TOLD_PER_MINUTE)
        self._used: set[tuple[str, int]] = set()

    async def admit(self, headers: Mapping[str, str], scope: TokenScope) -> Token | None:
        """Return the request's token, or None where none is needed. Raises RequestRefused."""
        tokens = await self._know_tokens()
        brought = _read_secrets(headers)
        if not brought and not tokens and not self._always:
            return None
        token = None
        for secret in brought or (None,):
            token = tokens.get(hash_secret(secret)) if secret is not None else None
            self._check(token, scope, given=secret is not None)
        if token is not None:
            self._note(token)
        return token

    async def admit_ticket(self, ticket: str, scope: TokenScope) -> Token:
        """Return the token that a ticket stands for. Raises RequestRefused."""
        token = find_token(ticket, (await self._know_tokens()).values())
        self._check(token, scope, given=True)
        assert token is not None  # or it was refused
        self._note(token)
        return token

    async def holds(self, digest: str | None, scope: TokenScope) -> bool:
        """Return whether a token, None for none, would be admitted now; True if that cannot be known."""
        try:
            tokens = await self._know_tokens()
        except SourceUnavailable:
            return True
        if digest is None:
            return not tokens and not self._always
        return decide_access(tokens.get(digest), scope, given=True, now=datetime.now(UTC)) is None

    def _check(self, token: Token | None, scope: TokenScope, *, given: bool) -> None:
        denial = decide_access(token, scope, given=given, now=datetime.now(UTC))
        if denial is not None:
            if not self._told.take(denial.known, now_s=time.monotonic()):
                security.warning("a request was refused: %s", denial.reason)
            raise RequestRefused(403 if denial.known else 401, denial.reason)

    def _note(self, token: Token) -> None:
        """Count a use of a token, and log the first one of an hour. Raises RequestRefused when there are too many."""
        if wait_s := self._meter.take(token.digest, now_s=time.monotonic()):
            problem = f"rate: {token.name!r} sent too many requests; try again in {math.ceil(wait_s)} s"
            raise RequestRefused(429, problem, retry_s=math.ceil(wait_s))
        hour = int(time.time()) // 3_600
        if (token.digest, hour) not in self._used:
            self._used = {(digest, at) for digest, at in self._used if at == hour} | {(token.digest, hour)}
            security.info("the token %r of %s is in use", token.name, token.environment)

    async def _know_tokens(self) -> Mapping[str, Token]:
        if self._tokens is None or time.monotonic() >= self._due:
            self._due = time.monotonic() + TOKENS_KNOWN_FOR_S  # other requests meanwhile use the cached tokens
            try:
                found = await to_thread.run_sync(list_tokens, self._store)
                self._tokens = {token.digest: token for token in found}
            except SourceUnavailable as error:
                if self._tokens is None:
                    raise
                logger.warning("the cached tokens stay in use: %s", error)
        return self._tokens


@dataclass(frozen=True, slots=True)
class _Opened:
    config: Config
    store: Store
    guard: TokenGuard
    decks: dict[tuple[str, str], Quarterdeck]


class Backends:
    """The open backends: opened at first use, and again at the first use after `close`. Thread-safe."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._changing = threading.Lock()
        self._opened: _Opened | None = None

    def open(self) -> _Opened:
        """Return the backends, opening them if needed."""
        return self._opened or self._open()

    def open_deck(self, environment: str, service: str) -> Quarterdeck:
        """Return the client of an environment and a service. Raises NotFound for an unknown environment."""
        opened = self.open()
        own = opened.config.environment
        with self._changing:
            settled = environment if environment == own else settle_environment(opened.store, environment)
            name = settled, service
            if name not in opened.decks:
                if settled != own and settled not in list_environments(opened.store, own):
                    raise NotFound(f"environment: there is no {environment!r}")
                url, log_url = opened.config.database_url, opened.config.log_url
                poll_s = _POLL_SQLITE_S if url.startswith("sqlite") else _POLL_S
                opened.decks[name] = Quarterdeck(url, log_url, environment=settled, service=service, poll_s=poll_s)
            return opened.decks[name]

    def close(self) -> None:
        """Close everything."""
        with self._changing:
            opened, self._opened = self._opened, None
        if opened:
            forget_batchers(opened.store)
            for deck in opened.decks.values():
                forget_streams(deck)
                deck.close()
            opened.store.close()

    def _open(self) -> _Opened:
        with self._changing:
            if self._opened is None:
                config = load_config(self._environ)
                store = Store(config.database_url, create=True, log_url=config.log_url)
                self._opened = _Opened(
                    config,
                    store,
                    TokenGuard(store, always=config.require_tokens, per_minute=config.token_per_minute),
                    {},
                )
            return self._opened


_backends = Backends(os.environ)  # those of this process


def _read_secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The credentials of a request: a bearer token, or what OFREP calls an API key. Of two, both must be valid.

    Other schemes of the Authorization header are ignored: they may be meant for a proxy in front of us.
    """
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    brought = bearer.strip() if scheme.lower() == "bearer" else None
    return tuple(secret for secret in (brought, headers.get("x-api-key")) if secret is not None)
