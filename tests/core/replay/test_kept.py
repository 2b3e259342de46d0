"""A replay is kept without what users asked, and shown with it to those who may read it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.embedding.vectors import hash_text
from core.log.values import AskedQuery
from core.replay.comparison import FoundPassage, HitLists, ReplayOf, ReplayResult, compare_hits
from core.replay.operations import save_replay
from core.replay.report import find_replay, show_replay
from core.replay.sampling import draw_questions
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import settings
from quarterdeck.scope import Scope
from quarterdeck.store import Store

NOW = datetime.now(UTC)
SCOPE = Scope("production", "chat")
ME = Act("ada", "what would it change?")
TEXT = "how do I reset my pump"


def make_replay() -> ReplayResult:
    day = NOW.date()
    about = ReplayOf(
        "docs-v1", "docs-v2", "m", "m", "production", "chat", day - timedelta(days=6), day, 2, 3, 0.5, 5, 0
    )
    drawn = draw_questions([AskedQuery(TEXT, 2, 0.4), AskedQuery("erased since", 1, 0.5)], {TEXT: "t-0123456789"},
                           size=10, seed=0)  # fmt: skip
    hits = [HitLists((FoundPassage("a.md", "s", 0.4),), (FoundPassage("b.md", "", 0.9),), 0.0, 0.0)] * 2
    return compare_hits(about, drawn, hits, labels={"t-0123456789": "reset pump"}, segments={("arm", "blue"): {0: 1.0}})


def test_what_is_kept_holds_no_question_and_is_shown_to_those_who_may_read(store: Store) -> None:
    found = make_replay()
    append_retrievals(store, [Retrieval(NOW - timedelta(hours=1), TEXT, 0.4, scope=SCOPE)])
    assert find_replay(store, "docs-v2", SCOPE) is None
    save_replay(store, found, ME)
    entry = save_replay(store, found, ME)
    with store.read() as connection:
        stored = " ".join(map(str, connection.execute(select(settings.c.value)).scalars()))
    assert "pump" not in stored
    kept = find_replay(store, "docs-v2", SCOPE)
    assert kept
    assert kept == replace(
        found,
        topics=tuple(replace(topic, label="") for topic in found.topics),
        changed=tuple(replace(each, text=hash_text(each.text).hex()) for each in found.changed),
    )
    assert [each.text for each in show_replay(store, kept, readable=True).changed] == [TEXT, ""]
    hidden = show_replay(store, kept, readable=False)
    assert [each.text for each in hidden.changed] == ["", ""]
    assert sorted(each.label for each in hidden.topics) == ["Topic 6789", "other questions"]
    assert find_replay(store, "docs-v2", Scope("production", "other")) is None
    assert list_audit(store, AuditFilter(target="docs-v2"), limit=1)[0].entry_id == entry
