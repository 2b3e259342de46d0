"""Gateway to the questions that somebody took out of a topic: by the hash of their text, which no row holds."""

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, delete, func, insert, select

from core.coverage.backlog import list_topic_ids
from core.embedding.vectors import hash_text
from core.errors import NotFound
from quarterdeck.schema import topic_exclusions
from quarterdeck.store import Store

_SLICE = 500


def list_exclusions(store: Store, topic_ids: Collection[str]) -> dict[str, frozenset[bytes]]:
    """Return the hashes of the texts that were taken out of these topics, by topic. Raises SourceUnavailable."""
    wanted, found = sorted(topic_ids), dict[str, set[bytes]]()
    c = topic_exclusions.c
    with store.read() as connection:
        for start in range(0, len(wanted), _SLICE):
            part = wanted[start : start + _SLICE]
            for topic_id, key in connection.execute(select(c.topic_id, c.query_hash).where(c.topic_id.in_(part))):
                found.setdefault(topic_id, set()).add(bytes(key))
    return {topic_id: frozenset(keys) for topic_id, keys in found.items()}


def save_exclusion(connection: Connection, topic_id: str, text: str, *, actor: str, at_ms: int) -> None:
    """Take a text out of a topic; doing it again changes nothing."""
    c, key = topic_exclusions.c, hash_text(text)
    known = select(func.count()).where(c.topic_id == topic_id, c.query_hash == key)
    if not connection.scalar(known):
        row = {"topic_id": topic_id, "query_hash": key, "excluded_ms": at_ms, "excluded_by": actor}
        connection.execute(insert(topic_exclusions).values(row))


def remove_exclusion(connection: Connection, topic_id: str, text: str) -> None:
    """Let a text be grouped into a topic again. Raises NotFound where it was not taken out."""
    c = topic_exclusions.c
    same = (c.topic_id == topic_id, c.query_hash == hash_text(text))
    if connection.execute(delete(topic_exclusions).where(*same)).rowcount == 0:
        raise NotFound(f"topic: this question was not taken out of {topic_id}")


def check_topic(store: Store, topic_id: str) -> None:
    """Raise NotFound unless the topic was ever seen."""
    if topic_id not in list_topic_ids(store):
        raise NotFound(f"topic: there is no topic {topic_id!r} in the backlog")


def count_exclusions(store: Store, texts: Iterable[str]) -> int:
    """Return how many times these texts were taken out of a topic."""
    with store.read() as connection:
        query = select(func.count()).select_from(topic_exclusions)
        return sum(
            int(connection.scalar(query.where(topic_exclusions.c.query_hash.in_(part))) or 0) for part in _slices(texts)
        )


def forget_exclusions(connection: Connection, texts: Iterable[str]) -> None:
    """Delete what is known of these texts, in an open transaction."""
    for part in _slices(texts):
        connection.execute(delete(topic_exclusions).where(topic_exclusions.c.query_hash.in_(part)))


def _slices(texts: Iterable[str]) -> list[list[bytes]]:
    hashes = sorted({hash_text(text) for text in texts})
    return [hashes[start : start + _SLICE] for start in range(0, len(hashes), _SLICE)]
