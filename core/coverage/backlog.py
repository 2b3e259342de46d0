"""Gateway to the backlog of gaps: which topics were ever seen, and what was decided about each.

Sightings are observations and are recorded as they come; decisions go through `core.coverage.operations`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from core.audit.actions import Action
from core.audit.settings import save_versioned
from core.audit.trail import AuditFilter, list_audit
from core.coverage.labels import titles_of
from core.coverage.topics import KnownTopic, Topic
from core.errors import NotFound
from quarterdeck.clock import from_ms
from quarterdeck.registry import registry_of
from quarterdeck.schema import scopes, topics
from quarterdeck.scope import DEFAULT_SCOPE, Scope
from quarterdeck.store import Store

_MOST_DECISIONS = 5_000


class TopicState(StrEnum):
    """What was decided about a topic; one that is open is a gap."""

    OPEN = "open"
    PLANNED = "planned"
    INDEXED = "indexed"
    WONT_DO = "won't do"


@dataclass(frozen=True, slots=True)
class TopicDecision:
    """What was decided about a gap, as the audit trail keeps it; `label` is what the gap was called then."""

    state: TopicState
    owner: str = ""
    note: str = ""
    label: str = ""

    def to_audit(self) -> dict[str, Any]:
        """Return the decision as JSON knows it."""
        told = {"state": str(self.state), "owner": self.owner, "note": self.note}
        return told | ({"label": self.label} if self.label else {})

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "TopicDecision | None":
        """Return the decision that `to_audit` wrote; None where nothing was decided."""
        if not told:
            return None
        texts = (str(told.get(name) or "") for name in ("owner", "note", "label"))
        return cls(TopicState(told["state"]), *texts)


@dataclass(frozen=True, slots=True)
class TopicName:
    """What a topic is called, as the audit trail keeps it."""

    label: str

    def to_audit(self) -> dict[str, Any]:
        """Return the name as JSON knows it."""
        return {"label": self.label}

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "TopicName | None":
        """Return the name that `to_audit` wrote; None where there is none."""
        return cls(str(told["label"])) if told and "label" in told else None


@dataclass(frozen=True, slots=True)
class BacklogTopic:
    """A topic on the backlog of a scope: when it was first and last seen, and what was decided.

    `centroid` has length 1.
    """

    topic_id: str
    label: str
    centroid: tuple[float, ...]
    first_seen: datetime
    last_seen: datetime
    state: TopicState
    owner: str
    note: str
    version: int
    scope: Scope = DEFAULT_SCOPE

    @property
    def known(self) -> KnownTopic:
        """What the rule needs to recognize the topic in a later run."""
        return KnownTopic(self.topic_id, self.centroid, self.label)


def list_backlog(store: Store, model: str, scope: Scope = DEFAULT_SCOPE) -> tuple[BacklogTopic, ...]:
    """Return every topic of a scope that was seen with this embedding model, the latest first."""
    order = (topics.c.last_seen_ms.desc(), topics.c.topic_id)
    with store.read() as connection:
        rows = connection.execute(_TOPICS.where(topics.c.model == model, *_within(scope)).order_by(*order))
        return tuple(_topic(row) for row in rows.mappings())


def find_former_models(store: Store, model: str, scope: Scope = DEFAULT_SCOPE, *, since_ms: int) -> tuple[str, ...]:
    """Return the other embedding models by which topics of a scope were last seen since then, the latest first."""
    with store.read() as connection:
        query = select(topics.c.model).join(scopes, scopes.c.id == topics.c.scope_id)
        latest = query.where(topics.c.model != model, topics.c.last_seen_ms >= since_ms, *_within(scope))
        order = func.max(topics.c.last_seen_ms).desc()
        return tuple(connection.scalars(latest.group_by(topics.c.model).order_by(order, topics.c.model)))


def save_centers(store: Store, centers: Mapping[str, Sequence[float]], *, former: str, model: str) -> None:
    """Give topics of the model `former` their centers under another one; ids, names and decisions stay as they are."""
    with store.begin() as connection:
        for topic_id, center in centers.items():
            values = {"model": model, "centroid": np.asarray(center, dtype=np.float32).tobytes()}
            own = (topics.c.topic_id == topic_id, topics.c.model == former)
            connection.execute(update(topics).where(*own).values(values))


def list_decision_times(store: Store, scope: Scope = DEFAULT_SCOPE) -> dict[str, datetime]:
    """Return when each topic of an environment was last decided about, by topic id, from the audit trail."""
    entries = list_audit(
        store, AuditFilter(action=Action.TOPIC_MARK, environment=scope.environment), limit=_MOST_DECISIONS
    )
    return {entry.target: entry.ts for entry in reversed(entries)}


def sum_versions(store: Store) -> int:
    """Return a number that grows with every decision about a topic of any scope, and with every new name."""
    with store.read() as connection:
        return int(connection.scalar(select(func.sum(topics.c.version))) or 0)


def list_topic_ids(store: Store) -> frozenset[str]:
    """Return the ids of all topics, of every scope and model: a new topic takes none of them."""
    with store.read() as connection:
        return frozenset(connection.scalars(select(topics.c.topic_id)))


def list_topic_ids_in(store: Store, state: TopicState) -> frozenset[str]:
    """Return the ids of the topics in a state, of every scope and model."""
    with store.read() as connection:
        return frozenset(connection.scalars(select(topics.c.topic_id).where(topics.c.state == str(state))))


def get_backlog_topic(store: Store, topic_id: str) -> BacklogTopic:
    """Return one topic. Raises NotFound."""
    with store.read() as connection:
        row = connection.execute(_TOPICS.where(topics.c.topic_id == topic_id)).mappings().first()
    if row is None:
        raise NotFound(f"topic: there is no topic {topic_id!r} in the backlog")
    return _topic(row)


def record_sightings(
    store: Store, seen: Iterable[Topic], model: str, *, at_ms: int, scope: Scope = DEFAULT_SCOPE
) -> None:
    """Record the topics of a run: new ones as open; for known ones, update centroid and time.

    A topic keeps its first label, unless that was forgotten.
    """
    with store.begin() as connection:
        scope_id = registry_of(store).lend().find_ids(connection, [scope])[scope]
        owned = select(topics.c.topic_id, topics.c.label).where(topics.c.scope_id == scope_id)
        labels = {row.topic_id: row.label for row in connection.execute(owned)}
        for topic in seen:
            values = {
                "label": labels.get(topic.topic_id) or topic.label,
                "centroid": np.asarray(topic.centroid, dtype=np.float32).tobytes(),
                "last_seen_ms": at_ms,
            }
            if topic.topic_id in labels:
                connection.execute(update(topics).where(topics.c.topic_id == topic.topic_id).values(values))
            else:
                fresh = {
                    "model": model,
                    "first_seen_ms": at_ms,
                    "state": "open",
                    "owner": "",
                    "note": "",
                    "version": 1,
                    "scope_id": scope_id,
                }
                connection.execute(insert(topics).values(topic_id=topic.topic_id, **values, **fresh))


def save_decision(connection: Connection, topic: BacklogTopic, state: TopicState, *, owner: str, note: str) -> None:
    """Save a decision about a topic with optimistic locking. Raises Conflict if it was changed since the read."""
    values = {"state": str(state), "owner": owner, "note": note}
    save_versioned(connection, topics, {"topic_id": topic.topic_id}, values, expected_version=topic.version)


def save_label(connection: Connection, topic: BacklogTopic, label: str) -> None:
    """Save what a topic is called with optimistic locking. Raises Conflict if it was changed since the read."""
    identity = {"topic_id": topic.topic_id}
    save_versioned(connection, topics, identity, {"label": label}, expected_version=topic.version)


def count_named_after(store: Store, texts: Collection[str]) -> int:
    """Return how many topics have one of these normalized texts as their label."""
    with store.read() as connection:
        return len(_find_named_after(connection, texts))


def forget_labels(connection: Connection, texts: Collection[str]) -> None:
    """Empty the labels that are one of these normalized texts, in an open transaction; the next run names them anew."""
    for topic_id in _find_named_after(connection, texts):
        connection.execute(update(topics).where(topics.c.topic_id == topic_id).values(label=""))


def _find_named_after(connection: Connection, texts: Collection[str]) -> list[str]:
    titles = {title.casefold() for text in texts for title in titles_of(text)} - {""}
    rows = connection.execute(select(topics.c.topic_id, topics.c.label)) if titles else ()
    return [row.topic_id for row in rows if row.label.casefold() in titles]


def _topic(row: Any) -> BacklogTopic:
    return BacklogTopic(
        row["topic_id"],
        row["label"],
        tuple(float(value) for value in np.frombuffer(row["centroid"], dtype=np.float32)),
        from_ms(row["first_seen_ms"]),
        from_ms(row["last_seen_ms"]),
        TopicState(row["state"]),
        row["owner"],
        row["note"],
        row["version"],
        Scope(row["environment"], row["service"]),
    )


_TOPICS = select(topics, scopes.c.environment, scopes.c.service).join(scopes, scopes.c.id == topics.c.scope_id)


def _within(scope: Scope) -> tuple[ColumnElement[bool], ...]:
    return scopes.c.environment == scope.environment, scopes.c.service == scope.service
