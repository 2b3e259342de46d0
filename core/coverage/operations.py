"""Shell: decides about topics on the backlog, each decision with its audit entry."""

from dataclasses import replace

from core.audit.actions import Action
from core.audit.acts import MAX_TEXT, Act, changing
from core.coverage.backlog import BacklogTopic, TopicDecision, TopicName, TopicState, save_decision, save_label
from core.coverage.labels import LONGEST_TITLE
from core.errors import InvalidInput
from quarterdeck.scope import fold_environment
from quarterdeck.store import Store


def mark_topic(
    store: Store, topic: BacklogTopic, state: TopicState, by: Act, *, owner: str = "", note: str = ""
) -> int:
    """Record the decision about a topic, with optimistic locking, in the topic's environment.

    Raises InvalidInput and Conflict.
    """
    for name, value in (("owner", owner), ("note", note)):
        if len(value) > MAX_TEXT or "\x00" in value:
            raise InvalidInput(name, f"must be at most {MAX_TEXT:,} characters, without null characters")
    by = _in_environment(by, topic)
    before = TopicDecision(topic.state, topic.owner, topic.note)
    with changing(store, by) as change:
        save_decision(change.connection, topic, state, owner=owner.strip(), note=note.strip())
        after = TopicDecision(state, owner.strip(), note.strip(), topic.label)
        change.record(Action.TOPIC_MARK, topic.topic_id, before, after)
    return change.entry_id


def rename_topic(store: Store, topic: BacklogTopic, label: str, by: Act) -> int:
    """Record what people call a topic, which it keeps, with optimistic locking, in the topic's environment.

    Raises InvalidInput and Conflict.
    """
    name = " ".join(label.split())
    if not name or len(name) > LONGEST_TITLE or "\x00" in name:
        raise InvalidInput("label", f"must have 1 to {LONGEST_TITLE} characters, without null characters")
    with changing(store, _in_environment(by, topic)) as change:
        save_label(change.connection, topic, name)
        change.record(Action.TOPIC_RENAME, topic.topic_id, TopicName(topic.label), TopicName(name))
    return change.entry_id


def _in_environment(by: Act, topic: BacklogTopic) -> Act:
    """Return the act in the environment of the topic that it is about."""
    same = fold_environment(by.environment) == topic.scope.environment
    return by if same else replace(by, environment=topic.scope.environment)
