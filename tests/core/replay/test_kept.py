"""A replay is kept without what users asked, and shown with it to those who may read it."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from core.audit.acts import Act
from core.audit.trail import AuditFilter, list_audit
from core.embedding.vectors import hash_text
from core.log.values import AskedQuery
from core.replay.answering import AnswerOutcome, AnswerRun, compare_answers
from core.replay.comparison import FoundPassage, HitLists, ReplayOf, ReplayResult, SideCost, compare_hits
from core.replay.kept import parse_replay, write_replay
from core.replay.operations import save_replay
from core.replay.report import find_replay, show_replay
from core.replay.sampling import DrawnQuestion, draw_questions
from core.replay.watching import WatchedVerdict
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


def test_a_replay_with_answers_costs_and_verdicts_is_read_back_and_so_is_one_of_before():
    sides = [[AnswerOutcome(0, False, value, 0.5, 0.1, 20.0)] for value in (1.0, 0.5)]
    question = DrawnQuestion("how do I?", "t-1", 1, 1.0, 1.0, 0.5)
    answers = compare_answers(AnswerRun("v2", "v3", "m", "j"), {0: question}, *sides, labels={"t-1": "pumps"})
    watched = WatchedVerdict("mean score", "stable", "drifting", "drifting", "stable", 3)
    found = replace(make_replay(), costs=(SideCost(0.1), SideCost(0.2, 3.0)), answers=answers, watched=(watched,))
    read = parse_replay(json.loads(json.dumps(write_replay(found))))
    assert read == replace(found, answers=replace(answers, by_place={}))
    former = {
        name: value
        for name, value in write_replay(make_replay()).items()
        if name not in ("costs", "answers", "watched")
    }
    former["about"] = {name: value for name, value in former["about"].items() if name not in ("changes", "kinds")}
    former["changed"] = [
        {name: value for name, value in each.items() if not name.endswith("faithfulness")} for each in former["changed"]
    ]
    assert parse_replay(json.loads(json.dumps(former))) == make_replay()
