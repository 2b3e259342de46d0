"""Shell: mails the digest of each service once a period. The server runs it as a periodic job."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta

from core.audit.settings import Family, get_setting, save_setting, scope_key
from core.digest.periods import Cadence, DigestPeriod, find_last_period
from core.errors import Conflict, QuarterdeckError
from core.log.retrievals import list_scopes_of, today_in
from quarterdeck.clock import to_ms
from quarterdeck.scope import Scope
from quarterdeck.store import Store

RETRY_AFTER = timedelta(hours=1)  # by then a server that began to send has ended or died
logger = logging.getLogger("quarterdeck")

Deliver = Callable[[], None]
Prepare = Callable[[Scope, DigestPeriod], Deliver | None]


@dataclass(frozen=True, slots=True)
class DigestSent:
    """The last day of the newest period whose digest was sent, or began to be sent at `began_ms`."""

    last: str
    is_sent: bool
    began_ms: int

    def is_due(self, period: DigestPeriod, *, now: datetime) -> bool:
        """Return whether the digest of a period is still to be sent."""
        if date.fromisoformat(self.last) != period.last:
            return date.fromisoformat(self.last) < period.last
        return not self.is_sent and to_ms(now) - self.began_ms >= RETRY_AFTER.total_seconds() * 1000


_NEVER = DigestSent("0001-01-01", is_sent=True, began_ms=0)


def send_digests(
    store: Store, environment: str, cadence: Cadence, prepare: Prepare, *, now: datetime
) -> tuple[str, ...]:
    """Send the digest of the last period of each service of an environment, unless it was sent; return what was done.

    `prepare` reads a digest and returns what sends it, or None where there is nothing to tell. The period is claimed in
    the store before the mail is handed over, so of several servers one sends it. After a failure, the next call tries
    again. A server that dies between the two leaves a claim that ends after an hour; if the mail had been handed over
    by then, it is sent again with the same Message-ID. Never raises.
    """
    try:
        scopes = list_scopes_of(store, environment)
    except QuarterdeckError as error:
        return (_complain("digest", error),)
    done: list[str] = []
    for scope in scopes:
        try:
            done += _send(store, scope, cadence, prepare, now=now)
        except Exception as error:
            logger.debug("digest of %s", scope.service, exc_info=error)
            done.append(_complain(f"digest of {scope.service}", error))
    return tuple(done)


def read_sent(store: Store, scope: Scope) -> tuple[DigestSent, int]:
    """Return what was sent of a scope, and the version that the next writer expects."""
    stored, version = get_setting(store, scope_key(Family.DIGEST_SENT, scope))
    return (DigestSent(**stored) if stored else _NEVER), version


def _send(store: Store, scope: Scope, cadence: Cadence, prepare: Prepare, *, now: datetime) -> list[str]:
    period = find_last_period(cadence, today=today_in(store, scope, now=now))
    before, version = read_sent(store, scope)
    if not before.is_due(period, now=now):
        return []
    deliver = prepare(scope, period)
    claim = DigestSent(period.last.isoformat(), is_sent=deliver is None, began_ms=to_ms(now))
    if not _save(store, scope, claim, version) or deliver is None:
        return []
    try:
        deliver()
    except BaseException:
        _save(store, scope, before, version + 1)  # nobody was told
        raise
    _save(store, scope, DigestSent(claim.last, is_sent=True, began_ms=claim.began_ms), version + 1)
    return [f"digest of {scope.service}: sent for {period}"]


def _save(store: Store, scope: Scope, told: DigestSent, version: int) -> bool:
    try:
        with store.begin() as connection:
            save_setting(connection, scope_key(Family.DIGEST_SENT, scope), asdict(told), expected_version=version)
    except Conflict:
        return False
    return True


def _complain(what: str, error: Exception) -> str:
    kind = "" if isinstance(error, QuarterdeckError) else f"{type(error).__name__}: "
    line = f"{what} was not sent: {kind}{' '.join(str(error).split())}"
    logger.warning("%s", line)
    return line
