"""Shell: decides about topics on the backlog, each decision with its audit entry."""

from dataclasses import replace

from core.audit.actions import Action
from core.audit.acts import MAX_TEXT, Act, changing
from core.coverage.backlog import BacklogTopic, TopicDecision, TopicState, save_decision
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
    if fold_environment(by.environment) != topic.scope.environment:
        by = replace(by, environment=topic.scope.environment)
    before = TopicDecision(topic.state, topic.owner, topic.note)
    with changing(store, by) as change:
        save_decision(change.connection, topic, state, owner=owner.strip(), note=note.strip())
        after = TopicDecision(state, owner.strip(), note.strip(), topic.label)
        change.record(Action.TOPIC_MARK, topic.topic_id, before, after)
    return change.entry_id
