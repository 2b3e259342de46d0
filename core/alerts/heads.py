"""Shell: exports signed heads of the audit trail to a file, the log and a webhook, so that a later rewrite shows."""

import json
import logging
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from core.alerts.webhooks import post_signed
from core.audit.heads import Head, read_private_key, sign_head, write_head
from core.audit.trail import get_head
from core.errors import SourceUnavailable
from quarterdeck.store import Store

logger = logging.getLogger("quarterdeck.audit")


def export_head(
    store: Store,
    key: Path,
    file: Path,
    webhook: str,
    *,
    now: datetime,
    send: Callable[[str, dict[str, Any], str], int] = post_signed,
) -> Head:
    """Sign the present head with the key, append it to the file, log it, and send it to the webhook ("" for none).

    Raises SourceUnavailable for each of them that fails, after the others were tried; InvalidInput for a wrong key.
    """
    head = sign_head(get_head(store, now=now), read_private_key(_read(key)))
    line = write_head(head)
    logger.warning("audit head: %s", line)
    problems = []
    try:
        with file.open("a", encoding="utf-8") as out:
            out.write(f"{line}\n")
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        problems.append(f"{file} cannot be written: {error.strerror}")
    try:
        if webhook:
            send(webhook, json.loads(line), "")
    except SourceUnavailable as error:
        problems.append(str(error))
    if problems:
        raise SourceUnavailable(f"The head of the audit trail was not exported everywhere: {'. '.join(problems)}")
    return head


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceUnavailable(f"The key {path} cannot be read: {error.strerror}") from error
