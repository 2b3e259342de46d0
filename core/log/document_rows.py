"""Gateway to the documents rollup in SQLite or PostgreSQL, row by row; `documents.py` adds it up."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from quarterdeck.clock import DAY_MS
from quarterdeck.schema import DOCUMENT_SUMS, document_days
from quarterdeck.store import fetch_many


def sum_documents(
    connection: Connection, within: ColumnElement[bool], start_ms: int, end_ms: int, *, is_one: bool = False
) -> Sequence[Sequence[Any]]:
    """Return each document of some scopes and whole UTC days, the start of the last day on which it was found, and its
    sums; `is_one` says that it is one scope.
    """
    c = document_days.c
    is_single = is_one and end_ms == start_ms + DAY_MS
    sums = [c[name] if is_single else func.sum(c[name]) for name in DOCUMENT_SUMS]
    last_ms = c.day_ms if is_single else func.max(c.day_ms)
    query = select(c.document, last_ms, *sums).where(within, c.day_ms >= start_ms, c.day_ms < end_ms)
    if not is_single:
        query = query.group_by(c.document)
    return list(fetch_many(connection, query.order_by(c.document)))
