"""Gateway to the mail server (SMTP): hands one message over, with TLS where the server offers it."""

import logging
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from core.access.identity import is_loopback
from core.errors import InvalidInput, SourceUnavailable

logger = logging.getLogger("quarterdeck")

TIMEOUT_S = 20.0
_PORTS = {"smtp": 25, "smtps": 465}


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mails are handed over. With `is_tls` the connection is encrypted from its first byte."""

    host: str
    port: int
    is_tls: bool
    user: str = ""
    password: str = field(default="", repr=False)


def read_server(url: str) -> MailServer:
    """Return the server in an address like `smtp://user:password@mail.example.org:587`. Raises InvalidInput."""
    problem = InvalidInput("QUARTERDECK_DIGEST_SMTP", "must be an address like smtp://mail.example.org:587")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise problem from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise problem
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return MailServer(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "smtps", user, password)


def send_mail(server: MailServer, mail: EmailMessage) -> None:
    """Hand a mail over to the server. Recipients that it refuses are named in the log, once the others have the mail.

    Raises SourceUnavailable, without the password. A password is sent over TLS only, but for a server on this machine.
    """
    where = f"the mail server {server.host}:{server.port}"
    context = ssl.create_default_context()
    is_taken, refused = False, {}
    try:
        opened = (
            smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=context)
            if server.is_tls
            else smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
        )
        with opened as connection:
            connection.ehlo()
            is_safe = server.is_tls or is_loopback(server.host)
            if not server.is_tls and connection.has_extn("starttls"):
                connection.starttls(context=context)
                connection.ehlo()
                is_safe = True
            if server.user and not is_safe:
                raise SourceUnavailable(f"{where} offers no TLS, and a password is not sent without it")
            if server.user:
                connection.login(server.user, server.password)
            refused = connection.send_message(mail)
            is_taken = True
    except (OSError, smtplib.SMTPException, ValueError) as error:
        if not is_taken:
            raise SourceUnavailable(f"{where} did not take the mail: {_say(error)}") from error
    if refused:  # the others have it: sending it again would reach them twice
        logger.warning("%s refused the mail for %s", where, ", ".join(sorted(refused)))


def _say(error: Exception) -> str:
    """Return an error on one line; what a server answered is cut short."""
    told = " ".join(str(error).split())
    return told[:200] or type(error).__name__
