"""Gateway to the saved views that name somebody: they are forgotten when a user or a session is erased."""

import json
from collections.abc import Collection, Iterator

from sqlalchemy import Connection, select, update

from core.audit.settings import Family
from core.log.subjects import DataSubject, Traces
from core.log.values import normalize_query
from quarterdeck.schema import settings
from quarterdeck.store import Store


def count_views(store: Store, subject: DataSubject, traces: Traces, texts: Collection[str]) -> int:
    """Return how many saved views filter by this user or session, by one of its questions, or by one of these texts.

    `texts` are normalized.
    """
    with store.read() as connection:
        return sum(len(views) - len(kept) for _, views, kept in _list(connection, subject, traces, texts))


def forget_views(connection: Connection, subject: DataSubject, traces: Traces, texts: Collection[str]) -> None:
    """Delete these views, in an open transaction; their environment's views become a new version."""
    for name, views, kept in _list(connection, subject, traces, texts):
        if len(kept) < len(views):
            values = {"value": json.dumps(kept), "version": settings.c.version + 1}
            connection.execute(update(settings).where(settings.c.name == name).values(values))


def _list(
    connection: Connection, subject: DataSubject, traces: Traces, texts: Collection[str]
) -> Iterator[tuple[str, list[object], list[object]]]:
    """Yield the name of each environment's setting, its views, and those that stay."""
    ids, own = {name for _, name in traces.retrieval_ids}, set(texts)
    query = select(settings.c.name, settings.c.value).where(settings.c.name.startswith(Family.VIEWS, autoescape=True))
    for name, value in connection.execute(query).all():
        views = json.loads(value) or []
        yield (
            name,
            views,
            [view for view in views if not any(_names(pair[0], pair[1], subject, ids, own) for pair in view[1])],
        )


def _names(name: str, value: str, subject: DataSubject, ids: set[str], texts: set[str]) -> bool:
    match name:
        case "user" | "session":
            return value == subject.id
        case "attribute":
            return value.partition("=")[2] == subject.id
        case "id":
            return value in ids
        case "text":
            return normalize_query(value) in texts
    return False
