"""Shell: decides about topics on the backlog and what is in them, each decision with its audit entry."""

from dataclasses import replace

from core.audit.actions import Action
from core.audit.acts import MAX_TEXT, Act, changing
from core.coverage.backlog import BacklogTopic, TopicDecision, TopicName, TopicState, save_decision, save_label
from core.coverage.exclusions import check_topic, remove_exclusion, save_exclusion
from core.coverage.labels import LONGEST_TITLE
from core.errors import InvalidInput
from core.log.filters import LoggedQuestion
from core.safety.letters import check_letters
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
        check_letters(value, name)
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
    check_letters(name, "label")
    with changing(store, _in_environment(by, topic)) as change:
        save_label(change.connection, topic, name)
        change.record(Action.TOPIC_RENAME, topic.topic_id, TopicName(topic.label), TopicName(name))
    return change.entry_id


def exclude_question(store: Store, topic_id: str, question: LoggedQuestion, by: Act) -> int:
    """Take the text of a question out of a topic, in the question's environment; return the audit entry.

    It stays out in the next groupings, in every spelling. The trail names the question by its id, not by its text.
    Raises NotFound for a topic that was never seen, InvalidInput for a question whose text was removed.
    """
    if not question.query:
        raise InvalidInput("question", "its text was removed: it is in no topic")
    check_topic(store, topic_id)
    with changing(store, replace(by, environment=question.environment)) as change:
        save_exclusion(change.connection, topic_id, question.query, actor=by.actor, at_ms=change.at_ms)
        change.record(Action.TOPIC_EXCLUDE, topic_id, None, {"question": question.retrieval_id})
    return change.entry_id


def include_question(store: Store, topic_id: str, question: LoggedQuestion, by: Act) -> int:
    """Let a question that was taken out of a topic be grouped into it again; return the audit entry.

    Raises NotFound where it was not taken out.
    """
    with changing(store, replace(by, environment=question.environment)) as change:
        remove_exclusion(change.connection, topic_id, question.query)
        change.record(Action.TOPIC_INCLUDE, topic_id, {"question": question.retrieval_id}, None)
    return change.entry_id


def _in_environment(by: Act, topic: BacklogTopic) -> Act:
    """Return the act in the environment of the topic that it is about."""
    same = fold_environment(by.environment) == topic.scope.environment
    return by if same else replace(by, environment=topic.scope.environment)
