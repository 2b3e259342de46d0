"""Shell: keeps the last replay of each candidate and scope, without anything that users asked."""

from dataclasses import replace

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.settings import get_setting, save_setting
from core.embedding.vectors import hash_text
from core.replay.comparison import ReplayResult
from core.replay.kept import write_replay
from core.replay.report import replay_key
from core.replay.shifts import GroupShift
from quarterdeck.scope import Scope
from quarterdeck.store import Store


def save_replay(store: Store, found: ReplayResult, by: Act) -> int:
    """Keep a replay, replacing the last one of its candidate and scope; return the audit entry.

    Questions are kept as hashes, topics by their ids: `report.show_replay` finds their texts in the log, as long as
    they are there. So an erasure has nothing to remove here. Raises InvalidInput for a candidate whose name is too
    long, and Conflict when another process keeps one at the same time.
    """
    about = found.about
    name = replay_key(about.candidate, Scope(about.environment, about.service))
    kept = replace(
        found,
        topics=_without_labels(found.topics),
        answers=replace(found.answers, topics=_without_labels(found.answers.topics)) if found.answers else None,
        changed=tuple(replace(each, text=hash_text(each.text).hex()) for each in found.changed),
    )
    after = {
        "live": about.live, "service": about.service, "replayed": found.replayed, "overlap": round(found.overlap, 4),
        "score": found.predicted.to_audit(),
    }  # fmt: skip
    if found.answers:
        after["faithfulness"] = {
            name: round(getattr(found.answers.faithfulness, name), 5) for name in ("live", "candidate", "low", "high")
        }
    _, version = get_setting(store, name)
    with changing(store, by) as change:
        save_setting(change.connection, name, write_replay(kept), expected_version=version)
        change.record(Action.REPLAY_SAVE, about.candidate, None, after)
    return change.entry_id


def _without_labels(topics: tuple[GroupShift, ...]) -> tuple[GroupShift, ...]:
    return tuple(replace(topic, label="") for topic in topics)
