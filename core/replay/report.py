"""Shell: reads the last replay of a candidate, and names its questions and topics for those who may read them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.audit.settings import Family, SettingKey, get_setting, list_settings, scope_key
from core.coverage.backlog import list_backlog
from core.coverage.report import name_hidden
from core.embedding.vectors import hash_text
from core.log.retrievals import Window, list_questions
from core.replay.comparison import ReplayResult
from core.replay.kept import parse_replay
from core.replay.replaying import MOST_DISTINCT
from core.replay.shifts import GroupShift
from quarterdeck.scope import Scope
from quarterdeck.store import Store

OTHERS = "other questions"


def replay_key(candidate: str, scope: Scope) -> SettingKey:
    """Return the name of the setting that keeps the last replay of a candidate. Raises InvalidInput for a long name."""
    return scope_key(Family.REPLAY, scope, candidate)


def find_replay(store: Store, candidate: str, scope: Scope) -> ReplayResult | None:
    """Return the last replay of a candidate for a scope, its questions as hashes; None before the first."""
    stored, _ = get_setting(store, replay_key(candidate, scope))
    return parse_replay(stored) if stored else None


def list_replays(store: Store, scope: Scope) -> tuple[ReplayResult, ...]:
    """Return the last replay of every candidate of a scope, by the candidate's name, its questions as hashes."""
    found = [parse_replay(setting.value) for setting in list_settings(store, Family.REPLAY)]
    return tuple(each for each in found if Scope(each.about.environment, each.about.service) == scope)


def show_replay(store: Store, kept: ReplayResult, *, readable: bool) -> ReplayResult:
    """Return a kept replay with its questions' texts and its topics' names, as they are now.

    A question that is no longer in the log has no text. Without `readable`, no question has, and topics are called by
    the end of their ids.
    """
    about = kept.about
    scope = Scope(about.environment, about.service)
    texts: dict[str, str] = {}
    labels: dict[str, str] = {}
    if readable:
        window = Window(about.first, about.last)
        asked = list_questions(store, window, limit=MOST_DISTINCT, scope=scope)
        texts = {hash_text(query.text).hex(): query.text for query in asked}
        models = dict.fromkeys((about.live_model, about.candidate_model))  # topics are carried to another model
        labels = {topic.topic_id: topic.label for model in models for topic in list_backlog(store, model, scope)}
    return replace(
        kept,
        topics=_label(kept.topics, labels),
        answers=replace(kept.answers, topics=_label(kept.answers.topics, labels)) if kept.answers else None,
        changed=tuple(replace(each, text=texts.get(each.text, "")) for each in kept.changed),
    )


def _label(topics: Sequence[GroupShift], labels: Mapping[str, str]) -> tuple[GroupShift, ...]:
    return tuple(
        replace(each, label=labels.get(each.name) or name_hidden(each.name) if each.name else OTHERS) for each in topics
    )
