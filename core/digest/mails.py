"""Rule: a digest as an e-mail (RFC 5322): plain text with HTML as the alternative."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from core.digest.rendering import render_html, render_text
from core.digest.sections import Digest
from core.errors import InvalidInput


def compose_mail(digest: Digest, *, sender: str, recipients: Sequence[str], at: datetime, base: str) -> EmailMessage:
    """Return the mail. The same digest has the same Message-ID, so that one sent twice is recognized.

    Without `base`, the deck's address for browsers, it has no links. Raises InvalidInput for invalid addresses.
    """
    told = digest if base else digest.without_links()
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = " ".join(digest.title.split())
    mail["From"] = read_address(sender)
    if recipients:
        mail["To"] = tuple(read_address(each) for each in recipients)
    mail["Date"] = at
    name = "\n".join([*digest.scope, str(digest.period), *recipients])
    mail["Message-ID"] = f"<{hashlib.sha256(name.encode()).hexdigest()[:32]}@{read_address(sender).domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(render_text(told, base=base), cte="quoted-printable")
    mail.add_alternative(render_html(told, base=base), subtype="html", cte="quoted-printable")
    return mail


def read_address(text: str) -> Address:
    """Return a mail address such as `team@example.org`. Raises InvalidInput.

    >>> read_address("team@example.org").domain
    'example.org'
    """
    try:
        found = Address(addr_spec=text)
    except (ValueError, IndexError, MessageError) as error:
        raise InvalidInput("address", f"must be a mail address like team@example.org, not {text[:80]!r}") from error
    if not found.username or not found.domain or not text.isprintable() or " " in text:
        raise InvalidInput("address", f"must be a mail address like team@example.org, not {text[:80]!r}")
    return found
